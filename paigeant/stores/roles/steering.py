"""Steering in an SQL store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from paigeant.events import Cancellation
from paigeant.records.workflow import Steered
from paigeant.store.control import Steering
from paigeant.stores import steering
from paigeant.stores.access import Role


class SqlSteering(Role, Steering):
    """Cancels, pauses and resumes, each in one transaction, and then wakes the callers that wait for it."""

    async def cancel(self, correlation_id: str, cancellation: Cancellation, proof: str | None = None) -> Steered | None:
        note = self.access.ledger.note
        return await self._steer(
            lambda writer, now: steering.cancel(writer, note, correlation_id, replace(cancellation, at=now), proof)
        )

    async def pause(self, correlation_id: str, by: str | None = None, proof: str | None = None) -> Steered | None:
        note = self.access.ledger.note
        return await self._steer(lambda writer, now: steering.pause(writer, note, correlation_id, by, now, proof))

    async def resume(self, correlation_id: str, by: str | None = None, proof: str | None = None) -> Steered | None:
        note = self.access.ledger.note
        return await self._steer(lambda writer, now: steering.resume(writer, note, correlation_id, by, now, proof))

    async def _steer(self, call: Callable[[Connection, float], Steered | None]) -> Steered | None:
        found = await self.access.in_transaction(call)
        if found is not None:
            await self.access.tell(found.recorded)
        return found

    async def cancellations(self, correlation_ids: Collection[str]) -> Mapping[str, Cancellation]:
        return await self.access.read(lambda reader: steering.cancellations(reader, correlation_ids))
