"""Dead letters in an SQL store."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant.events import Event
from paigeant.records.workflow import ALL_LETTERS, DeadLetter, Move
from paigeant.records.workflow import Letters as Which
from paigeant.store.letters import Letters
from paigeant.stores import letters
from paigeant.stores.access import Role


class SqlLetters(Role, Letters):
    """Dead letters as rows."""

    async def dead_letters(
        self, limit: int = 100, which: Which = ALL_LETTERS, below: int | None = None
    ) -> Sequence[DeadLetter]:
        return await self.access.read(lambda reader: letters.listed(reader, which, limit, below))

    async def dead_letter(self, id: int) -> DeadLetter | None:  # noqa: A002 - the field's name
        return await self.access.read(lambda reader: letters.one(reader, id))

    async def count_dead_letters(self, which: Which = ALL_LETTERS) -> int:
        return await self.access.read(lambda reader: letters.count(reader, which))

    async def take_dead_letter(self, id: int, move: Move | None, record: Sequence[Event]) -> bool:  # noqa: A002
        write = self.access.ledger.write
        taken = await self.access.in_transaction(lambda writer, now: letters.take(writer, write, id, move, record, now))
        if taken:
            await self.access.tell(record)
        return taken

    async def edit_dead_letter(self, id: int, before: bytes, after: bytes, record: Sequence[Event]) -> bool:  # noqa: A002
        note = self.access.ledger.note
        return await self.access.in_transaction(lambda writer, _: letters.edit(writer, note, id, before, after, record))
