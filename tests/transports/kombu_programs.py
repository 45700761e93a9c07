"""What a kombu program does with our transports, and what is left when it dies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import redis
from kombu import Connection, Consumer, Producer, Queue
from sqlalchemy.exc import OperationalError

import paigeant.transports  # registers the schemes

assert paigeant.transports

LEASE = 30.0
TIDY = LEASE / 10
"""Seconds after which a process looks again for what the dead left."""


@dataclass(frozen=True)
class Backend:
    """Where a test's queues are: a database or a Redis. ``trouble`` is what a broken connection raises."""

    url: str
    options: dict[str, Any] = field(default_factory=dict)
    trouble: Exception = field(default_factory=lambda: OperationalError("COMMIT", {}, Exception("closed")))

    def connect(self, **options: Any) -> Connection:
        return Connection(self.url, transport_options={**self.options, "polling_interval": 0.001, **options})


def sql(database_url: str) -> Backend:
    return Backend(f"paigeant+{database_url}")


def streams(redis_url: str, prefix: str) -> Backend:
    options = {"global_keyprefix": f"{prefix}:"}
    return Backend(f"redis-streams+{redis_url}", options, redis.exceptions.ConnectionError("closed"))


def put(connection: Connection, *bodies: Any, to: str = "q", **options: Any) -> None:
    producer = Producer(connection.default_channel)
    for body in bodies:
        producer.publish(body, routing_key=to, **options)


def get(connection: Connection, queue: str = "q", *, no_ack: bool = True) -> Any:
    """The next message of the queue, or None."""
    return connection.default_channel.basic_get(queue, no_ack=no_ack)


def everything(connection: Connection, queue: str = "q") -> list[Any]:
    return [message.payload for message in iter(lambda: get(connection, queue), None)]


def drain(connection: Connection) -> bool:
    """Whether an event came at once."""
    try:
        connection.drain_events(timeout=0.001)
    except TimeoutError:
        return False
    return True


def declare(connection: Connection, name: str = "q", **arguments: Any) -> None:
    connection.default_channel.queue_declare(
        name, arguments={f"x-{k.replace('_', '-')}": v for k, v in arguments.items()}
    )


def size(connection: Connection, queue: str = "q") -> int:
    return int(connection.default_channel.queue_declare(queue, passive=True).message_count)


def crash(connection: Connection) -> None:
    """What a killed process leaves: no channel that could give anything back."""
    channel = connection.default_channel
    channel._finalizer.detach()
    if channel._heartbeat is not None:
        channel._heartbeat.stop()
    queue = channel._queue
    queue.disconnect()
    if hasattr(queue, "holder"):
        queue.holder.id = ""
    else:
        queue.leases.lose_all()


def program(backend: Backend) -> list[str]:
    """The arguments of a program of its own that uses the same queues."""
    return [backend.url, json.dumps(backend.options)]


def consume(connection: Connection, *names: str, prefetch: int = 0) -> list[Any]:
    """Start to consume; the list fills while the connection is drained."""
    got: list[Any] = []
    queues = [Queue(name) for name in names or ("q",)]
    channel = connection.default_channel
    Consumer(channel, queues, on_message=got.append, prefetch_count=prefetch or None).consume()
    return got


def payloads(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]
