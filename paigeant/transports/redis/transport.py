"""A kombu transport over Redis Streams, usable by any kombu program.

    Connection("redis-streams+redis://localhost:6379/0")  # once paigeant.transports was imported
    Connection("redis://localhost:6379/0", transport="paigeant.transports.redis:Transport")

Features: :mod:`paigeant.transports.channel.channel`. Mechanism: :mod:`paigeant.transports.redis.queue`. URLs:
:mod:`paigeant.transports.redis.client`. kombu's own transport, which loses what a dying worker was
just receiving, stays reachable as ``kombu+redis://``.

Transport options: ``lease_seconds`` (default 30), ``global_keyprefix`` (default ``paigeant:``), ``polling_interval``
(seconds, default 0.01; looking for a wake-up costs Redis nothing), ``clock`` (a :class:`paigeant.runtime.clock.Clock`),
``master_name`` and ``sentinel_kwargs``.
"""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import virtual

from paigeant.runtime.urls import masked
from paigeant.transports.channel import channel, routes
from paigeant.transports.channel.programs import keep_to_one_url
from paigeant.transports.redis.client import about, connect
from paigeant.transports.redis.queue import RedisQueue

SCHEME = "redis-streams"
"""What stands before the server's URL: ``redis-streams+redis://localhost``."""


class Transport(virtual.Transport):
    """Redis Streams as a kombu transport. Every channel has connections of its own."""

    Channel = channel.Channel
    can_parse_url = True
    default_port: Any = 6379
    driver_type = "redis"
    driver_name = "paigeant"
    polling_interval = 0.01
    connection_errors: Any = (redis.exceptions.RedisError, OSError)
    recoverable_connection_errors = connection_errors
    recoverable_channel_errors = ()
    implements = virtual.Transport.implements.extend(exchange_type=frozenset(routes.TYPES))

    def __init__(self, client: Any, **kwargs: Any) -> None:
        keep_to_one_url(client, SCHEME)
        kombu: Any = super()
        kombu.__init__(client, **kwargs)

    def new_queues(self) -> RedisQueue:
        """For a channel."""
        options = self.client.transport_options
        return RedisQueue(
            connect(self._url, options),
            address=masked(self._url),
            prefix=options.get("global_keyprefix", "paigeant:"),
            lease_seconds=float(options.get("lease_seconds", 30.0)),
            clock=options.get("clock"),
        )

    @property
    def _url(self) -> str:
        return str(self.client.hostname)

    def establish_connection(self) -> Any:
        with connect(self._url, self.client.transport_options) as client:
            about(client)
        kombu: Any = super()
        return kombu.establish_connection()

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The URL with which any program that has imported paigeant.transports connects to the same server."""
        return f"{SCHEME}+{self._url if include_password else masked(self._url)}"

    def driver_version(self) -> str:
        return redis.__version__
