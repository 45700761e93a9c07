"""Wake-ups between the processes that share a PostgreSQL database, by LISTEN and NOTIFY. SQLite is polled instead.

A wake-up is only a hint to look now: nothing depends on it, and every listener also polls once a second.
Therefore it is sent after its transaction and not in it: a NOTIFY makes the commits of a whole PostgreSQL
server wait for each other, for as long as a commit takes, and on its own it takes no time.

The connection that listens is the one that reads, so that a broken one is found out like any broken connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from paigeant.database import Database
from paigeant.runtime.io_thread import readable

log = structlog.stdlib.get_logger("paigeant.database")

QUEUE, END, EVENT = "queue", "end", "event"
"""The topics of wake-ups: messages in queues, workflows that have ended, workflows with new events."""

LONGEST_SLEEP = 1.0
"""Seconds after which a listener polls, because some changes send no wake-up, and one may be lost."""

_PROBE = "probe"
_PROBE_PATIENCE = 0.25
_PROBES, _PROBE_EVERY = 3, 10.0
_LARGEST_PAYLOAD = 7900
"""Bytes; PostgreSQL takes less than 8000."""

Heard = tuple[str, frozenset[str] | None]
"""The topic of a wake-up, and the queues or workflows it names; None for any."""


class Listener:
    """Receives and sends wake-ups on one connection in autocommit mode. Only the connection's thread uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None
        self._topics: set[str] = set()
        self._heard: list[Heard] = []
        self._probe = ""
        self._probes = 0
        self._probe_at = 0.0
        self.is_reliable = False
        """Whether wake-ups of other connections arrive here: not over SQLite, nor through a pooler of transactions."""

    @property
    def has_news(self) -> bool:
        """Whether a wake-up arrived, perhaps during a query, that :meth:`take` has not returned."""
        return bool(self._heard) or self.is_broken

    @property
    def is_broken(self) -> bool:
        """Whether :meth:`tell`, which raises nothing, found the connection broken."""
        return self._connection is not None and bool(self._connection.closed)

    def fileno(self) -> int | None:
        """Return the socket on which wake-ups arrive. A broken connection has none."""
        return None if self._connection is None or self.is_broken else int(self._connection.fileno())

    def listen(self, reader: Connection, *topics: str) -> None:
        """Listen on this connection. This costs nothing if it listens already."""
        if self._database.is_sqlite:
            return
        connection: Any = reader.connection.driver_connection
        if connection is not self._connection:
            self.forget()
            connection.add_notify_handler(lambda one: self._hear(one.channel, one.payload, one.pid))
            self._connection = connection
        for topic in (*topics, *([] if self.is_reliable else [_PROBE])):
            if topic not in self._topics:
                self._execute(f'LISTEN "{self._channel(topic)}"')
                self._topics.add(topic)
        if not self.is_reliable and self._probes < _PROBES and time.monotonic() >= self._probe_at:
            self._try_it()

    def rest(self) -> None:
        """Stop listening until :meth:`listen` is called again. The connection stays open."""
        if self._topics:
            self._execute("UNLISTEN *")
            self._topics.clear()
        self._heard.clear()

    def forget(self) -> None:
        """Forget the connection, because it was closed."""
        self._connection = None
        self._topics.clear()
        self._heard.clear()
        self.is_reliable = False
        self._probes = 0
        self._probe_at = 0.0

    def take(self) -> list[Heard]:
        """Return the wake-ups since the last call.

        Raises:
            OperationalError: the connection is broken.
        """
        if self._connection is not None:
            self._receive()
        heard, self._heard = self._heard, []
        return heard

    def tell(self, reader: Callable[[], Connection], news: Mapping[str, Collection[str]]) -> None:
        """Wake the listeners for these names. This never fails, because the change itself is committed already."""
        if self._database.is_sqlite or not any(news.values()):
            return
        channels = [self._channel(topic) for topic, names in news.items() if names]
        payloads = [_payload(names) for names in news.values() if names]
        try:
            connection: Any = reader().connection.driver_connection
            connection.execute(_NOTIFY, (channels, payloads))
        except (SQLAlchemyError, self._errors) as error:
            log.debug("could not wake the others", error=str(error))

    # --- what comes ------------------------------------------------------------------------------------------

    @property
    def _errors(self) -> Any:
        dialect: Any = self._database.engine.dialect
        return dialect.loaded_dbapi.Error

    def _receive(self) -> None:
        wire = self._connection.pgconn
        with self._broken():
            wire.consume_input()
            while (one := wire.notifies()) is not None:
                self._hear(one.relname.decode(), one.extra.decode(errors="replace"), one.be_pid)

    def _execute(self, statement: str) -> None:
        with self._broken():
            self._connection.execute(statement)

    @contextmanager
    def _broken(self) -> Iterator[None]:
        """Turn errors of the driver into SQLAlchemy's."""
        try:
            yield
        except self._errors as error:
            raise OperationalError("LISTEN", None, error, connection_invalidated=True) from error

    def _hear(self, channel: str, payload: str, sender: int) -> None:
        if channel == self._channel(_PROBE):
            self.is_reliable |= bool(self._probe) and payload == self._probe
        elif sender != self._connection.info.backend_pid:
            topic = next((one for one in self._topics if self._channel(one) == channel), None)
            if topic is not None:
                self._heard.append((topic, _names(payload)))

    def _try_it(self) -> None:
        """Send a probe from another connection. While this one is idle, a pooler cannot deliver the probe to it."""
        self._probe, self._probes = uuid4().hex, self._probes + 1
        self._probe_at = time.monotonic() + _PROBE_EVERY
        with self._broken(), self._database.reader() as other:
            caller: Any = other.connection.driver_connection
            caller.execute(_NOTIFY, ([self._channel(_PROBE)], [self._probe]))
        give_up = time.monotonic() + _PROBE_PATIENCE
        while not self.is_reliable and (left := give_up - time.monotonic()) > 0:
            with self._broken():
                readable([self._connection.fileno()], left)
            self._receive()
        self._probe = ""
        if not self.is_reliable and self._probes == _PROBES:
            log.warning(
                "PostgreSQL's notifications do not arrive, so the database is asked many times a second; "
                "is there a connection pooler in transaction mode? Connect to the server itself"
            )

    def _channel(self, topic: str) -> str:
        return f"paigeant_{topic}_{self._database.schema}".encode()[:63].decode(errors="ignore")


_NOTIFY = "SELECT pg_notify(channel, payload) FROM unnest(%s::text[], %s::text[]) AS one (channel, payload)"


def _payload(names: Iterable[str]) -> str:
    """Return the names as JSON, or an empty text for any name if there are too many."""
    text = json.dumps(sorted(names))
    return text if len(text) <= _LARGEST_PAYLOAD else ""


def _names(payload: str) -> frozenset[str] | None:
    """Return the names in a payload, or None for any name. Any program may send a payload that cannot be read."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return frozenset(str(name) for name in found) if isinstance(found, list) else None
