"""A kombu transport over a SQL database, SQLite or PostgreSQL, usable by any kombu program.

    Connection("paigeant+sqlite:///queue.db")  # once paigeant.transports was imported
    Connection("sqlite:///queue.db", transport="paigeant.transports.sql:Transport")

What it can do is said in :mod:`paigeant.transports.channel.channel`, how in :mod:`paigeant.transports.sql.queue`.

Transport options: ``lease_seconds`` (default 30), ``polling_interval`` (seconds, default 0.02, PostgreSQL 0.05),
``clock`` (a :class:`paigeant.runtime.clock.Clock`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import sqlalchemy
from kombu.transport import virtual
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from paigeant.database import MOMENT, Database
from paigeant.transports.channel import channel, routes
from paigeant.transports.channel.programs import keep_to_one_url
from paigeant.transports.sql.queue import SqlQueue
from paigeant.transports.sql.routes import SqlRoutes

LONGEST_STATEMENT = 15.0
"""Seconds. What a queue asks takes milliseconds; a server that is silent for longer is asked over a new connection."""

_SHORTEST = 5.0
"""Seconds that a busy server may need, however short the lease."""

SCHEME = "paigeant"
"""What stands before the database's URL: ``paigeant+sqlite:///queue.db``."""


class SqlQueues(SqlQueue):
    """The queues of a database as the channel uses them."""

    trouble = (SQLAlchemyError,)

    @cached_property
    def routes(self) -> routes.Routes:
        return SqlRoutes(self)

    @cached_property
    def heartbeat(self) -> float | None:
        return None if self.database.in_memory else self.holder.lease_seconds / 3

    @property
    def is_holding(self) -> bool:
        return bool(self.holder.held)


class Transport(virtual.Transport):
    """SQL as a kombu transport. All channels of a connection share one engine."""

    Channel = channel.Channel
    can_parse_url = True
    default_port: Any = 0
    driver_type = "sql"
    driver_name = "paigeant"
    connection_errors: Any = (OperationalError, InterfaceError, PendingRollbackError, OSError)
    recoverable_connection_errors = connection_errors
    recoverable_channel_errors = ()
    implements = virtual.Transport.implements.extend(exchange_type=frozenset(routes.TYPES))

    def __init__(self, client: Any, **kwargs: Any) -> None:
        keep_to_one_url(client, SCHEME)
        lease = float(client.transport_options.get("lease_seconds", 30.0))
        longest = longest_statement(lease)
        self.database = Database(_url(client), client.transport_options.get("clock"), longest_statement=longest)
        self.polling_interval = 0.02 if self.database.is_sqlite else 0.05
        kombu: Any = super()
        kombu.__init__(client, **kwargs)

    def new_queues(self) -> SqlQueues:
        """For a channel."""
        options = self.client.transport_options
        queues = SqlQueues(self.database, float(options.get("lease_seconds", 30.0)))
        if "polling_interval" in options:
            queues.poll = (self.polling_interval, self.polling_interval)
        return queues

    def establish_connection(self) -> Any:
        self.database.migrate("transports")
        kombu: Any = super()
        return kombu.establish_connection()

    def close_connection(self, connection: Any) -> None:
        kombu: Any = super()
        kombu.close_connection(connection)
        self.database.dispose()

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The URL with which any program that has imported paigeant.transports connects to the same database."""
        return f"{SCHEME}+{self.database.url.render_as_string(hide_password=not include_password)}"

    def driver_version(self) -> str:
        return sqlalchemy.__version__


def longest_statement(lease: float) -> float:
    """How many seconds a statement may take: a connection that went silent is found out while its leases last.

    They are renewed when a third is over; another third is for the silence, and the rest for a new connection.
    """
    return min(LONGEST_STATEMENT, max(_SHORTEST, lease / 3 - MOMENT))


def _url(client: Any) -> str:
    """The database's URL. kombu takes what comes before the first plus sign for the name of a transport."""
    prefix = client.uri_prefix
    return str(client.hostname if prefix in (None, SCHEME) else f"{prefix}+{client.hostname}")
