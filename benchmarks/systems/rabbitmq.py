"""Taking back from RabbitMQ what a measurement declared there."""

from __future__ import annotations

from collections.abc import Iterable


def delete(url: str, queues: Iterable[str], exchanges: Iterable[str] = ()) -> None:
    """Delete these queues and exchanges; those that do not exist are no error."""
    from kombu import Connection

    with Connection(url, connect_timeout=5) as connection, connection.channel() as channel:
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)
