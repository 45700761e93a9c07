"""A role of a store: dead letters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from paigeant.events import Event
from paigeant.records.workflow import ALL_LETTERS, DeadLetter, Move
from paigeant.records.workflow import Letters as Which
from paigeant.store.shared import Shared


class Letters(Shared, Protocol):
    """Messages that were set aside, each with a reason."""

    @abstractmethod
    async def dead_letters(
        self, limit: int = 100, which: Which = ALL_LETTERS, below: int | None = None
    ) -> Sequence[DeadLetter]:
        """List dead letters, the latest first. ``below`` restricts them to smaller ids."""

    @abstractmethod
    async def dead_letter(self, id: int) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one dead letter, or None."""

    @abstractmethod
    async def count_dead_letters(self, which: Which = ALL_LETTERS) -> int:
        """Count dead letters."""

    @abstractmethod
    async def take_dead_letter(self, id: int, move: Move | None, record: Sequence[Event]) -> bool:  # noqa: A002
        """Delete a dead letter, move its workflow and record the events, in one transaction.

        Returns False and changes nothing if the letter is gone, or if the workflow no longer has the status that
        ``move`` expects.
        """

    @abstractmethod
    async def edit_dead_letter(self, id: int, before: bytes, after: bytes, record: Sequence[Event]) -> bool:  # noqa: A002
        """Replace the bytes of a dead letter. Returns False if it is gone, or if its bytes have changed."""
