"""taskiq with taskiq-pipelines: a pipeline of three tasks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from taskiq import AsyncBroker
from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import work
from benchmarks.place import Place, here

_CONCURRENCY = 100
_AT_ONCE = 100
_LOOK = 0.005
"""Seconds between two looks for a result; taskiq's default is 0.2."""


def make_broker(place: Place) -> AsyncBroker:
    made: AsyncBroker
    if place.system == "taskiq-redis":
        made = RedisStreamBroker(place.redis, queue_name=place.prefix)
    else:
        from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

        made = AioPikaBroker(
            place.rabbitmq,
            qos=2 * _CONCURRENCY,
            exchange=Exchange(name=place.prefix),
            task_queues=[Queue(name=place.prefix)],
            dead_letter_queue=Queue(name=f"{place.prefix}.dead"),
        )
    results: Any = RedisAsyncResultBackend(place.redis, result_ex_time=3600)
    return made.with_result_backend(results).with_middlewares(PipelineMiddleware())


broker = make_broker(here())


@broker.task(task_name="one")
async def one(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(1, data)


@broker.task(task_name="two")
async def two(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(2, data)


@broker.task(task_name="three")
async def three(data: dict[str, Any]) -> dict[str, Any]:
    return await work.step(3, data)


class System:
    """The adapter."""

    guarantee = "at least once, acknowledged after the result was saved and the next message sent"
    setup = f"uvloop, {_CONCURRENCY} tasks at once, every result kept, in Redis, looked for each {_LOOK * 1000:g} ms"

    def __init__(self, place: Place) -> None:
        self.place = place
        self._loop = asyncio.Runner()

    def prepare(self) -> None:
        self._loop.run(broker.startup())

    def worker(self, concurrency: int | None) -> list[str]:
        return [
            sys.executable, "-m", "taskiq", "worker", f"{__name__}:broker", "--workers", "1", "--log-level", "WARNING",
            "--max-async-tasks", str(concurrency or _CONCURRENCY), "--max-prefetch", str(_CONCURRENCY),
            "--ack-type", "when_saved",
        ]  # fmt: skip

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        return self._loop.run(self._dispatch(workflows))

    async def _dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        handles: list[Any] = []
        for first in range(0, len(workflows), _AT_ONCE):
            batch = workflows[first : first + _AT_ONCE]
            handles += await asyncio.gather(
                *(Pipeline(broker, one).call_next(two).call_next(three).kiq(data) for data in batch)
            )
        return handles

    def wait(self, handle: Any, timeout: float) -> bool:
        self._loop.run(handle.wait_result(check_interval=_LOOK, timeout=timeout))
        return True

    def cleanup(self) -> None:
        self._loop.run(broker.shutdown())
        self._loop.close()
        if self.place.system == "taskiq-rabbitmq":
            from benchmarks.systems import rabbitmq

            rabbitmq.delete(
                self.place.rabbitmq, [self.place.prefix, f"{self.place.prefix}.dead"], [self.place.prefix]
            )  # fmt: skip
