"""Journals of agent steps in an SQL store."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant.records.journal import Turn, Unit
from paigeant.store.values import Journals
from paigeant.stores import journals
from paigeant.stores.access import Role


class SqlJournals(Role, Journals):
    """Journals as rows. Steps that write at the same time share a transaction."""

    async def take_journal(self, turn: Turn) -> Sequence[Unit] | None:
        return await self.access.in_group(journals.take, turn)

    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        return await self.access.in_group(journals.write, (turn, unit))

    async def restart_journal(self, turn: Turn) -> bool:
        return await self.access.in_group(journals.restart, turn)

    async def forget_journal(self, correlation_id: str, step_id: str) -> None:
        await self.access.in_transaction(lambda writer, _: journals.forget(writer, correlation_id, step_id))

    async def units(self, correlation_id: str, step_id: str | None = None) -> Sequence[Unit]:
        return await self.access.read(lambda reader: journals.of_workflow(reader, correlation_id, step_id))
