"""Callers who wait for a workflow to end or to go on: one look at the database serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from paigeant.io_thread import answer
from paigeant.store import Status
from paigeant.stores.tables import events, workflows


@dataclass(slots=True, eq=False)
class Wait:
    """Somebody waiting for a workflow's end, or (with ``after``) for that or an event beyond that offset."""

    correlation_id: str
    future: asyncio.Future[None]
    after: int | None = None


class Watch:
    """Who waits, and the looks that answer them. Used by the store's thread alone."""

    def __init__(self, version: Callable[[], int]) -> None:
        self._version = version
        self._waits: list[Wait] = []
        self._seen = -1

    def __bool__(self) -> bool:
        return bool(self._waits)

    def add(self, wait: Wait) -> None:
        self._waits.append(wait)
        self._seen = -1

    def look(self, reader: Connection) -> None:
        """Answer everyone whose wait is over; nobody can be, unless something was written since the last look."""
        self._waits = [wait for wait in self._waits if not wait.future.done()]
        seen = self._version()
        if not self._waits or seen == self._seen:
            return
        over = _over(reader, self._waits)
        self._waits = [wait for wait in self._waits if wait not in over]
        self._seen = seen
        answer((wait.future, None, None) for wait in over)

    def fail(self, error: BaseException) -> None:
        """The database cannot be read: tell everyone who waits."""
        waits, self._waits = self._waits, []
        answer((wait.future, None, error) for wait in waits)


def _over(reader: Connection, waits: Sequence[Wait]) -> list[Wait]:
    for_end = {wait.correlation_id for wait in waits if wait.after is None}
    for_more = {wait.correlation_id for wait in waits if wait.after is not None}
    ended = _ended(reader, for_end | for_more)
    newest = _newest(reader, for_more) if for_more else {}
    return [
        wait
        for wait in waits
        if wait.correlation_id in ended or (wait.after is not None and newest.get(wait.correlation_id, 0) > wait.after)
    ]


def _ended(reader: Connection, ids: set[str]) -> set[str]:
    query = select(workflows.c.correlation_id).where(
        workflows.c.correlation_id.in_(ids), workflows.c.status != Status.RUNNING.value
    )
    return set(reader.execute(query).scalars())


def _newest(reader: Connection, ids: set[str]) -> dict[str, int]:
    query = select(events.c.correlation_id, func.max(events.c.id)).where(events.c.correlation_id.in_(ids))
    return {row[0]: row[1] for row in reader.execute(query.group_by(events.c.correlation_id))}
