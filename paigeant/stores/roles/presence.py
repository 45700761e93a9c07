"""The workers in an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from paigeant.records.workflow import Owner, WorkerRecord
from paigeant.store.workers import Presence
from paigeant.stores import locks, owners, present
from paigeant.stores.access import Role


class SqlPresence(Role, Presence):
    """Workers and the messages they hold, as rows."""

    async def announce(self, worker: WorkerRecord) -> None:
        owner = self.access.owner

        def announced(writer: Connection, now: float) -> None:
            present.announce(writer, now, worker)
            locks.forget(writer, now)
            if owner is not None:
                owners.announce(writer, now, owner)

        await self.access.in_transaction(announced)

    async def withdraw(self, worker_id: str) -> None:
        await self.access.in_transaction(lambda writer, _: present.withdraw(writer, worker_id))

    async def workers(self) -> Sequence[WorkerRecord]:
        return await self.access.asked_together(self._listed, None)

    async def brokers(self) -> Sequence[Owner]:
        return await self.access.read(owners.listed)

    async def holds(self, worker_id: str, message_ids: Collection[str]) -> None:
        await self.access.in_transaction(lambda writer, _: present.holds(writer, worker_id, message_ids))

    async def claim(self, worker_id: str, message_id: str, *, take_over: bool = False) -> bool:
        return await self.access.in_group(present.claim, present.Claim(worker_id, message_id, take_over))

    def _listed(self, reader: Connection, askers: Sequence[None]) -> list[Sequence[WorkerRecord]]:
        """Read all workers once for all who ask at the same time: thousands may wait for results in one program."""
        return [present.listed(reader, self.access.database.now_by(reader))] * len(askers)
