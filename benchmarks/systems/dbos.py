"""DBOS: a workflow of three steps, started from a queue. Run as a module this is the worker, or the preparation."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks import work
from benchmarks.place import Place, here

_CONCURRENCY = 100
_QUEUE = "bench"
_LOOK = 0.01
"""Seconds between two looks for work and for results; the default is 1."""


def database(place: Place) -> str:
    if place.system == "dbos-sqlite":
        return place.sqlite
    return place.postgres


@DBOS.step(name="one")
def one(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(1, data)


@DBOS.step(name="two")
def two(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(2, data)


@DBOS.step(name="three")
def three(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(3, data)


@DBOS.workflow(name="no-op")
def flow(data: dict[str, Any]) -> dict[str, Any]:
    return three(two(one(data)))


@DBOS.step(name="waiting one")
async def waiting_one(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(1, data)


@DBOS.step(name="waiting two")
async def waiting_two(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(2, data)


@DBOS.step(name="waiting three")
async def waiting_three(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(3, data)


@DBOS.workflow(name="waiting")
async def waiting_flow(data: dict[str, Any]) -> dict[str, Any]:
    return await waiting_three(await waiting_two(await waiting_one(data)))


class System:
    """The adapter."""

    guarantee = "each step's result recorded in the database; a workflow is resumed by its own executor's restart"
    setup = (
        f"threads (async where steps wait), {_CONCURRENCY} workflows at once, queue polled each {_LOOK * 1000:g} ms; "
        "a workflow's steps stay in its process"
    )

    def __init__(self, place: Place) -> None:
        self.place = place
        if place.system == "dbos-sqlite":
            self.setup += "; journal_mode WAL, set by us"

    def prepare(self) -> None:
        if self.place.system == "dbos-sqlite":
            with closing(sqlite3.connect(database(self.place).removeprefix("sqlite:///"))) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # kept in the file; twice as fast as DBOS' default
        subprocess.run([sys.executable, "-m", __name__, "prepare"], check=True, capture_output=True)
        self._client = DBOSClient(system_database_url=database(self.place))

    def worker(self, concurrency: int | None) -> list[str]:
        return [sys.executable, "-m", __name__, str(concurrency or _CONCURRENCY)]

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        kinds = ["waiting" if data["seconds"] else "no-op" for data in workflows]
        return [
            self._client.enqueue({"workflow_name": kind, "queue_name": _QUEUE}, data)
            for kind, data in zip(kinds, workflows, strict=True)
        ]

    def wait(self, handle: Any, timeout: float) -> bool:
        del timeout
        handle.get_result(polling_interval_sec=_LOOK)
        return True

    def cleanup(self) -> None:
        self._client.destroy()


def serve(place: Place, concurrency: int) -> None:
    """Until SIGTERM; with concurrency 0 only make the tables."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    config = DBOSConfig(
        name="bench",
        system_database_url=database(place),
        application_version="bench",
        run_admin_server=False,
        log_level="WARNING",
    )
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(
        _QUEUE, worker_concurrency=concurrency or 1, polling_interval_sec=_LOOK, on_conflict="always_update"
    )
    if concurrency:
        stopping.wait()
    DBOS.destroy()


if __name__ == "__main__":
    serve(here(), 0 if sys.argv[1] == "prepare" else int(sys.argv[1]))
