"""A kombu transport over Redis Streams. ``pump`` is how paigeant's I/O thread uses a channel.

    Connection("redis://localhost:6379/0", transport="paigeant.transports.redis:Transport")

kombu's own transport, which loses what a dying worker was just receiving, stays reachable as ``kombu+redis://``.

Transport options: ``lease_seconds`` (default 30), ``global_keyprefix`` (default ``paigeant:``).
"""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import virtual

from paigeant.transports.redis_queue import RedisQueue, connect


class Channel(virtual.Channel):
    """A channel with its own connections to Redis."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        options = connection.client.transport_options
        self.pump = RedisQueue(
            connect(connection.client.hostname),
            prefix=options.get("global_keyprefix", "paigeant:"),
            lease_seconds=float(options.get("lease_seconds", 30.0)),
        )


class Transport(virtual.Transport):
    """Redis Streams as a kombu transport."""

    Channel = Channel
    can_parse_url = True
    default_port = 6379
    driver_type = "redis"
    driver_name = "paigeant"
    connection_errors = (redis.exceptions.RedisError, OSError)

    def driver_version(self) -> str:
        return redis.__version__
