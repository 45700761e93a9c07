"""Three roles of a store that decide when a step runs: waits, locks and steering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from paigeant.decisions.limit import Lock
from paigeant.events import Cancellation, SignalReceived
from paigeant.records.workflow import Held, Steered
from paigeant.store.shared import Shared


class Waits(Shared, Protocol):
    """Messages that wait in the store for a time, a signal, a child workflow or a person."""

    @abstractmethod
    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        """Match signals with the waiting messages of the ``owner``. Returns the messages that can resume now.

        Each signal is used once. Without a ``correlation_id``, all workflows are searched and at most some hundreds of
        messages are returned. A matched message stays in the store until
        :class:`~paigeant.events.MessageResumed` is recorded.
        """

    @abstractmethod
    async def answer(self, given: SignalReceived) -> bool:
        """Record an answer to a message that waits for it now.

        Returns False if no message waits for it, or if another answer was recorded first.
        """

    @abstractmethod
    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        """Take due messages, at most some hundreds. Also returns when to look again, in epoch seconds (None: any time).

        The result includes messages that were matched a while ago and did not resume, because their taker died.
        """

    @abstractmethod
    async def held(self, correlation_id: str | None = None, key: str = "", limit: int = 100) -> Sequence[Held]:
        """List waiting messages, the oldest first. ``key`` is a prefix of their keys."""


class Locks(Shared, Protocol):
    """Locks, places and rate limits that steps acquire before they run."""

    @abstractmethod
    async def take_locks(self, wanted: Sequence[Lock], lease: float) -> str | None:
        """Acquire all locks for ``lease`` seconds or none. Returns None, or the key of the first that is not free.

        :func:`paigeant.decisions.limit.take` decides whether a lock is free. A lock that was granted to a message is
        acquired by whichever worker runs that message.
        """

    @abstractmethod
    async def renew_locks(self, kept: Collection[Lock], lease: float) -> Collection[Lock]:
        """Renew locks for ``lease`` seconds from now. Returns the locks that no other worker has taken over."""

    @abstractmethod
    async def free_locks(self, freed: Collection[Lock]) -> None:
        """Release locks that their holder still holds, or was granted. :meth:`grant_locks` grants them to others."""

    @abstractmethod
    async def grant_locks(self, lease: float, key: str | None = None) -> tuple[Sequence[Held], float | None]:
        """Grant free locks to the messages that have waited for them longest. Returns these messages.

        ``key`` restricts this to one lock. Each message has ``lease`` seconds to start. The second value is the number
        of seconds until a rate limit lets the next waiting message start, or None if no message waits for one.
        """


class Steering(Shared, Protocol):
    """Cancels, pauses and resumes workflows."""

    @abstractmethod
    async def cancel(self, correlation_id: str, cancellation: Cancellation, proof: str | None = None) -> Steered | None:
        """Cancel an open workflow and the workflows it dispatched, in one transaction. Returns None if it is unknown.

        With ``compensate``, each workflow is marked and its waiting messages become due now; its next message starts
        the compensation. Without ``compensate``, each workflow ends at once, its waiting messages are deleted, and no
        later end is recorded. ``proof`` is the signed order: it is recorded with the event of this workflow.
        """

    @abstractmethod
    async def pause(self, correlation_id: str, by: str | None = None, proof: str | None = None) -> Steered | None:
        """Start no more steps of a running workflow and of its present and future children. Returns None if unknown."""

    @abstractmethod
    async def resume(self, correlation_id: str, by: str | None = None, proof: str | None = None) -> Steered | None:
        """Resume a paused workflow and its children: their paused messages become due now. Returns None if unknown."""

    @abstractmethod
    async def cancellations(self, correlation_ids: Collection[str]) -> Mapping[str, Cancellation]:
        """Return the cancellations of those workflows that were cancelled."""
