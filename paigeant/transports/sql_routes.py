"""Exchanges, bindings and queue arguments, kept in the database: every process routes by the same ones.

The functions work on the connection they are given; whoever calls them decides about the transaction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from paigeant.errors import TransportError
from paigeant.transport import Delivery, Outgoing

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

TYPES = ("direct", "topic", "fanout")

_BORN = {f"amq.{kind}": kind for kind in TYPES}
"""Exchanges that are there without having been declared."""

ENVELOPE = "x-kombu"
"""The header in which a message keeps its AMQP properties and content type."""

Letter = tuple[Outgoing, float | None]
"""What is to be published, and after how many seconds it expires (None: never)."""


def insert_new(connection: Connection, table: Table) -> Any:
    """Insert the rows that are not there yet."""
    return _insert_new(connection.dialect.name, table)


@lru_cache
def _insert_new(dialect: str, table: Table) -> Any:
    return (sqlite if dialect == "sqlite" else postgresql).insert(table).on_conflict_do_nothing()


# --- queues ------------------------------------------------------------------------------------------------------


def declare_queues(connection: Connection, names: Sequence[str], arguments: Mapping[str, Any]) -> None:
    """Note the queues.

    Raises:
        TransportError: one of them was declared with other arguments.
    """
    wanted = json.dumps(dict(arguments), sort_keys=True)
    connection.execute(insert_new(connection, queues), [{"name": name, "arguments": wanted} for name in names])
    if arguments:
        for name, found in arguments_of(connection, names).items():
            if json.dumps(found, sort_keys=True) != wanted:
                raise TransportError(
                    f"queue {name!r} was declared with other arguments: {found}", hint="declare the same, or delete it"
                )


def undeclared(connection: Connection, names: Iterable[str]) -> list[str]:
    """Those of the queues that nobody has declared."""
    names = list(names)
    known = set(connection.execute(select(queues.c.name).where(queues.c.name.in_(names))).scalars())
    return [name for name in names if name not in known]


def arguments_of(connection: Connection, names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The arguments of these queues; without names, of all queues that have any."""
    chosen = queues.c.arguments != "{}" if names is None else queues.c.name.in_(names)
    rows = connection.execute(select(queues.c.name, queues.c.arguments).where(chosen))
    return {name: json.loads(arguments) for name, arguments in rows}


def delete_queue(connection: Connection, name: str) -> None:
    """Forget the queue and its bindings."""
    connection.execute(delete(bindings).where(bindings.c.queue == name))
    connection.execute(delete(queues).where(queues.c.name == name))


# --- exchanges and bindings --------------------------------------------------------------------------------------


def declare_exchange(connection: Connection, name: str, kind: str, declared: Mapping[str, Any]) -> None:
    """Note the exchange; ``declared`` is its ``durable``, ``auto_delete`` and ``arguments``.

    Raises:
        TransportError: it was declared differently, or has a type that is not among :data:`TYPES`.
    """
    if kind not in TYPES:
        raise TransportError(f"exchange {name!r}: there are no {kind!r} exchanges here", hint=f"use {', '.join(TYPES)}")
    if name in _BORN:
        return
    row = {
        "name": name,
        "type": kind,
        "durable": int(declared["durable"]),
        "auto_delete": int(declared["auto_delete"]),
        "arguments": json.dumps(declared["arguments"], sort_keys=True),
    }
    connection.execute(insert_new(connection, exchanges), [row])
    found = connection.execute(select(exchanges).where(exchanges.c.name == name)).one()
    if dict(found._mapping) != row:
        raise TransportError(
            f"exchange {name!r} was declared differently: {dict(found._mapping)}", hint="declare the same, or delete it"
        )


def type_of(connection: Connection, exchange: str) -> str:
    """The exchange's type.

    Raises:
        TransportError: there is no such exchange.
    """
    kind: str | None = _BORN.get(exchange)
    if kind is None:
        kind = connection.execute(select(exchanges.c.type).where(exchanges.c.name == exchange)).scalar()
    if kind is None:
        raise TransportError(f"there is no exchange {exchange!r}", hint="declare it; was the database wiped?")
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
    connection.execute(insert_new(connection, bindings), [row])


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
    rows = connection.execute(found).all()
    return sorted({queue for queue, pattern in rows if kind != "topic" or _topic(pattern).fullmatch("." + routing_key)})


@lru_cache(maxsize=1024)
def _topic(pattern: str) -> re.Pattern[str]:
    """Words between dots; ``*`` stands for one word, ``#`` for none or more. Matched with a dot before each word."""
    wild = {"*": r"\.[^.]*", "#": r"(?:\.[^.]*)*"}
    return re.compile("".join(wild.get(word, re.escape("." + word)) for word in pattern.split(".")))


# --- dead letters ------------------------------------------------------------------------------------------------


def seconds(milliseconds: Any) -> float | None:
    """A time as AMQP writes it, in seconds; None for what is no number."""
    try:
        return float(milliseconds) / 1000
    except (TypeError, ValueError):
        return None


def has_dead_letters(arguments: Mapping[str, Any]) -> bool:
    """Whether a queue with these arguments passes on what it drops."""
    return "x-dead-letter-exchange" in arguments


def dead_letters(
    connection: Connection, delivery: Delivery, priority: int, arguments: Mapping[str, Any], reason: str, now: float
) -> list[Letter]:
    """The message as it goes to its queue's dead letter exchange, one for each queue it reaches there.

    Raises:
        TransportError: the exchange is gone, or no queue is bound to it for this message.
    """
    envelope = _envelope(delivery)
    info = envelope["properties"].get("delivery_info") or {}
    exchange = str(arguments["x-dead-letter-exchange"])
    routing_key = str(arguments.get("x-dead-letter-routing-key") or info.get("routing_key") or delivery.queue)
    reached = targets(connection, exchange, routing_key)
    if not reached:
        raise TransportError(
            f"dead letters of {delivery.queue!r}: exchange {exchange!r} has no queue for {routing_key!r}",
            hint="bind a queue to it",
        )
    headers = {**_with_death(delivery, info, reason, now), ENVELOPE: _readdressed(envelope, exchange, routing_key)}
    limits = arguments_of(connection, reached)
    return [
        (
            Outgoing(queue=queue, body=delivery.body, headers=headers, priority=priority),
            seconds(limits.get(queue, {}).get("x-message-ttl")),
        )
        for queue in reached
    ]


def _envelope(delivery: Delivery) -> dict[str, Any]:
    found = delivery.headers.get(ENVELOPE)
    return found if isinstance(found, dict) and isinstance(found.get("properties"), dict) else {"properties": {}}


def _readdressed(envelope: Mapping[str, Any], exchange: str, routing_key: str) -> dict[str, Any]:
    """A dead letter has a new address and does not expire a second time."""
    properties = {name: value for name, value in envelope["properties"].items() if name != "expiration"}
    address = {"exchange": exchange, "routing_key": routing_key}
    return {**envelope, "properties": {**properties, "delivery_info": address}}


def _with_death(delivery: Delivery, info: Mapping[str, Any], reason: str, now: float) -> dict[str, Any]:
    """The headers with what RabbitMQ notes of a dead letter: ``x-death``, latest first, and ``x-first-death-*``."""
    deaths = delivery.headers.get("x-death")
    before = [one for one in deaths if isinstance(one, dict)] if isinstance(deaths, list) else []
    same = [one for one in before if (one.get("queue"), one.get("reason")) == (delivery.queue, reason)]
    death = {
        "count": sum(int(one.get("count", 1)) for one in same) + 1,
        "reason": reason,
        "queue": delivery.queue,
        "time": now,
        "exchange": info.get("exchange", ""),
        "routing-keys": [info.get("routing_key", delivery.queue)],
    }
    first = {f"x-first-death-{name}": death[name] for name in ("reason", "queue", "exchange")}
    return {**first, **delivery.headers, "x-death": [death, *(one for one in before if one not in same)]}
