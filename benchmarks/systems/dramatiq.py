"""dramatiq: a pipeline of three actors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import work
from benchmarks.place import Place, here
from benchmarks.systems import rabbitmq

_THREADS = 16
_CONNECTIONS = 2000
"""redis-py's default of 100 is too few for 200 threads: enqueuing the next message then fails, which dramatiq logs
before it acknowledges, and the pipeline ends there."""


def _is_quorum(place: Place) -> bool:
    return place.system.endswith("-quorum")


def make_broker(place: Place) -> dramatiq.Broker:
    made: dramatiq.Broker
    url = f"{place.redis}?max_connections={_CONNECTIONS}"
    if place.system == "dramatiq-redis":
        from dramatiq.brokers.redis import RedisBroker

        made = RedisBroker(url=url)
    else:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        class QuorumBroker(RabbitmqBroker):
            """Replicated queues that count deliveries, as paigeant's are; dramatiq has no option for them."""

            def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
                return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}

        address = f"{place.rabbitmq[:-1]}%2F" if place.rabbitmq.endswith("//") else place.rabbitmq
        made = (QuorumBroker if _is_quorum(place) else RabbitmqBroker)(url=address, confirm_delivery=True)
    made.add_middleware(Results(backend=RedisBackend(url=url)))
    return made


place = here()
broker = make_broker(place)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=place.prefix)
def one(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(1, data)


@dramatiq.actor(queue_name=place.prefix)
def two(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(2, data)


@dramatiq.actor(queue_name=place.prefix, store_results=True)
def three(data: dict[str, Any]) -> dict[str, Any]:
    return work.blocking_step(3, data)


class System:
    """The adapter."""

    guarantee = "at least once, acknowledged after the next message was enqueued"
    setup = f"1 process, {_THREADS} threads, more where steps wait; only the last result kept, in Redis"

    def __init__(self, place: Place) -> None:
        self.place = place
        if place.system.startswith("dramatiq-rabbitmq"):
            self.guarantee += " and confirmed"
            self.setup += f", {'quorum' if _is_quorum(place) else 'classic'} queues"

    def prepare(self) -> None:
        """dramatiq declares its queues with the first message."""

    def worker(self, concurrency: int | None) -> list[str]:
        threads = ["--processes", "1", "--threads", str(concurrency or _THREADS)]
        return [sys.executable, "-m", "dramatiq", *threads, "--skip-logging", __name__]

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        return [(one.message(data) | two.message() | three.message()).run() for data in workflows]

    def wait(self, handle: Any, timeout: float) -> bool:
        handle.get_result(block=True, timeout=int(timeout * 1000))
        return True

    def cleanup(self) -> None:
        broker.close()
        if self.place.system.startswith("dramatiq-rabbitmq"):
            rabbitmq.delete(self.place.rabbitmq, [self.place.prefix + suffix for suffix in ("", ".DQ", ".XQ")])
