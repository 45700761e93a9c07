"""The agents as activities of paigeant."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.agents.work import make_agent, prompt
from benchmarks.place import Place, here
from paigeant import App


def make_app(place: Place) -> App:
    """``paigeant-BROKER`` has its store in SQLite, ``paigeant-BROKER-nostore`` has none."""
    _, broker, *rest = place.system.split("-")
    urls = {"sqlite": (place.sqlite, None), "redis": (place.redis, place.sqlite)}
    broker_url, store_url = urls[broker]
    app = App("agents", broker_url, "none" if rest else store_url, queue_prefix=place.prefix)
    app.activity(make_agent())
    return app


app = make_app(here())


class System:
    """The adapter."""

    def __init__(self, place: Place, at_once: int) -> None:
        journal = "every model request and tool call journaled" if app.store is not None else "no store, no journal"
        self.setup = f"asyncio, {journal}"
        self._at_once = at_once
        self._loop = asyncio.Runner()

    def worker(self) -> list[str]:
        command = [sys.executable, "-m", "paigeant", "worker", "-A", f"{__name__}:app", "--log-level", "warning"]
        return [*command, "--concurrency", str(self._at_once)]

    def dispatch(self, requests: int, count: int) -> None:
        self._loop.run(self._dispatch(requests, count))

    async def _dispatch(self, requests: int, count: int) -> None:
        agent: Any = app.activities["agent"]
        for handle in [app.dispatch(agent.step(prompt=prompt(requests))) for _ in range(count)]:
            await handle

    def cleanup(self) -> None:
        self._loop.run(app.close())
        self._loop.close()
