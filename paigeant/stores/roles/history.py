"""Reading the history of workflows from an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from paigeant.errors import ForeignValue, ValueMissing
from paigeant.records.workflow import Course, EventRecord, WorkflowRecord
from paigeant.runtime.urls import masked
from paigeant.store.history import History
from paigeant.stores import lineage, reading
from paigeant.stores.access import PATIENCE, Role


class SqlHistory(Role, History):
    """Workflows, steps and events as rows."""

    def output(self, message_id: str, reader: str) -> Any:
        access = self.access
        row, is_readable = access.thread.wait_for(
            lambda: access.guarded(lambda: _output(access.reader, message_id, reader)), PATIENCE
        )
        if not is_readable:
            raise ForeignValue(f"the output that message {message_id} left belongs to a workflow unrelated to {reader}")
        if row is None or row.status != "completed":
            raise ValueMissing(
                f"the output that message {message_id} left in the store {masked(access.url)} is not there"
            )
        return row.output

    async def readable(self, correlation_id: str, owners: Collection[str]) -> Collection[str]:
        return await self.access.read(lambda reader: lineage.readable(reader, correlation_id, owners))

    async def workflow(self, correlation_id: str) -> WorkflowRecord | None:
        return await self.access.read(lambda reader: reading.workflow(reader, correlation_id))

    async def brief(self, correlation_id: str) -> WorkflowRecord | None:
        return await self.access.read(lambda reader: reading.brief(reader, correlation_id))

    async def planned_end(self, correlation_id: str) -> str | None:
        return await self.access.read(lambda reader: reading.planned_end(reader, correlation_id))

    async def find(self, prefix: str) -> Sequence[str]:
        return await self.access.read(lambda reader: reading.beginning_with(reader, prefix))

    async def workflows(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        app: str | None = None,
        parent: str | None = None,
        limit: int = 20,
    ) -> Sequence[WorkflowRecord]:
        wanted = {"status": status, "name": name, "app": app, "parent": parent}
        return await self.access.read(lambda reader: reading.latest(reader, wanted, limit))

    async def counts(self) -> dict[str, int]:
        return await self.access.read(reading.counts)

    async def events(self, correlation_id: str, after: int = 0, limit: int = 1000) -> Sequence[EventRecord]:
        return await self.access.read(lambda reader: reading.events_of(reader, correlation_id, after, limit))

    async def passing(self, correlation_id: str) -> int:
        return await self.access.read(lambda reader: reading.passing(reader, correlation_id))

    async def await_end(self, correlation_id: str) -> None:
        await self.access.wait_for(correlation_id, None)

    async def await_event(self, correlation_id: str, after: int) -> None:
        await self.access.wait_for(correlation_id, after)

    async def courses(self, correlation_ids: Collection[str]) -> Mapping[str, Course]:
        return await self.access.read(lambda reader: reading.courses(reader, correlation_ids))

    async def plans(self, correlation_ids: Collection[str]) -> Mapping[str, tuple[str, Mapping[str, Any] | None]]:
        return await self.access.read(lambda reader: reading.plans(reader, correlation_ids))


def _output(connection: Connection, message_id: str, reader: str) -> tuple[Any, bool]:
    """Return the row of the step that this message completed, or None, and whether this workflow may read it."""
    row = reading.end_of_step(connection, message_id)
    if row is None or row.correlation_id == reader:
        return row, True
    return row, row.correlation_id in lineage.readable(connection, reader, [row.correlation_id])
