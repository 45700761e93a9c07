"""Waiting messages in an SQL store."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant.events import SignalReceived
from paigeant.records.workflow import Held
from paigeant.store.control import Waits
from paigeant.stores import waiting
from paigeant.stores.access import Role


class SqlWaits(Role, Waits):
    """Waiting messages as rows. Each call reads first, because most calls find nothing and need no transaction."""

    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        # Every step that begins to wait asks this, and mostly no signal has arrived yet.
        if correlation_id is not None and not await self.access.asked_together(waiting.have_come, correlation_id):
            return ()
        database, owner = self.access.database, self.access.owner
        if not await self.access.read(lambda reader: waiting.has_match(reader, database.now(), correlation_id, owner)):
            return ()
        return await self.access.in_transaction(lambda writer, now: waiting.match(writer, now, correlation_id, owner))

    async def answer(self, given: SignalReceived) -> bool:
        note = self.access.ledger.note
        is_first = await self.access.in_transaction(lambda writer, _: waiting.answer(writer, note, given))
        if is_first:
            await self.access.tell([given])
        return is_first

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        now, due_at = await self.access.run(self._next_due)
        if due_at is None or due_at > now:
            return (), due_at
        note, owner = self.access.ledger.note, self.access.owner
        return await self.access.in_transaction(lambda writer, at: waiting.take_due(writer, note, at, owner)), now

    def _next_due(self) -> tuple[float, float | None]:
        now = self.access.database.now_by(self.access.reader)
        return now, waiting.next_due(self.access.reader, now, self.access.owner)

    async def held(self, correlation_id: str | None = None, key: str = "", limit: int = 100) -> Sequence[Held]:
        return await self.access.read(lambda reader: waiting.parked(reader, correlation_id, key, limit))
