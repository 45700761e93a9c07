"""Bare kombu: consume, publish to the next queue, acknowledge. The floor under every framework that uses it."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kombu import Connection, Consumer, Message, Producer, Queue

from benchmarks import work
from benchmarks.place import Place, here
from benchmarks.systems import NotAvailable, rabbitmq

_PREFETCH = 100


def connection(place: Place) -> Connection:
    if place.system == "kombu-redis":
        return Connection(place.redis, connect_timeout=5)
    return Connection(place.rabbitmq, connect_timeout=5, transport_options={"confirm_publish": True})


def queues(place: Place) -> list[Queue]:
    return [Queue(f"{place.prefix}-{number}", routing_key=f"{place.prefix}-{number}") for number in (1, 2, 3)]


def publish(producer: Producer, queue: str, data: dict[str, Any]) -> None:
    producer.publish(data, exchange="", routing_key=queue, serializer="json", delivery_mode="persistent")


class System:
    """The adapter."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.guarantee = "at least once, each publish confirmed before acknowledge; no workflow, no result"
        if place.system == "kombu-redis":
            self.guarantee = "weaker: a message may be lost between BRPOP and HSET; no workflow, no result"
        self.setup = f"one thread, prefetch {_PREFETCH}, default exchange"
        self._connection = connection(place)

    def prepare(self) -> None:
        for queue in queues(self.place):
            queue(self._connection.default_channel).declare()
        self._producer = Producer(self._connection.channel())

    def worker(self, concurrency: int | None) -> list[str]:
        if concurrency:
            raise NotAvailable("kombu runs nothing by itself: one message at a time")
        return [sys.executable, "-m", __name__]

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        for data in workflows:
            publish(self._producer, f"{self.place.prefix}-1", data)
        return list(workflows)

    def wait(self, handle: Any, timeout: float) -> bool:
        del handle, timeout
        return False

    def cleanup(self) -> None:
        self._connection.release()
        if self.place.system == "kombu-rabbitmq":
            rabbitmq.delete(self.place.rabbitmq, [queue.name for queue in queues(self.place)])


def serve(place: Place) -> None:
    """Until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    served = {queue.name: number for number, queue in enumerate(queues(place), start=1)}

    # Two connections: on one, py-amqp waits for a confirm by handling deliveries, each of which waits for a confirm …
    with connection(place) as broker, connection(place) as outgoing:
        channel = broker.channel()
        producer = Producer(outgoing.channel())

        def received(data: dict[str, Any], message: Message) -> None:
            number = served[message.delivery_info["routing_key"]]
            work.blocking_step(number, data)
            if number < work.STEPS:
                publish(producer, f"{place.prefix}-{number + 1}", data)
            message.ack()

        with Consumer(channel, queues(place), callbacks=[received], accept=["json"], prefetch_count=_PREFETCH):
            while not stopping:
                with suppress(socket.timeout):
                    broker.drain_events(timeout=1)


if __name__ == "__main__":
    serve(here())
