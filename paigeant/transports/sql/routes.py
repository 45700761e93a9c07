"""Exchanges, bindings and queue arguments, kept in the database: every process routes by the same ones.

The functions work on the connection they are given; whoever calls them decides about the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, delete, select

from paigeant.database.among import one_of
from paigeant.database.inserting import insert_new
from paigeant.transports.channel import routes
from paigeant.transports.sql.rows import json_object

T = TypeVar("T")

metadata = MetaData()

queues = Table(
    "paigeant_queue",
    metadata,
    Column("name", Text, primary_key=True),
    Column("arguments", Text),
)
exchanges = Table(
    "paigeant_exchange",
    metadata,
    Column("name", Text, primary_key=True),
    Column("type", Text),
    Column("durable", Integer),
    Column("auto_delete", Integer),
    Column("arguments", Text),
)
bindings = Table(
    "paigeant_binding",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("routing_key", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
)


# --- queues ------------------------------------------------------------------------------------------------------


def declare_queues(connection: Connection, names: Sequence[str], arguments: Mapping[str, Any]) -> None:
    """Note the queues.

    Raises:
        TransportError: one of them was declared with other arguments.
    """
    wanted = json.dumps(dict(arguments), sort_keys=True)
    connection.execute(
        insert_new(connection.dialect.name, queues), [{"name": name, "arguments": wanted} for name in names]
    )
    if arguments:
        for name, found in arguments_of(connection, names).items():
            if json.dumps(found, sort_keys=True) != wanted:
                raise routes.other_queue(name, found)


def undeclared(connection: Connection, names: Iterable[str]) -> list[str]:
    """Those of the queues that nobody has declared."""
    names = list(names)
    known = set(connection.execute(select(queues.c.name).where(one_of(queues.c.name, names))).scalars())
    return [name for name in names if name not in known]


def arguments_of(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The arguments of these queues."""
    rows = connection.execute(select(queues.c.name, queues.c.arguments).where(one_of(queues.c.name, names)))
    return {name: json_object(arguments) for name, arguments in rows}


def delete_queue(connection: Connection, name: str) -> None:
    """Forget the queue and its bindings."""
    connection.execute(delete(bindings).where(bindings.c.queue == name))
    connection.execute(delete(queues).where(queues.c.name == name))


# --- exchanges and bindings --------------------------------------------------------------------------------------


def declare_exchange(connection: Connection, name: str, kind: str, declared: Mapping[str, Any]) -> None:
    """Note the exchange; ``declared`` is its ``durable``, ``auto_delete`` and ``arguments``.

    Raises:
        TransportError: it was declared differently, or has a type that does not exist here.
    """
    routes.check_type(name, kind)
    if name in routes.BORN:
        return
    row = {
        "name": name,
        "type": kind,
        "durable": int(declared["durable"]),
        "auto_delete": int(declared["auto_delete"]),
        "arguments": json.dumps(declared["arguments"], sort_keys=True),
    }
    connection.execute(insert_new(connection.dialect.name, exchanges), [row])
    found = connection.execute(select(exchanges).where(exchanges.c.name == name)).one()
    if dict(found._mapping) != row:
        raise routes.other_exchange(name, dict(found._mapping))


def type_of(connection: Connection, exchange: str) -> str:
    """The exchange's type.

    Raises:
        TransportError: there is no such exchange.
    """
    kind: str | None = routes.BORN.get(exchange)
    if kind is None:
        kind = connection.execute(select(exchanges.c.type).where(exchanges.c.name == exchange)).scalar()
    if kind is None:
        raise routes.no_exchange(exchange)
    return kind


def delete_exchange(connection: Connection, name: str) -> None:
    """Forget the exchange and its bindings; its queues stay."""
    connection.execute(delete(bindings).where(bindings.c.exchange == name))
    connection.execute(delete(exchanges).where(exchanges.c.name == name))


def bind(connection: Connection, queue: str, exchange: str, routing_key: str) -> None:
    """Let what is published to the exchange with a key that matches reach the queue.

    Raises:
        TransportError: there is no such exchange.
    """
    type_of(connection, exchange)
    row = {"exchange": exchange, "routing_key": routing_key, "queue": queue}
    connection.execute(insert_new(connection.dialect.name, bindings), [row])


def unbind(connection: Connection, queue: str, exchange: str, routing_key: str) -> None:
    """Undo :func:`bind`."""
    found = delete(bindings).where(bindings.c.exchange == exchange, bindings.c.queue == queue)
    connection.execute(found.where(bindings.c.routing_key == routing_key))


def bindings_of(connection: Connection, exchange: str | None = None) -> list[tuple[str, str, str]]:
    """(queue, exchange, routing key) of one exchange, or of all."""
    rows = select(bindings.c.queue, bindings.c.exchange, bindings.c.routing_key)
    chosen = rows if exchange is None else rows.where(bindings.c.exchange == exchange)
    return [(row[0], row[1], row[2]) for row in connection.execute(chosen.order_by(bindings.c.queue))]


def targets(connection: Connection, exchange: str, routing_key: str) -> list[str]:
    """The queues that a message reaches. The exchange ``''`` leads to the queue named by the routing key.

    Raises:
        TransportError: there is no such exchange.
    """
    if not exchange:
        return [routing_key]
    kind = type_of(connection, exchange)
    found = select(bindings.c.queue, bindings.c.routing_key).where(bindings.c.exchange == exchange)
    if kind == "direct":
        found = found.where(bindings.c.routing_key == routing_key)
    return routes.reached(kind, [(row[0], row[1]) for row in connection.execute(found)], routing_key)


# --- as the channel and the dead letters use them ----------------------------------------------------------------


class Lookup:
    """What can be looked up in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def arguments_of(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        return arguments_of(self._connection, names)

    def targets(self, exchange: str, routing_key: str) -> list[str]:
        return targets(self._connection, exchange, routing_key)


class Caller(Protocol):
    """Who has connections and decides about transactions."""

    def read(self, call: Callable[[Connection], T]) -> T: ...

    def write(self, call: Callable[[Connection], T]) -> T: ...


class SqlRoutes:
    """The routes of a database, each change in a transaction of its own."""

    def __init__(self, caller: Caller) -> None:
        self._read, self._write = caller.read, caller.write

    def has_queue(self, name: str) -> bool:
        return not self._read(lambda reader: undeclared(reader, [name]))

    def arguments_of(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        return self._read(lambda reader: arguments_of(reader, names))

    def declare_exchange(self, name: str, kind: str, declared: Mapping[str, Any]) -> None:
        self._write(lambda writer: declare_exchange(writer, name, kind, declared))

    def delete_exchange(self, name: str) -> None:
        self._write(lambda writer: delete_exchange(writer, name))

    def type_of(self, exchange: str) -> str:
        return self._read(lambda reader: type_of(reader, exchange))

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        self._write(lambda writer: bind(writer, queue, exchange, routing_key))

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        self._write(lambda writer: unbind(writer, queue, exchange, routing_key))

    def bindings_of(self, exchange: str | None = None) -> list[tuple[str, str, str]]:
        return self._read(lambda reader: bindings_of(reader, exchange))

    def targets(self, exchange: str, routing_key: str) -> list[str]:
        return self._read(lambda reader: targets(reader, exchange, routing_key))
