"""Records in the store what a running step shows: in groups, concurrently with the step, and without delaying it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from paigeant.errors import StoreError
from paigeant.events import Event

log = structlog.stdlib.get_logger("paigeant.feed")

MOST_WAITING = 1000
"""Maximum number of waiting events of an attempt; beyond it the feed slows the attempt down or drops its events."""

MOST_BYTES = 4 * 1024 * 1024
"""Maximum size of waiting large values in bytes; all of them may be recorded with the end of the attempt."""

MOST_OF_A_WORKFLOW = 20_000
"""Maximum number of such events per workflow; the feed drops further events."""

PATIENCE = 1.0
"""Seconds in total that an attempt waits for a store that is slower than the attempt."""


PATIENCE_AT_END = 60.0
"""Seconds that the end of an attempt waits for a write in progress: longer than a store tries to write events."""


class Feed:
    """Records the events of one attempt, in order. For use from one event loop.

    Events that arrive while a group is written form the next group. If the store is away or too slow, the feed drops
    events; the step never fails because of that.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Event]], Awaitable[None]],
        count: Callable[[], Awaitable[int]],
        may_write: Callable[[], bool] = lambda: True,
        earlier: Sequence[Event] = (),
    ) -> None:
        """``count`` returns how many such events the workflow already has; ``earlier`` are recorded before all others.

        While ``may_write`` returns false all events wait: they are recorded later, or with the end of the attempt.
        """
        self._write = write
        self._count = count
        self._may_write = may_write
        self._room: int | None = None
        self._waiting: list[Event] = [*earlier]
        self._bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._taken = asyncio.Event()
        self._patience = PATIENCE
        self._has_ended = False

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES

    def put(self, event: Event, size: int = 0) -> None:
        """Schedule an event for recording, if there is room. ``size`` is the size of a large value in bytes."""
        if self._has_ended or self._is_full:
            return
        self._waiting.append(event)
        self._bytes += size
        if self._writing is None and self._may_write():
            self._writing = asyncio.ensure_future(self._write_all())

    async def pace(self) -> None:
        """Yield to the event loop so that events can be recorded. Wait if the store is far behind."""
        if not self._is_full or self._patience <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._taken.clear()
        try:
            await asyncio.wait_for(self._taken.wait(), self._patience)
        except TimeoutError:
            log.warning("the store is slower than a step; events of the step are dropped")
        self._patience -= loop.time() - began

    async def recorded(self) -> None:
        """Wait until the store has the events. So even a step that blocks the event loop shows its progress.

        After the store has used up the attempt's patience, later calls return at once.
        """
        if self._writing is None or self._patience <= 0:
            return
        done, _ = await asyncio.wait([self._writing], timeout=self._patience)
        if not done:
            self._patience = 0.0
            log.warning("the store is slower than a step; events of the step are dropped")

    async def end(self) -> list[Event]:
        """Stop recording, and return the events that the caller must record with the end of the attempt.

        A write in progress must not reach the store after the end, so this waits for the write.
        """
        self._has_ended = True
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=PATIENCE_AT_END)
        left, self._waiting = self._waiting, []
        return left[: self._room]

    def drop(self) -> None:
        """Drop all events, because the attempt does not count. A write in progress is cancelled."""
        self._has_ended = True
        self._waiting.clear()
        if self._writing is not None:
            self._writing.cancel()

    async def _write_all(self) -> None:
        try:
            while self._waiting and not self._has_ended and self._may_write():
                group, self._waiting, self._bytes = self._waiting, [], 0
                self._taken.set()
                await self._write_some(group)
        finally:
            self._writing = None

    async def _write_some(self, group: Sequence[Event]) -> None:
        try:
            if self._room is None:
                self._room = max(0, MOST_OF_A_WORKFLOW - await self._count())
            if kept := group[: self._room]:
                await self._write(kept)
                self._room -= len(kept)
        except StoreError as error:
            log.warning("could not record events of a running step", events=len(group), error=str(error))
