"""Idempotency keys in an SQL store."""

from __future__ import annotations

from paigeant.records.workflow import KeyUse
from paigeant.store.values import Keys
from paigeant.stores import keys
from paigeant.stores.access import Role


class SqlKeys(Role, Keys):
    """Idempotency keys as rows."""

    async def take_key(self, use: KeyUse) -> KeyUse:
        return await self.access.in_transaction(lambda writer, now: keys.take(writer, use, now))

    async def mark_sent(self, correlation_id: str) -> None:
        await self.access.in_transaction(lambda writer, _: keys.mark_sent(writer, correlation_id))
