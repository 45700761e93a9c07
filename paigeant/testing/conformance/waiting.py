"""Waiting in the suite: for a condition, never for a time."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

_PAUSE = 0.01
_LONGEST_TEST = 60.0


async def until(condition: Callable[[], Awaitable[T]], deadline: float = 20.0) -> T:
    """The first truthy value of the condition; fails when there is none within ``deadline`` seconds."""
    give_up = time.monotonic() + deadline
    while not (value := await condition()):
        assert time.monotonic() < give_up, f"did not come true within {deadline:g} s; last value: {value!r}"
        await asyncio.sleep(_PAUSE)
    return value


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own, so that the suite needs no plugin."""

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(_LONGEST_TEST):
                await test(*arguments, **fixtures)

        asyncio.run(limited())

    return run
