"""Schedules in an SQL store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paigeant.records.workflow import ScheduleRecord
from paigeant.store.schedules import Schedules
from paigeant.stores import scheduled
from paigeant.stores.access import Role
from paigeant.stores.present import SILENCE


class SqlSchedules(Role, Schedules):
    """Schedules as rows."""

    async def register_schedules(self, app: str, declared: Sequence[ScheduleRecord]) -> None:
        await self.access.in_transaction(lambda writer, _: scheduled.register(writer, app, declared))

    async def take_schedules(
        self, app: str, definitions: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Sequence[ScheduleRecord], float]:
        now = await self.access.read(self.access.database.now_by)
        if not await self.access.read(lambda reader: scheduled.due(reader, now, app, definitions, lock=False)):
            return (), now
        return await self.access.in_transaction(lambda writer, at: (scheduled.take(writer, at, app, definitions), at))

    async def move_schedule(
        self,
        taken: ScheduleRecord,
        next_at: float | None,
        last_at: float | None = None,
        last_id: str | None = None,
        error: str | None = None,
    ) -> bool:
        done = {"last_at": last_at, "last_id": last_id, "error": error} if last_at is not None else {}
        return await self.access.in_transaction(
            lambda writer, _: scheduled.move(writer, taken, {"next_at": next_at, **done})
        )

    async def pause_schedule(self, app: str, name: str) -> bool:
        return await self.access.in_transaction(lambda writer, _: scheduled.set_paused(writer, app, name, paused=True))

    async def resume_schedule(self, app: str, name: str, next_at: float | None) -> bool:
        values = {"next_at": next_at, "taken_at": None}
        return await self.access.in_transaction(
            lambda writer, _: scheduled.set_paused(writer, app, name, paused=False, **values)
        )

    async def delete_schedule(self, app: str, name: str) -> bool:
        return await self.access.in_transaction(lambda writer, now: scheduled.delete(writer, app, name, now - SILENCE))

    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        return await self.access.read(lambda reader: scheduled.listed(reader, app))
