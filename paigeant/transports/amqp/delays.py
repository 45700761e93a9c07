"""Delays on RabbitMQ: a few queues for each prefix, whose messages expire into the queues they are meant for.

A message with a delay goes to an exchange that leads to one queue, with the name of its target as routing key. Each
queue serves the delays up to a number of seconds, each twice that of the one before. A queue lets a message go when it
is due and nothing is before it, so beside others a message may come late, by as much as its delay at most.

Where the server can, they are quorum queues that dead-letter at least once: what is due while its target is missing
waits for the target. On older servers, and with ``queue_type=classic``, they are classic queues, and it is lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_AT_LEAST_ONCE_SINCE = (3, 10)
"""The version of RabbitMQ that brought time to live and safe dead-lettering to quorum queues."""

_EXPIRES = 40 * 86_400_000
"""Milliseconds after which RabbitMQ deletes a queue that nobody has declared again."""

DECLARED_AGAIN_AFTER = 3600.0
"""Seconds after which whoever uses a queue declares it again."""


def level(delay: float) -> int:
    """Seconds of the queue for this delay: the next power of two."""
    seconds = 1
    while seconds < delay:
        seconds *= 2
    return seconds


def delay_queue(target: str, delay: float) -> str:
    """The name of the queue, and of the exchange that leads to it: ``<the target's prefix>.delay.<seconds>``."""
    prefix = target.rpartition(".")[0] or target
    return f"{prefix}.delay.{level(delay)}"


def other_queue(name: str) -> str:
    """The name of the queue that is used in place of one that takes no messages."""
    return f"{name}.other"


def milliseconds(delay: float) -> str:
    """The time to live of a message, rounded up, as AMQP has it."""
    return str(int(-(-delay * 1000 // 1)))


def declare(channel: Any, name: str, arguments: Mapping[str, Any]) -> None:
    """Declare the queue, and the exchange that goes with it."""
    channel.exchange_declare(name, "fanout", durable=True, auto_delete=True)
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=dict(arguments))
    channel.queue_bind(name, name)


def arguments(version: str, queue_type: str) -> dict[str, Any]:
    """What the queues are declared with, on a server of this version."""
    found: dict[str, Any] = {"x-dead-letter-exchange": "", "x-queue-type": "classic", "x-expires": _EXPIRES}
    if queue_type == "quorum" and _numbers(version) >= _AT_LEAST_ONCE_SINCE:
        at_least_once = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
        return found | at_least_once | {"x-queue-type": "quorum"}
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
