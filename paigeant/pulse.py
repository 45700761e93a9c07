"""How long an attempt may take, and whether it still gives signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self

from paigeant.errors import AttemptEnded, ConfigurationError, DeadlineReached, HeartbeatTimeout, PaigeantError

_LOOK = 1.0
"""Seconds between two looks of a waiting thread whether its loop is still there."""


class Pulse:
    """The limits of one attempt, and its signs of life, which must come every ``silence`` seconds if that is given.

    ``async with pulse.limited(...)`` ends what runs inside. A thread cannot be ended: what runs in one goes on, without
    effect, until its next sign of life.
    """

    def __init__(self, silence: float | None = None) -> None:
        self.silence = silence
        self.loop = asyncio.get_running_loop()
        self._ends: list[tuple[float, PaigeantError | None]] = []
        self._timeout: asyncio.Timeout | None = None
        self._why: PaigeantError | None = None
        self._has_ended = False

    def limited(self, timeout: float | None, left: float | None) -> Self:
        """As a context: ends it after ``timeout`` seconds, after ``left`` until its workflow's deadline, or in silence.

        Raises:
            TimeoutError, DeadlineReached, HeartbeatTimeout.
        """
        now = self.loop.time()
        if timeout is not None:
            self._ends.append((now + timeout, None))
        if left is not None:
            self._ends.append((now + left, DeadlineReached("the workflow's deadline came while the step ran")))
        return self

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout_at(self._next_end())
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        assert self._timeout is not None
        self._has_ended = True
        try:
            await self._timeout.__aexit__(*raised)
        except TimeoutError as error:
            raise self._why or error from error.__cause__

    def _next_end(self) -> float | None:
        """When it is to be ended if it stays silent, noting why."""
        ends = self._ends
        if self.silence is not None:
            text = f"the step was silent for longer than {self.silence:g} s"
            ends = [*ends, (self.loop.time() + self.silence, HeartbeatTimeout(text))]
        if not ends:
            return None
        at, self._why = min(ends, key=lambda end: end[0])
        return at

    def beat(self) -> None:
        """The attempt is alive.

        Raises:
            AttemptEnded: it was ended: by its timeout, for its silence, or because its worker stops.
        """
        if self._has_ended:
            raise AttemptEnded()
        if self.silence is not None and self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._next_end())

    def from_thread(self, report: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it in the attempt's event loop, asked from its thread, and wait for that.

        Raises:
            AttemptEnded: the loop has ended, and the attempt with it.
            ConfigurationError: there is a loop in this thread, which would wait for itself.
        """
        if asyncio._get_running_loop() is not None:
            raise ConfigurationError("this is the call for plain functions", hint="use await ctx.heartbeat()")
        running = report()
        try:
            future = asyncio.run_coroutine_threadsafe(running, self.loop)
        except RuntimeError:
            running.close()
            raise AttemptEnded() from None
        while True:
            try:
                return future.result(_LOOK)
            except TimeoutError:
                if future.done():
                    raise
                if self.loop.is_closed():
                    raise AttemptEnded() from None
