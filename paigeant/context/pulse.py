"""Limits the time of an attempt, and the time between its signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self

from paigeant.errors import AttemptEnded, ConfigurationError, DeadlineReached, HeartbeatTimeout

_LOOK = 1.0
"""Seconds after which a waiting thread checks again whether its event loop still runs."""


class Pulse:
    """The time limits of one attempt. ``silence`` is the longest time in seconds between two signs of life.

    ``async with pulse.limited(...)`` cancels the code inside when a limit is reached. Nothing can cancel a thread: its
    code continues, without effect, until its next sign of life.
    """

    def __init__(self, silence: float | None = None) -> None:
        self.silence = silence
        self.loop = asyncio.get_running_loop()
        self._ends: list[tuple[float, Exception]] = []
        self._timeout: asyncio.Timeout | None = None
        self._why: Exception | None = None
        self._has_ended = False

    def limited(self, timeout: float | None, left: float | None) -> Self:
        """Limit an attempt to ``timeout`` seconds and to the ``left`` seconds until its workflow's deadline.

        Raises:
            TimeoutError, DeadlineReached, HeartbeatTimeout.
        """
        now = self.loop.time()
        if timeout is not None:
            self._ends.append((now + timeout, TimeoutError(f"the step took longer than its timeout of {timeout:g} s")))
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
        """The time at which a silent attempt ends. Keeps the error that it ends with."""
        ends = self._ends
        if self.silence is not None:
            text = f"the step was silent for longer than {self.silence:g} s"
            ends = [*ends, (self.loop.time() + self.silence, HeartbeatTimeout(text))]
        if not ends:
            return None
        at, self._why = min(ends, key=lambda end: end[0])
        return at

    def beat(self) -> None:
        """Count a sign of life.

        Raises:
            AttemptEnded: the attempt has ended: by its timeout, by its silence, or because its worker stops.
        """
        if self._has_ended:
            raise AttemptEnded()
        if self.silence is not None and self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._next_end())

    def from_thread(self, report: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a report in the attempt's event loop and wait for it. The attempt's thread calls this.

        Raises:
            AttemptEnded: the loop has ended, and the attempt with it.
            ConfigurationError: this thread has an event loop, which would wait for itself.
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
