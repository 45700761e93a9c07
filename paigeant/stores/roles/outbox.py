"""The outbox of an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from paigeant.store.messages import Outbox
from paigeant.stores import posted
from paigeant.stores.access import Role
from paigeant.transport import Outgoing


class SqlOutbox(Role, Outbox):
    """Messages recorded for publishing, as rows."""

    async def overdue(self, grace: float, queues: Collection[str] | None = None) -> Mapping[str, int]:
        database, owner = self.access.database, self.access.owner
        return await self.access.read(lambda reader: posted.overdue(reader, database.now(), grace, queues, owner))

    async def take_overdue(self, queue: str, grace: float, limit: int) -> Sequence[Outgoing]:
        owner = self.access.owner
        return await self.access.in_transaction(
            lambda writer, now: posted.take_overdue(writer, now, queue, grace, limit, owner)
        )

    async def purge(self, queue: str) -> int:
        owner = self.access.owner
        return await self.access.in_transaction(lambda writer, now: posted.purge(writer, now, queue, owner))

    async def unpost(self, message_id: str, body: bytes) -> None:
        await self.access.in_transaction(lambda writer, _: posted.unpost(writer, message_id, body))

    async def postpone(self, outgoing: Outgoing) -> None:
        await self.access.in_transaction(lambda writer, now: posted.postpone(writer, now, outgoing))
