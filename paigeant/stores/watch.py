"""Callers that wait for a workflow to end or to advance. One query answers all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from paigeant.database import Database
from paigeant.database.among import among
from paigeant.database.listener import END, EVENT, LONGEST_SLEEP, Listener
from paigeant.database.prepared import execute
from paigeant.events import LAST, Event
from paigeant.records.workflow import TERMINAL
from paigeant.runtime.io_thread import answer
from paigeant.stores.tables import events, workflows

_POLL, _POLL_SERVER = 0.005, 0.02
"""Seconds between two queries for a new wait."""

_SLOWEST_POLL, _SHARE = 0.05, 100
"""Queries for a longer wait are rarer: a hundredth of its time passes between two, at most this many seconds."""

_ENDED = select(workflows.c.correlation_id).where(
    among(workflows.c.correlation_id, "ids"), or_(*(workflows.c.status == one.value for one in sorted(TERMINAL)))
)
_NEWEST = (
    select(events.c.correlation_id, func.max(events.c.id))
    .where(among(events.c.correlation_id, "ids"))
    .group_by(events.c.correlation_id)
)


@dataclass(slots=True, eq=False)
class Wait:
    """A caller that waits for the end of a workflow or, with ``after``, for an event beyond that offset."""

    correlation_id: str
    future: asyncio.Future[None]
    after: int | None = None


class Watch:
    """The open waits, and the queries that answer them. Only the store's thread uses it.

    PostgreSQL wakes the thread. A SQLite file, or a server whose wake-ups do not arrive, is polled.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listener = Listener(database)
        self._waits: list[Wait] = []
        self._seen = -1
        self._added_at = self._look_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._waits)

    def add(self, wait: Wait) -> None:
        self._waits.append(wait)
        self._seen = -1
        self._added_at = time.monotonic()

    def fileno(self) -> int | None:
        """The socket on which wake-ups arrive, while a wait is open."""
        return self._listener.fileno() if self._waits else None

    @property
    def pause(self) -> float | None:
        """Seconds until the next query; None if no wait is open."""
        if not self._waits:
            return None
        if not self._listener.is_reliable:
            return self._poll
        return 0.0 if self._listener.has_news else max(0.0, self._look_at - time.monotonic())

    @property
    def _poll(self) -> float:
        """Seconds between two queries. The end of a long wait is noticed a hundredth of its time later."""
        quickest = _POLL if self._database.is_sqlite else _POLL_SERVER
        return min(_SLOWEST_POLL, max(quickest, (time.monotonic() - self._added_at) / _SHARE))

    def look(self, reader: Connection) -> None:
        """Answer the waits that are over. None is over unless something was written since the last query."""
        self._waits = [wait for wait in self._waits if not wait.future.done()]
        if self._waits:
            self._answer(reader)
        if not self._waits:
            self._listener.rest()

    def _answer(self, reader: Connection) -> None:
        topics = [END, EVENT] if any(wait.after is not None for wait in self._waits) else [END]
        self._listener.listen(reader, *topics)
        seen = self._database.version_of(reader)
        if not self._is_worth_it(seen):
            return
        over = _over(reader, self._waits)
        self._waits = [wait for wait in self._waits if wait not in over]
        self._seen = seen
        self._look_at = time.monotonic() + LONGEST_SLEEP
        answer((wait.future, None, None) for wait in over)

    def _is_worth_it(self, seen: int) -> bool:
        heard = self._listener.take()
        if not self._listener.is_reliable:
            return seen != self._seen
        waited_for = {wait.correlation_id for wait in self._waits}
        if any(names is None or not names.isdisjoint(waited_for) for _, names in heard):
            return True
        return self._seen == -1 or time.monotonic() >= self._look_at

    def tell(self, reader: Callable[[], Connection], events: Sequence[Event]) -> None:
        """Wake the callers, here and in other processes, that wait for these events."""
        ended = {event.correlation_id for event in events if event.type in LAST}
        self._listener.tell(reader, {END: ended, EVENT: {event.correlation_id for event in events}})

    def forget(self) -> None:
        """Forget the reader's version, because another connection counts its versions differently."""
        self._seen = -1
        self._listener.forget()

    def fail(self, error: BaseException) -> None:
        """Fail every open wait, because the database cannot be read."""
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
    return set(execute(reader, _ENDED, {"ids": ids}).scalars())


def _newest(reader: Connection, ids: set[str]) -> dict[str, int]:
    return {row[0]: row[1] for row in execute(reader, _NEWEST, {"ids": ids})}
