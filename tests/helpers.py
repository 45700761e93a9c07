"""Waiting in tests, for a condition and never for a time, and what takes long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest

from paigeant import App, Worker

T = TypeVar("T")

PAUSE = 0.02
"""Seconds between two looks at the condition."""


lengthy = partial(pytest.param, marks=pytest.mark.endurance)
"""Parameters of a test that only ``tox -e endurance`` tries."""


def until(condition: Callable[[], T], deadline: float = 10.0, pause: float = PAUSE) -> T:
    """The first truthy value of ``condition()``; fails the test when there is none within ``deadline`` seconds."""
    give_up = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < give_up, _never(condition, deadline, value)
        time.sleep(pause)
    return value


async def until_async(condition: Callable[[], Awaitable[T]], deadline: float = 10.0) -> T:
    """:func:`until` for a condition that has to be awaited."""
    give_up = time.monotonic() + deadline
    while not (value := await condition()):
        assert time.monotonic() < give_up, _never(condition, deadline, value)
        await asyncio.sleep(PAUSE)
    return value


@asynccontextmanager
async def served(app: App, **options: Any) -> AsyncIterator[Worker]:
    """A worker in this process, from when it is ready on; at the end it stops."""
    worker = Worker(app, shutdown_timeout=1, **options)
    ready = asyncio.Event()
    running = asyncio.create_task(worker.run(started=ready.set))
    try:
        await asyncio.wait({running, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield worker
    finally:
        worker.stop()
        await running


def _never(condition: Callable[[], object], deadline: float, last: object) -> str:
    name = getattr(condition, "__qualname__", repr(condition))
    return f"{name} did not hold within {deadline:g} s; last value: {last!r}"
