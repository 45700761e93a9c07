"""A channel for questions that RabbitMQ may refuse: it closes the channel of whoever asked, and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import amqp

T = TypeVar("T")


class Desk:
    """One spare channel of a connection, opened when it is first needed. After a refusal there is a new one.

    Declarations, purges and depths go here, so that a refusal (403, 404, 405, 406) costs no delivery and no confirm.
    """

    def __init__(self, connection: amqp.Connection) -> None:
        self._connection = connection
        self._channel: Any = None

    def ask(self, question: Callable[[Any], T]) -> T:
        """The value of ``question(channel)``.

        Raises:
            amqp.ChannelError: RabbitMQ refused it; the connection and its other channels stay open.
            amqp.ConnectionError, OSError: the connection is lost.
        """
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        return question(self._channel)
