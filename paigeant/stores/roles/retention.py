"""Retention in an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from paigeant.records.workflow import Family
from paigeant.store.values import Retention
from paigeant.stores import retention
from paigeant.stores.access import Role


class SqlRetention(Role, Retention):
    """Deletes the rows of workflows that ended long ago."""

    async def ended(
        self, before: float, statuses: Collection[str] = (), after: Family | None = None, limit: int = 100
    ) -> Sequence[Family]:
        return await self.access.read(lambda reader: retention.ended(reader, before, statuses, after, limit))

    async def forget(self, families: Sequence[Family], before: float) -> int:
        return await self.access.in_transaction(lambda writer, _: retention.forget(writer, families, before))
