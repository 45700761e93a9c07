"""Celery: a chain of three tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from celery import Celery, chain

from benchmarks import work
from benchmarks.celery_app import make_celery
from benchmarks.place import Place, here
from benchmarks.systems import rabbitmq

_PREFETCH = 100
_WAITING_PREFETCH = 4
"""Messages fetched ahead for each of many threads."""
_THREADS = 4


def make_app(place: Place) -> Celery:
    redis = place.system == "celery-redis"
    options = {} if redis else {"confirm_publish": True}
    broker = place.redis if redis else place.rabbitmq
    return make_celery("bench", broker, place, broker_transport_options=options)


app = make_app(here())


@app.task(name="one", ignore_result=True)
def one(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(1, data)


@app.task(name="two", ignore_result=True)
def two(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(2, data)


@app.task(name="three")
def three(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(3, data)


class System:
    """The adapter."""

    guarantee = "at least once (acks_late); on Redis after an hour, and not between BRPOP and HSET"
    setup = f"solo pool, prefetch {_PREFETCH}; only the last result kept, in Redis; pool of threads where steps wait"

    def __init__(self, place: Place) -> None:
        self.place = place
        if place.system == "celery-rabbitmq":
            self.guarantee = "at least once (acks_late), each publish confirmed before acknowledge"
            self.setup = self.setup.replace("solo pool", f"pool of {_THREADS} threads")

    def prepare(self) -> None:
        """Celery declares its queue with the first message."""

    def worker(self, concurrency: int | None) -> list[str]:
        pool = ["--pool=solo", f"--prefetch-multiplier={_PREFETCH}"]
        if concurrency or self.place.system == "celery-rabbitmq":
            multiplier = _WAITING_PREFETCH if concurrency else _PREFETCH
            pool = ["--pool=threads", f"--concurrency={concurrency or _THREADS}", f"--prefetch-multiplier={multiplier}"]
        return [
            sys.executable, "-m", "celery", "--app", __name__, "worker", "--loglevel=WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat", *pool,
        ]  # fmt: skip

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        return [chain(one.s(data), two.s(), three.s()).apply_async() for data in workflows]

    def wait(self, handle: Any, timeout: float) -> bool:
        handle.get(timeout=timeout)
        return True

    def cleanup(self) -> None:
        app.close()
        if self.place.system == "celery-rabbitmq":
            rabbitmq.delete(self.place.rabbitmq, [self.place.prefix], [self.place.prefix])
