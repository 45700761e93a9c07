"""The background tasks of a worker: loops that run concurrently with the steps. No task fails silently."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

log = structlog.stdlib.get_logger("paigeant.worker")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds until a failed task restarts: first and longest pause; each failure doubles the pause."""

STEADY = 30.0
"""Seconds a task has to run until its earlier failures no longer count."""

KEEPS_FAILING = 3
"""Consecutive failures after which the worker is not ready."""


def pauses(shortest: float = SHORTEST_PAUSE, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Yield growing pauses for ever, each shortened at random by up to a half, so that processes do not synchronize."""
    pause = shortest
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, longest)


@dataclass(slots=True)
class _State:
    """The state of one task."""

    failures: int = 0
    reason: str = ""


class Tasks:
    """Runs loops as tasks from ``start`` until the context ends. A loop that raises is logged and restarted.

    A loop that returns has nothing more to do, and is not restarted.
    """

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run this loop; ``run`` is called again after each failure."""
        self._states[name] = _State()
        task = asyncio.create_task(self._keep(name, run), name=f"paigeant: {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def end(self) -> None:
        """Cancel all tasks and wait until they end."""
        ending = set(self._running)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def failing(self) -> Mapping[str, str]:
        """The tasks that failed repeatedly without a good run in between, each with its latest error."""
        return {name: one.reason for name, one in self._states.items() if one.failures >= KEEPS_FAILING}

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        state, waits = self._states[name], pauses()
        while (error := await self._run_once(name, run)) is not None:
            if not state.failures:
                waits = pauses()
            self._note(name, error)
            await asyncio.sleep(next(waits))

    async def _run_once(self, name: str, run: Callable[[], Awaitable[None]]) -> BaseException | None:
        """Run the loop until it ends; return its error, if any. An unrequested cancellation counts as an error."""
        running = asyncio.ensure_future(run())
        try:
            done, _ = await asyncio.wait({running}, timeout=STEADY)
            if not done:
                self._is_well(name)
                await asyncio.wait({running})
        finally:
            running.cancel()
            await asyncio.wait({running})
        if running.cancelled():
            return asyncio.CancelledError("cancelled, but not by the worker")
        return running.exception()

    def _note(self, name: str, error: BaseException) -> None:
        """Log the traceback, unless the failure is the same as the previous one."""
        state = self._states[name]
        state.failures += 1
        reason = type(error).__name__
        is_news, state.reason = reason != state.reason, reason
        if is_news:
            log.error("a background task failed, restarting it", task=name, error_type=reason, exc_info=error)
        else:
            log.debug("a background task failed again", task=name, error_type=reason, failures=state.failures)

    def _is_well(self, name: str) -> None:
        state = self._states[name]
        if state.failures:
            log.info("a background task runs again", task=name, failures=state.failures)
        state.failures, state.reason = 0, ""
