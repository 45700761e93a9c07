"""After how many deliveries RabbitMQ drops a message. AMQP does not tell, so it is tried out.

The limit may come from a policy, or from RabbitMQ itself (20 since RabbitMQ 4). A message that reaches it is gone
without a word, unless an operator has configured a dead-letter exchange.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import amqp
from kombu import Connection

from paigeant.transports.amqp.link import Link

HIGHEST = 25
"""The highest limit that is looked for, a little above RabbitMQ's own."""

_COMES_BACK_WITHIN = 0.5
"""Seconds in which a message that was given back can be had again."""

_EXPIRES = 60_000
"""Milliseconds after which RabbitMQ deletes the queue of the experiment, if its process does not."""

_CONFIRM_TIMEOUT = 2.0


def delivery_limit(new_connection: Callable[[], Connection], prefix: str) -> int | None:
    """The limit of the quorum queues whose names begin with ``<prefix>.``; None for none, or one above 25.

    Blocks for some tenths of a second.

    Raises:
        amqp.AMQPError, OSError: it could not be tried out.
    """
    link, name = Link(new_connection()), f"{prefix}.limit-{uuid4().hex[:8]}"
    try:
        link.open()
        channel = link.amqp.channel()
        channel.confirm_select()
        arguments = {"x-queue-type": "quorum", "x-expires": _EXPIRES}
        channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        try:
            channel.basic_publish_confirm(
                amqp.basic_message.Message(b""), routing_key=name, confirm_timeout=_CONFIRM_TIMEOUT
            )
            return _survives(channel, name)
        finally:
            with suppress(amqp.AMQPError, OSError):
                channel.queue_delete(name)
    finally:
        link.collect()


def _survives(channel: Any, name: str) -> int | None:
    """How often the message may go back before it is gone."""
    for count in range(HIGHEST + 2):
        message = _got(channel, name)
        if message is None:
            return count - 1 if count else None
        channel.basic_reject(message.delivery_tag, requeue=True)
    return None


def _got(channel: Any, name: str) -> Any:
    until = time.monotonic() + _COMES_BACK_WITHIN
    while (message := channel.basic_get(name)) is None and time.monotonic() < until:
        time.sleep(0.02)
    return message
