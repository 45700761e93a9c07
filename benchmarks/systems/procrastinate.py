"""procrastinate: three tasks, each of which defers the next. Run as a module this is the worker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks import work
from benchmarks.place import Place, here

_CONCURRENCY = 100
_POOL = 10

app = App(connector=PsycopgConnector(conninfo=here().postgres, min_size=_POOL, max_size=_POOL))


@app.task(name="one")
async def one(data: dict[str, Any]) -> None:
    await two.defer_async(data=await work.step(1, data))


@app.task(name="two")
async def two(data: dict[str, Any]) -> None:
    await three.defer_async(data=await work.step(2, data))


@app.task(name="three")
async def three(data: dict[str, Any]) -> None:
    await work.step(3, data)


class System:
    """The adapter."""

    guarantee = (
        "at least once, but a dead worker's job is only retried by a task one has to write; successor may be double"
    )
    setup = f"asyncio, concurrency {_CONCURRENCY}, {_POOL} connections, LISTEN/NOTIFY; done jobs deleted, no results"

    def __init__(self, place: Place) -> None:
        self.place = place
        self._loop = asyncio.Runner()

    def prepare(self) -> None:
        self._loop.run(self._prepare())

    async def _prepare(self) -> None:
        await app.open_async()
        await app.schema_manager.apply_schema_async()

    def worker(self, concurrency: int | None) -> list[str]:
        return [sys.executable, "-m", __name__, str(concurrency or _CONCURRENCY)]

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        return self._loop.run(one.batch_defer_async(*({"data": data} for data in workflows)))

    def wait(self, handle: Any, timeout: float) -> bool:
        del handle, timeout
        return False

    def cleanup(self) -> None:
        self._loop.run(app.close_async())
        self._loop.close()


async def serve(concurrency: int) -> None:
    """Until SIGTERM, which procrastinate handles."""
    async with app.open_async():
        await app.run_worker_async(concurrency=concurrency, delete_jobs="successful")


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
