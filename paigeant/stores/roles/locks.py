"""The locks of an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from paigeant.decisions.limit import Lock
from paigeant.records.workflow import Held
from paigeant.store.control import Locks
from paigeant.stores import locks
from paigeant.stores.access import Role

_TURNS = 20
"""How many waiting messages are granted one lock, or moved to the queue of another lock, in one call."""


class SqlLocks(Role, Locks):
    """Locks as rows."""

    async def take_locks(self, wanted: Sequence[Lock], lease: float) -> str | None:
        lacking = await self.access.in_transaction(lambda writer, now: locks.take(writer, now, wanted, lease))
        return lacking.key if lacking else None

    async def renew_locks(self, kept: Collection[Lock], lease: float) -> Collection[Lock]:
        return await self.access.in_transaction(lambda writer, now: locks.keep(writer, now, kept, lease))

    async def free_locks(self, freed: Collection[Lock]) -> None:
        await self.access.in_transaction(lambda writer, _: locks.free(writer, freed))

    async def grant_locks(self, lease: float, key: str | None = None) -> tuple[Sequence[Held], float | None]:
        granted: list[Held] = []
        free, pause = await self._wanted(key)  # reading first takes no lock
        for one in free:
            granted += await self._grant(one, lease)
        if granted:
            _, pause = await self._wanted(key)
        return granted, pause

    async def _wanted(self, key: str | None) -> tuple[list[str], float | None]:
        database, owner = self.access.database, self.access.owner
        return await self.access.read(lambda reader: locks.wanted(reader, database.now_by(reader), key, owner))

    async def _grant(self, key: str, lease: float) -> list[Held]:
        """Grant the lock to some messages, each in its own transaction, because each may want other locks as well."""
        owner, granted = self.access.owner, []
        for _ in range(_TURNS):
            held, more = await self.access.in_transaction(
                lambda writer, now: locks.grant(writer, now, key, lease, owner)
            )
            if held is not None:
                granted.append(held)
            if not more:
                break
        return granted
