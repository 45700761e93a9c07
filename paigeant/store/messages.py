"""Two roles of a store: the inbox records how messages end, the outbox lists messages that the broker may have lost."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from paigeant.events import Event
from paigeant.records.workflow import Standing
from paigeant.store.shared import Shared
from paigeant.transport import Ledger, Outgoing


class Inbox(Shared, Protocol):
    """Records each message's end once. A worker asks it before and after each step."""

    @abstractmethod
    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        """Write the events and, in the same transaction, the messages that must be published next.

        ``cause`` is the id of the message whose step ended. Returns True if exactly these ends are recorded: by this
        call, or by an earlier call whose answer got lost; the second call then writes nothing. Returns False and writes
        nothing if the message ended otherwise, or if another worker has begun it since; :meth:`successors` then returns
        what followed it.
        """

    @abstractmethod
    async def successors(self, message_id: str) -> Sequence[Outgoing] | None:
        """Return the unfinished messages that follow a finished message. Returns None if the message is unfinished."""

    @abstractmethod
    async def standing(self, message_id: str, correlation_id: str, late_after: float = math.inf) -> Standing:
        """Return whether this message may run. A worker asks this before each step.

        The message counts as late if it was due more than ``late_after`` seconds ago.
        """

    @abstractmethod
    async def knows(self, correlation_id: str) -> bool:
        """Return whether this workflow is recorded. A worker asks this before the first step of a workflow."""

    def ledger(self) -> Ledger | None:
        """Return how a transport in the same database writes history in its own transactions; None if it cannot."""
        return None


class Outbox(Shared, Protocol):
    """Messages that were recorded for publishing and are not finished yet."""

    @abstractmethod
    async def overdue(self, grace: float, queues: Collection[str] | None = None) -> Mapping[str, int]:
        """Count, for each queue, the messages that were due ``grace`` seconds ago and that no living worker holds.

        ``queues`` defaults to all queues. The answer omits queues without such messages. Each count stops at 10,000.
        """

    @abstractmethod
    async def take_overdue(self, queue: str, grace: float, limit: int) -> Sequence[Outgoing]:
        """Return some overdue messages of one queue, the oldest first, so that the caller sends them again.

        Each message goes to one of several callers. It is overdue again after ``grace`` seconds, and then after twice
        as long each time.
        """

    @abstractmethod
    async def purge(self, queue: str) -> int:
        """Delete the outbox rows of a queue that was purged. Returns how many rows were deleted.

        Messages that a living worker holds are not deleted.
        """

    @abstractmethod
    async def unpost(self, message_id: str, body: bytes) -> None:
        """Delete the row of a message that became a dead letter, so that recovery does not publish it again.

        A row with other bytes stays: the id of a message can be computed in advance, so the dead letter may be a
        stranger's message with the id of this one.
        """

    @abstractmethod
    async def postpone(self, outgoing: Outgoing) -> None:
        """Set the due time of the message with this id to its ``delay`` from now, and replace its headers.

        A worker calls this after it has delayed the message on the broker, so that the message does not count as lost
        before that time. An unknown id has no effect.
        """
