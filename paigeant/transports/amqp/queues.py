"""The queues that one process has declared on RabbitMQ, and what RabbitMQ refused to declare."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import amqp

from paigeant.errors import BrokerRefused
from paigeant.transports.amqp import delays
from paigeant.transports.amqp.link import Link

T = TypeVar("T")

_ASKED_AGAIN_AFTER = 1.0
"""Seconds for which a refusal stands, so that many messages to one refused queue do not ask for each of them."""

_QUESTIONS = (40, 50)
"""AMQP's classes of methods about exchanges and about queues."""

_HINT = "compare the queue's arguments and the user's permissions with what docs/how-to/use-rabbitmq.md asks for"


def concerns_queue(error: BaseException) -> bool:
    """Whether RabbitMQ refused a question about one queue, and nothing else."""
    if not isinstance(error, amqp.ChannelError) or not error.method_sig:
        return False
    return error.method_sig[0] in _QUESTIONS


def said(error: BaseException) -> str:
    """RabbitMQ's own words, if it said any."""
    words = getattr(error, "reply_text", None) or str(error).strip() or type(error).__name__
    return str(words).splitlines()[0]


def refusal(name: str, error: BaseException) -> BrokerRefused:
    """That RabbitMQ refuses something about a queue, in its own words."""
    return BrokerRefused(f"RabbitMQ refuses the queue {name!r}: {said(error)}", hint=_HINT)


def asked(link: Link, name: str, question: Callable[[Any], T]) -> T:
    """The answer to a question about a queue.

    Raises:
        BrokerRefused: RabbitMQ refused it.
        amqp.AMQPError, OSError: the connection is lost, or a channel of it for another reason.
    """
    try:
        return link.desk.ask(question)
    except amqp.ChannelError as error:
        if concerns_queue(error):
            raise refusal(name, error) from error
        raise


class Queues:
    """What is known to be there. ``queue_type`` is ``quorum`` or ``classic``."""

    def __init__(self, queue_type: str) -> None:
        self.declared: set[str] = set()
        self._queue_type = queue_type
        self._rejected: dict[str, tuple[float, BrokerRefused]] = {}
        self._declare_again_at: dict[str, float] = {}

    def ensure(self, link: Link, name: str) -> None:
        """Declare the queue unless it was.

        Raises:
            BrokerRefused: RabbitMQ refused it just now, or within the last second.
        """
        self._ensure(link, name, lambda channel: self._declare(channel, name))

    def _declare(self, channel: Any, name: str) -> None:
        channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": self._queue_type})

    def ensure_delay(self, link: Link, name: str) -> None:
        """The same for a queue of delayed messages."""
        if time.monotonic() >= self._declare_again_at.get(name, 0.0):
            self.forget(name)
            self._declare_again_at[name] = time.monotonic() + delays.DECLARED_AGAIN_AFTER
        arguments = delays.arguments(str(link.server.get("version", "")), self._queue_type)
        self._ensure(link, name, partial(delays.declare, name=name, arguments=arguments))

    def _ensure(self, link: Link, name: str, question: Callable[[Any], object]) -> None:
        if name in self.declared:
            return
        until, rejected = self._rejected.get(name, (0.0, None))
        if rejected is not None and time.monotonic() < until:
            raise rejected
        try:
            asked(link, name, question)
        except BrokerRefused as error:
            self._rejected[name] = time.monotonic() + _ASKED_AGAIN_AFTER, error
            raise
        self._rejected.pop(name, None)
        self.declared.add(name)

    def forget(self, name: str) -> None:
        """It is not there any more."""
        self.declared.discard(name)
