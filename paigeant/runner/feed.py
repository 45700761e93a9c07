"""What a running step lets others see, on its way to the store: in groups, beside the step and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from paigeant.errors import StoreError
from paigeant.events import Event

log = structlog.stdlib.get_logger("paigeant.feed")

MOST_WAITING = 1000
"""How many events of an attempt wait to be written, before it is let wait or its events are left out."""

MOST_BYTES = 4 * 1024 * 1024
"""How many bytes of large values wait at most; all of it may be recorded with the end of the attempt."""

MOST_OF_A_WORKFLOW = 20_000
"""How many events of this sort a workflow has at a time; what comes then is left out."""

PATIENCE = 1.0
"""Seconds in all that an attempt waits for a store which is slower than it is."""


class Feed:
    """The events of one attempt. What gathers while a group is written is the next group; used from one event loop.

    A store that is away or too slow loses events, which are left out, and never the step.
    """

    def __init__(
        self, write: Callable[[Sequence[Event]], Awaitable[None]], count: Callable[[], Awaitable[int]]
    ) -> None:
        """``count`` says how many events the workflow has already."""
        self._write = write
        self._count = count
        self._room: int | None = None
        self._waiting: list[Event] = []
        self._bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._taken = asyncio.Event()
        self._patience = PATIENCE
        self._has_ended = False

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES

    def put(self, event: Event, size: int = 0) -> None:
        """Have it written soon, if there is room; ``size`` is that of a large value in bytes."""
        if self._has_ended or self._is_full:
            return
        self._waiting.append(event)
        self._bytes += size
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_all())

    async def pace(self) -> None:
        """Let others run, so that what was put is written; wait for a store that has fallen far behind."""
        if not self._is_full or self._patience <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._taken.clear()
        try:
            await asyncio.wait_for(self._taken.wait(), self._patience)
        except TimeoutError:
            log.warning("the store is slower than a step, whose events are left out")
        self._patience -= loop.time() - began

    async def written(self) -> None:
        """Wait until what was put is in the store: even a step that leaves the loop no time is seen to get on.

        A store that takes longer than an attempt's patience is not waited for again.
        """
        if self._writing is None or self._patience <= 0:
            return
        done, _ = await asyncio.wait([self._writing], timeout=self._patience)
        if not done:
            self._patience = 0.0
            log.warning("the store is slower than a step, whose events are left out")

    async def end(self) -> list[Event]:
        """Write nothing more; what was not written yet, to be recorded with the end of the attempt."""
        self._has_ended = True
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=PATIENCE)
        left, self._waiting = self._waiting, []
        return left[: self._room]

    def drop(self) -> None:
        """The attempt counts for nothing: write nothing more, not even what is on its way."""
        self._has_ended = True
        self._waiting.clear()
        if self._writing is not None:
            self._writing.cancel()

    async def _write_all(self) -> None:
        try:
            while self._waiting and not self._has_ended:
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
            log.warning("could not record what a step shows", events=len(group), error=str(error))
