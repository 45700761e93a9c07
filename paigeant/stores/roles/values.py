"""Large values in an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from paigeant.store.values import Values
from paigeant.stores import values
from paigeant.stores.access import Role
from paigeant.wire.claim_check import Kept, Parcel


class SqlValues(Role, Values):
    """Large values as rows."""

    async def keep(self, parcels: Sequence[Parcel]) -> None:
        await self.access.in_transaction(lambda writer, now: values.keep(writer, now, parcels))

    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        return await self.access.read(lambda reader: values.fetch(reader, kept))

    async def drop(self, workflows: Collection[str]) -> int:
        return await self.access.in_transaction(lambda writer, _: values.drop(writer, workflows))
