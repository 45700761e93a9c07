"""paigeant on each of its brokers. Run as a module this is the worker that dispatches to itself, in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from benchmarks import work
from benchmarks.place import Place, here
from benchmarks.systems import NotAvailable, rabbitmq
from paigeant import App
from paigeant.activity.builtin import CONTROL
from paigeant.dispatch.packing import queue_name
from paigeant.errors import ConfigurationError
from paigeant.transport import Durability
from paigeant.worker import Worker

_AT_ONCE = 100
"""Dispatches that are under way at the same time."""

_ONE_DATABASE = "record, publish and acknowledge are one transaction; a stale worker is refused"
_GUARANTEES = {
    Durability.TRANSACTIONAL: "publish and acknowledge are one atomic act; a stale worker is refused",
    Durability.AT_LEAST_ONCE: "at least once, publish confirmed before acknowledge",
    Durability.VOLATILE: "none: messages live in the process",
}
_INBOX = "; with a store one accepted successor per step"


def broker_of(place: Place) -> str:
    return place.system.split("-")[1]


def options_of(place: Place) -> list[str]:
    """What its name says after the broker's: ``nostore``, ``classic``."""
    return place.system.split("-")[2:]


def make_app(place: Place) -> App:
    """The three steps. Each returns its data, and the next takes it as its first open parameter."""
    kind = options_of(place)
    urls = {
        "sqlite": (place.sqlite, None),
        "postgresql": (place.postgres, None),
        "rabbitmq": (place.rabbitmq + ("?queue_type=classic" if "classic" in kind else ""), place.sqlite),
        "redis": (place.redis, place.sqlite),
        "memory": ("memory://", None),
    }
    broker_url, store_url = urls[broker_of(place)]
    app = App("bench", broker_url, "none" if "nostore" in kind else store_url, queue_prefix=place.prefix)

    @app.activity
    async def one(data: dict[str, Any]) -> dict[str, Any]:
        return await work.step(1, data)

    @app.activity
    async def two(data: dict[str, Any]) -> dict[str, Any]:
        return await work.step(2, data)

    @app.activity
    async def three(data: dict[str, Any]) -> dict[str, Any]:
        return await work.step(3, data)

    return app


app = make_app(here())


async def dispatch(workflows: Sequence[dict[str, Any]]) -> list[Any]:
    """Start the workflows, some at a time."""
    one, two, three = app.activities.values()
    handles = []
    for first in range(0, len(workflows), _AT_ONCE):
        batch = [app.dispatch(one.step(data=data), two, three) for data in workflows[first : first + _AT_ONCE]]
        handles += [await handle for handle in batch]
    return handles


class System:
    """The adapter."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.in_process = place.system == "paigeant-memory"
        self.app = app
        self.features = self._features()
        self.has_store = self.app.store is not None
        apart = self.has_store and not self.features.joins_store and not self.in_process
        self.guarantee = _GUARANTEES[self.features.durability] + (_INBOX if apart else "")
        kept = "history of every step in SQLite" if self.has_store else "no store"
        if self.features.joins_store:
            self.guarantee = _ONE_DATABASE
            kept = "history of every step in the same database"
        self.setup = f"asyncio, concurrency {self.app.settings.concurrency}, {kept}"
        if broker_of(place) == "rabbitmq":
            self.setup += f", {'classic' if 'classic' in options_of(place) else 'quorum'} queues"
        self._loop = asyncio.Runner()

    def _features(self) -> Any:
        try:
            return self.app.transport.features
        except ConfigurationError as error:  # best effort is not compared with what keeps its messages
            raise NotAvailable(str(error)) from error

    def prepare(self) -> None:
        if not self.in_process:
            self._loop.run(self._declare())

    async def _declare(self) -> None:
        await self.app.connect()
        await self.app.transport.declare(*map(self.app.queue_of, self.app.activities.values()))

    def worker(self, concurrency: int | None) -> list[str]:
        if self.in_process:
            return [sys.executable, "-m", __name__, *([str(concurrency)] if concurrency else [])]
        chosen = ["--concurrency", str(concurrency)] if concurrency else []
        return [sys.executable, "-m", "paigeant", "worker", "-A", f"{__name__}:app", "--log-level", "warning", *chosen]

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        if self.in_process:  # the worker dispatches to itself, before it serves
            _preload(self.place).write_text(json.dumps(list(workflows)))
            return []
        return self._loop.run(dispatch(workflows))

    def wait(self, handle: Any, timeout: float) -> bool:
        if not self.has_store:
            return False
        self._loop.run(handle.result(timeout))
        return True

    def cleanup(self) -> None:
        queues = [self.app.queue_of(one) for one in self.app.activities.values()]
        queues.append(queue_name(self.app.prefix, CONTROL))
        self._loop.run(self.app.close())
        self._loop.close()
        if self.place.system.startswith("paigeant-rabbitmq"):
            rabbitmq.delete(self.place.rabbitmq, queues)


def _preload(place: Place) -> Path:
    return Path(place.directory) / "workflows.json"


async def _serve(place: Place, concurrency: int | None) -> None:
    if _preload(place).exists():
        await dispatch(json.loads(_preload(place).read_text()))
    worker = Worker(app, concurrency=concurrency)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_serve(here(), int(sys.argv[1]) if sys.argv[1:] else None))
