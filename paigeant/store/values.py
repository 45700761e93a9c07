"""Roles of a store that keep data for a workflow: large values, journals, idempotency keys; and its deletion."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from paigeant.records.workflow import Family, KeyUse
from paigeant.store.shared import Shared

if TYPE_CHECKING:  # commands that only read the store start faster without these imports
    from paigeant.records.journal import Turn, Unit
    from paigeant.wire.claim_check import Kept, Parcel


class Values(Shared, Protocol):
    """Large values of workflows: a :class:`paigeant.wire.claim_check.Keeper`."""

    @abstractmethod
    async def keep(self, parcels: Sequence[Parcel]) -> None:
        """See :meth:`paigeant.wire.claim_check.Keeper.keep`."""

    @abstractmethod
    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        """See :meth:`paigeant.wire.claim_check.Keeper.fetch`."""

    @abstractmethod
    async def drop(self, workflows: Collection[str]) -> int:
        """See :meth:`paigeant.wire.claim_check.Keeper.drop`."""


class Journals(Shared, Protocol):
    """Journals of agent steps: the finished model requests and tool calls of each step."""

    @abstractmethod
    async def take_journal(self, turn: Turn) -> Sequence[Unit] | None:
        """Make this turn the only writer of its step's journal. Returns the finished units, earlier epochs included.

        Returns None if a later turn has begun.
        """

    @abstractmethod
    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        """Add a finished unit to the journal. Returns False and writes nothing if a later turn has begun."""

    @abstractmethod
    async def restart_journal(self, turn: Turn) -> bool:
        """Empty the journal. Returns False if a later turn has begun. The usage of its units stays recorded."""

    @abstractmethod
    async def forget_journal(self, correlation_id: str, step_id: str) -> None:
        """Empty the journal of a step, so that the next run of the step starts from scratch."""

    @abstractmethod
    async def units(self, correlation_id: str, step_id: str | None = None) -> Sequence[Unit]:
        """Return the finished units of a workflow or of one step, the oldest first.

        Units of emptied journals are among them.
        """


class Keys(Shared, Protocol):
    """Idempotency keys, each with the workflow that it stands for."""

    @abstractmethod
    async def take_key(self, use: KeyUse) -> KeyUse:
        """Record which workflow a key stands for, unless it is recorded. Returns that, and who sends the workflow.

        One of several callers has to send it. If that caller does not call :meth:`mark_sent` within some seconds,
        another caller has to.
        """

    @abstractmethod
    async def mark_sent(self, correlation_id: str) -> None:
        """Record that the first message of a key's workflow has reached the broker."""


class Retention(Shared, Protocol):
    """Deletes workflows that ended long ago."""

    @abstractmethod
    async def ended(
        self, before: float, statuses: Collection[str] = (), after: Family | None = None, limit: int = 100
    ) -> Sequence[Family]:
        """List families whose root ended before this time (epoch seconds), in the order in which the roots ended.

        ``statuses`` restricts the status of the root; ``after`` is the last family of the page before. A family without
        members must stay, because one of its workflows has not ended before that time or has a dead letter.
        """

    @abstractmethod
    async def forget(self, families: Sequence[Family], before: float) -> int:
        """Delete every row of these families, except of families that must stay. Returns how many workflows that were.

        The caller must call :meth:`Values.drop` on keepers of large values other than this store first.
        """
