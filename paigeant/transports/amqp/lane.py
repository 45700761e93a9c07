"""One channel on which the messages to one queue are published and confirmed.

RabbitMQ serves a channel one request at a time, and may wait a minute for a queue that has no leader. On a channel of
its own such a queue delays nobody else's messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import amqp
from amqp import spec

from paigeant.transports.amqp.link import Link

T = TypeVar("T")


class LaneClosed(Exception):
    """RabbitMQ closed the channel, because of one of the messages on it; ``error`` says why."""

    def __init__(self, lane: Lane[Any], error: BaseException) -> None:
        super().__init__(str(error))
        self.lane = lane
        self.error = error


class Lane(Generic[T]):
    """Remembers what was sent to one queue, by the numbers that RabbitMQ confirms.

    ``on_ack`` and ``on_nack`` are called with the messages that a confirm or a refusal is about, ``on_return`` with the
    exchange and the routing key of what had no queue.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        on_ack: Callable[[list[T]], None],
        on_nack: Callable[[list[T]], None],
        on_return: Callable[[Lane[T], str, str], None],
    ) -> None:
        self.name = name
        self.sent: dict[int, T] = {}
        self._count = 0
        self._channel: Any = link.amqp.channel()
        self._channel.confirm_select()
        self._channel._callbacks[spec.Channel.Close] = self._on_close
        self._channel.events["basic_ack"].add(lambda tag, multiple: on_ack(self._taken(tag, multiple)))
        self._channel.events["basic_nack"].add(lambda tag, multiple: on_nack(self._taken(tag, multiple)))
        self._channel.events["basic_return"].add(
            lambda _reason, exchange, key, _message: on_return(self, exchange, key)
        )

    def send(self, item: T, exchange: str, routing_key: str, message: Any) -> None:
        """Publish one message; it is returned if it has no queue."""
        self._count += 1
        self.sent[self._count] = item
        self._channel.send_method(spec.Basic.Publish, "Bssbb", (0, exchange, routing_key, True, False), message)

    def take_all(self) -> list[T]:
        """What is not confirmed; a confirm that comes now concerns nothing any more."""
        sent, self.sent = self.sent, {}
        return list(sent.values())

    def _taken(self, tag: int, multiple: bool) -> list[T]:
        """The messages that a confirm is about."""
        tags = [tag] if not multiple else [one for one in self.sent if one <= tag]
        return [self.sent.pop(one) for one in tags if one in self.sent]

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self._channel.send_method(spec.Channel.CloseOk)
        self._channel.collect()
        kind = amqp.ChannelError
        raise LaneClosed(self, amqp.exceptions.error_for_code(code, text, (class_id, method_id), kind))
