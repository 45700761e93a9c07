"""Inserting messages: published ones, and those that a queue drops to its dead letter exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row, delete

from paigeant.database.inserting import insert_new
from paigeant.database.prepared import execute
from paigeant.errors import TransportError
from paigeant.transports.channel import routes
from paigeant.transports.sql import routes as sql_routes
from paigeant.transports.sql import statements as sql
from paigeant.transports.sql.rows import delivery_of, row_of
from paigeant.transports.sql.session import Transaction

log = structlog.stdlib.get_logger("paigeant.transport")


class Publishing:
    """Writes messages. ``published`` is called when one came that may be ours."""

    def __init__(self, published: Callable[[], None]) -> None:
        self._published = published
        self._declared: set[str] = set()
        self._limits: dict[str, int | None] = {}
        self._stuck: set[tuple[str, str]] = set()

    # --- queues --------------------------------------------------------------------------------------------------

    def declared(self, names: Iterable[str]) -> None:
        """Note that the queues exist."""
        self._declared.update(names)

    def deleted(self, name: str) -> None:
        """The queue does not exist any more."""
        self._declared.discard(name)

    def forget(self) -> None:
        """Whether the queues exist is unknown."""
        self._declared.clear()

    def forget_limits(self) -> None:
        """Read the delivery limits again before they are used."""
        self._limits.clear()

    def delivery_limits(self, connection: Connection, names: Sequence[str]) -> dict[str, int]:
        """How often those of these queues that say so let a message be delivered again before it is a dead letter."""
        if unknown := [name for name in names if name not in self._limits]:
            found = sql_routes.arguments_of(connection, unknown)
            self._limits |= {name: routes.delivery_limit(found.get(name, {})) for name in unknown}
        return {name: limit for name in names if (limit := self._limits[name]) is not None}

    # --- messages ------------------------------------------------------------------------------------------------

    def publish(self, at: Transaction, letters: Sequence[routes.Letter]) -> None:
        """The same message waits in a queue once, however often it is published. A message ages when it is due."""
        rows = [row_of(one, expires, at.now) for one, expires in letters]
        if rows:
            for one, _ in letters:
                at.news.came(one.queue, one.delay)
            self._note_queues(at, (one.queue for one, _ in letters))
            execute(at.writer, insert_new(at.writer.dialect.name, sql.messages), rows)
            self._published()

    def _note_queues(self, at: Transaction, names: Iterable[str]) -> None:
        if new := set(names) - self._declared:
            sql_routes.declare_queues(at.writer, sorted(new), {})
            self._declared |= new

    def drop(self, at: Transaction, row: Row[Any], reason: str) -> None:
        """Take a message out of its queue and send it to the queue's dead letter exchange, if it has one.

        Raises:
            TransportError: the exchange leads nowhere; the message stays.
        """
        arguments = sql_routes.arguments_of(at.writer, [row.queue]).get(row.queue, {})
        letters: list[routes.Letter] = []
        if routes.has_dead_letters(arguments):
            lookup = sql_routes.Lookup(at.writer)
            letters = routes.dead_letters(lookup, delivery_of(row), row.priority, arguments, reason, at.now)
        at.writer.execute(delete(sql.messages).where(sql.messages.c.id == row.id))
        self.publish(at, letters)

    def is_dropped(self, at: Transaction, row: Row[Any], reason: str) -> bool:
        """Drop the message; False, with a log line for each queue, when its dead letter exchange leads nowhere."""
        try:
            self.drop(at, row, reason)
        except TransportError as error:
            if (row.queue, reason) not in self._stuck:
                log.warning("a dead letter stays where it is", queue=row.queue, reason=reason, error=str(error))
            self._stuck.add((row.queue, reason))
            return False
        self._stuck.discard((row.queue, reason))
        return True

    def is_worn_out(self, at: Transaction, row: Row[Any], limits: Mapping[str, int]) -> bool:
        """Whether the message was delivered more often than its queue allows, and was dropped for that."""
        limit = limits.get(row.queue)
        return limit is not None and row.deliveries - 1 > limit and self.is_dropped(at, row, "delivery_limit")
