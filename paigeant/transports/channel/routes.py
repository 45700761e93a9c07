"""Exchanges, bindings and dead letters, as far as they need no server: by which rules a message finds its queues."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from paigeant.errors import TransportError
from paigeant.transport import Delivery, Outgoing

TYPES = ("direct", "topic", "fanout")

BORN = {f"amq.{kind}": kind for kind in TYPES}
"""Exchanges that are there without having been declared."""

ENVELOPE = "x-kombu"
"""The header in which a message keeps its AMQP properties and content type."""

Letter = tuple[Outgoing, float | None]
"""What is to be published, and after how many seconds it expires (None: never)."""


class Routes(Protocol):
    """What is declared on a server, for every process that uses it.

    Raises everywhere:
        TransportError: there is no such exchange, or it was declared differently.
    """

    def has_queue(self, name: str) -> bool: ...

    def arguments_of(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]: ...

    def declare_exchange(self, name: str, kind: str, declared: Mapping[str, Any]) -> None: ...

    def delete_exchange(self, name: str) -> None: ...

    def type_of(self, exchange: str) -> str: ...

    def bind(self, queue: str, exchange: str, routing_key: str) -> None: ...

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None: ...

    def bindings_of(self, exchange: str | None = None) -> list[tuple[str, str, str]]:
        """(queue, exchange, routing key) of one exchange, or of all."""
        ...

    def targets(self, exchange: str, routing_key: str) -> list[str]:
        """The queues that a message reaches. The exchange ``''`` leads to the queue named by the routing key."""
        ...


def check_type(name: str, kind: str) -> None:
    """Raise TransportError for a type of exchange that is not among :data:`TYPES`."""
    if kind not in TYPES:
        raise TransportError(f"exchange {name!r}: there are no {kind!r} exchanges here", hint=f"use {', '.join(TYPES)}")


def no_exchange(name: str) -> TransportError:
    """The error for an exchange that is not there."""
    return TransportError(f"there is no exchange {name!r}", hint="declare it; was the server wiped?")


def other_exchange(name: str, found: Mapping[str, Any]) -> TransportError:
    """The error for a declaration that contradicts an earlier one."""
    hint = "declare the same, or delete it"
    return TransportError(f"exchange {name!r} was declared differently: {dict(found)}", hint=hint)


def other_queue(name: str, found: Mapping[str, Any]) -> TransportError:
    """The error for a declaration that contradicts an earlier one."""
    hint = "declare the same, or delete it"
    return TransportError(f"queue {name!r} was declared with other arguments: {dict(found)}", hint=hint)


def reached(kind: str, bindings: Iterable[tuple[str, str]], routing_key: str) -> list[str]:
    """The queues that a message with this key reaches by an exchange with these bindings (queue, key)."""
    match kind:
        case "direct":
            return sorted({queue for queue, key in bindings if key == routing_key})
        case "topic":
            words = "." + routing_key
            return sorted({queue for queue, pattern in bindings if _topic(pattern).fullmatch(words)})
        case _:
            return sorted({queue for queue, _ in bindings})


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


def delivery_limit(arguments: Mapping[str, Any]) -> int | None:
    """How often a queue with these arguments lets a message be delivered again before it is a dead letter."""
    limit = arguments.get("x-delivery-limit")
    return limit if isinstance(limit, int) and has_dead_letters(arguments) else None


def dead_letters(
    routes: Lookup, delivery: Delivery, priority: int, arguments: Mapping[str, Any], reason: str, now: float
) -> list[Letter]:
    """The message as it goes to its queue's dead letter exchange, one for each queue it reaches there.

    Raises:
        TransportError: the exchange is gone, or no queue is bound to it for this message.
    """
    envelope = _envelope(delivery)
    address = envelope["properties"].get("delivery_info")
    info = address if isinstance(address, dict) else {}
    exchange = str(arguments["x-dead-letter-exchange"])
    routing_key = str(arguments.get("x-dead-letter-routing-key") or info.get("routing_key") or delivery.queue)
    names = routes.targets(exchange, routing_key)
    if not names:
        raise TransportError(
            f"dead letters of {delivery.queue!r}: exchange {exchange!r} has no queue for {routing_key!r}",
            hint="bind a queue to it",
        )
    headers = {**_with_death(delivery, info, reason, now), ENVELOPE: _readdressed(envelope, exchange, routing_key)}
    limits = routes.arguments_of(names)
    return [
        (
            Outgoing(queue=queue, body=delivery.body, headers=headers, priority=priority),
            seconds(limits.get(queue, {}).get("x-message-ttl")),
        )
        for queue in names
    ]


class Lookup(Protocol):
    """The part of :class:`Routes` that a dead letter needs."""

    def arguments_of(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]: ...

    def targets(self, exchange: str, routing_key: str) -> list[str]: ...


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
        "count": sum(one["count"] if isinstance(one.get("count"), int) else 1 for one in same) + 1,
        "reason": reason,
        "queue": delivery.queue,
        "time": now,
        "exchange": info.get("exchange", ""),
        "routing-keys": [info.get("routing_key", delivery.queue)],
    }
    first = {f"x-first-death-{name}": death[name] for name in ("reason", "queue", "exchange")}
    return {**first, **delivery.headers, "x-death": [death, *(one for one in before if one not in same)]}
