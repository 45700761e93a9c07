"""streaQ: three tasks joined with ``then``. Run as a module this is the worker."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from anyio.from_thread import start_blocking_portal
from streaq import Worker

from benchmarks import work
from benchmarks.place import Place, here

_CONCURRENCY = 100
_AT_ONCE = 100

place = here()
worker: Worker[Any] = Worker(
    redis_url=place.redis,
    queue_name=place.prefix,
    anyio_kwargs={"use_uvloop": True},
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", _CONCURRENCY)),
)


@worker.task(name="one", silent=True)
async def one(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(1, data)


@worker.task(name="two", silent=True)
async def two(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(2, data)


@worker.task(name="three", silent=True)
async def three(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(3, data)


class System:
    """The adapter."""

    guarantee = "at least once; a task of a dead worker is queued again after a minute"
    setup = f"uvloop, concurrency {_CONCURRENCY}, every result kept, in Redis"

    def __init__(self, place: Place) -> None:
        self.place = place

    def prepare(self) -> None:
        """The client is entered and left in one task, which anyio's portal keeps."""
        self._open = ExitStack()
        self._portal = self._open.enter_context(start_blocking_portal())
        self._open.enter_context(self._portal.wrap_async_context_manager(worker))

    def worker(self, concurrency: int | None) -> list[str]:
        choose = ["env", f"BENCH_CONCURRENCY={concurrency}"] if concurrency else []
        return [*choose, sys.executable, "-m", __name__]  # not its command, which logs each dependent

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        return self._portal.call(self._dispatch, workflows)

    async def _dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        handles: list[Any] = []
        for first in range(0, len(workflows), _AT_ONCE):
            handles += await asyncio.gather(*map(self._start, workflows[first : first + _AT_ONCE]))
        return handles

    async def _start(self, data: dict[str, Any]) -> Any:
        return await one.enqueue(data).then(two).then(three)

    def wait(self, handle: Any, timeout: float) -> bool:
        self._portal.call(handle.result, int(timeout))
        return True

    def cleanup(self) -> None:
        self._open.close()


if __name__ == "__main__":
    worker.run_sync()
