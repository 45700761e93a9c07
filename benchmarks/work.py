"""The work that every system is given: three steps with 200 bytes of data that do nothing, or wait."""

from __future__ import annotations

import asyncio
import os
import time
from functools import cache
from struct import Struct
from typing import Any

STEPS = 3

RECORD = Struct("=IIq")
"""A mark: which step, of which workflow, when (nanoseconds of the monotonic clock, which all processes share)."""

_TEXT = "x" * 150


def workflow(number: int, seconds: float = 0.0) -> dict[str, Any]:
    """The data that a workflow carries from step to step; each step waits so many seconds."""
    return {"workflow": number, "seconds": seconds, "text": _TEXT}


async def step(number: int, data: dict[str, Any]) -> dict[str, Any]:
    """The body of a step, for systems with an event loop."""
    if data["seconds"]:
        await asyncio.sleep(data["seconds"])
    mark(number, data["workflow"])
    return data


def blocking_step(number: int, data: dict[str, Any]) -> dict[str, Any]:
    """The body of a step, for systems with threads or greenlets."""
    if data["seconds"]:
        time.sleep(data["seconds"])
    mark(number, data["workflow"])
    return data


def mark(number: int, workflow_number: int) -> None:
    """Note that the step ran. One small write to a file in memory: some microseconds, the same for every system."""
    os.write(_page(), RECORD.pack(number, workflow_number, time.monotonic_ns()))


@cache
def _page() -> int:
    return os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
