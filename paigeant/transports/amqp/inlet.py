"""The channel on which one queue's messages come from RabbitMQ, and everything that is held of them.

Each queue has a channel of its own: when RabbitMQ closes one, because it refuses a consumer or because a delivery was
held for longer than ``consumer_timeout``, the deliveries of the other queues stay.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import amqp
from amqp import spec

from paigeant.errors import BrokerRefused, TransportError
from paigeant.transport import DELIVERED_BEFORE, Delivery, Lease, Term
from paigeant.transports.amqp.link import Link
from paigeant.transports.pump.received import bytes_of, deliveries_of, headers_of, id_of

_LATE_COMERS = 1000
"""Consumers that were cancelled and may still be sent what was on its way."""

_serial = itertools.count(1)  # delivery tags begin anew with every channel


class Inlet:
    """One channel that consumes one queue. ``arrived`` is called with each delivery, ``term`` is that of its lease."""

    def __init__(self, link: Link, queue: str, term: Term, arrived: Callable[[Delivery], None]) -> None:
        self.queue = queue
        self.closed: str | None = None
        """Why RabbitMQ closed the channel, in its words; None while it is open."""
        self.has_ended = False
        """Whether RabbitMQ ended a consumer, as it does when the queue is deleted or moves."""
        self._term = term
        self._number = next(_serial)
        self._arrived = arrived
        self._held: dict[int, Delivery] = {}
        self._done: list[int] = []
        self._consumers: set[str] = set()
        self._late: deque[str] = deque()
        self._desk = link.desk
        self._channel: Any = link.amqp.channel()
        self._channel.auto_decode = False  # by whatever codec of Python's the message names
        self._channel._callbacks[spec.Channel.Close] = self._on_close

    # --- consuming -------------------------------------------------------------------------------------------

    def consume(self, part: int) -> None:
        """Begin one more consumer, which may hold this many deliveries.

        Raises:
            BrokerRefused: RabbitMQ refuses it, and has closed the channel; or it answers, and the queue does not.
        """
        try:
            self._channel.basic_qos(0, part, False)
            receive = self._on_message
            tag = self._channel.basic_consume(self.queue, callback=receive, on_cancel=self._on_cancel)
        except TimeoutError:
            self._give_up()
            raise BrokerRefused(
                f"the queue {self.queue!r} does not answer RabbitMQ, which waits for its leader",
                hint="delete it with rabbitmqctl if it never has one; it is declared again",
            ) from None
        except amqp.RecoverableConnectionError:
            if self.closed is None:
                raise
            raise BrokerRefused(
                f"RabbitMQ refuses a consumer of the queue {self.queue!r}: {self.closed}",
                hint="may the user read it, and is nobody its exclusive consumer?",
            ) from None
        self._consumers.add(tag)

    def _give_up(self) -> None:
        """Have the channel closed once RabbitMQ has time for it. Raises if it answers to nothing else either."""
        self._desk.ask(lambda channel: channel.basic_qos(0, 0, False))
        self.closed = "the queue does not answer"
        self.lose()
        self._channel.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))

    def cancel(self) -> None:
        """End the consumers; what is held can still be settled."""
        while self._consumers and self.closed is None:
            tag = self._consumers.pop()
            self._channel.basic_cancel(tag)
            # What was on its way arrives after all; py-amqp would requeue it, which counts as a crash.
            self._channel.callbacks[tag] = self._on_message
            self._late.append(tag)
            while len(self._late) > _LATE_COMERS:
                self._channel.callbacks.pop(self._late.popleft(), None)

    @property
    def is_consuming(self) -> bool:
        """Whether it has a consumer."""
        return bool(self._consumers)

    def close(self) -> None:
        """Close the channel, on which nothing is held."""
        if self.closed is None:
            self._channel.close()

    # --- what is held ----------------------------------------------------------------------------------------

    @property
    def held(self) -> Mapping[int, Delivery]:
        """The deliveries that are not settled, by their tags on this channel."""
        return self._held

    def holds(self, delivery: Delivery) -> bool:
        """Whether the delivery is held on this channel."""
        return self._held.get(delivery.token) is delivery

    def settle(self, delivery: Delivery) -> None:
        """Have it acknowledged by the next :meth:`acknowledge`."""
        if self._held.pop(delivery.token, None) is not None:
            self._done.append(delivery.token)

    def acknowledge(self) -> None:
        """One frame for each run of tags below which everything is settled, one for each of the others."""
        tags, self._done = self._done, []
        if not tags or self.closed is not None:
            return
        lowest = min(self._held, default=max(tags) + 1)
        below = [tag for tag in tags if tag < lowest]
        if below:
            self._channel.basic_ack(max(below), multiple=True)
        for tag in tags:
            if tag > lowest:
                self._channel.basic_ack(tag)

    @property
    def has_done(self) -> bool:
        """Whether something is to be acknowledged."""
        return bool(self._done)

    def lose(self) -> None:
        """Every delivery is RabbitMQ's again."""
        for delivery in self._held.values():
            delivery.lease.lost = True
        self._held.clear()
        self._done.clear()
        self._consumers.clear()

    # --- what RabbitMQ says ----------------------------------------------------------------------------------

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.closed = text or f"code {code}"
        self.lose()
        self._channel.send_method(spec.Channel.CloseOk)
        self._channel.collect()

    def _on_cancel(self, tag: str) -> None:
        self._consumers.discard(tag)
        self.has_ended = True

    def _on_message(self, message: Any) -> None:
        headers = headers_of(message.properties.get("application_headers"))
        delivery = Delivery(
            queue=self.queue,
            body=bytes_of(message.body),
            tag=self._number,
            token=message.delivery_tag,
            id=id_of(message.properties.get("message_id")),
            headers=headers,
            deliveries=_deliveries(message, headers),
            lease=Lease(self._term),
        )
        self._held[delivery.token] = delivery
        self._arrived(delivery)


def why_closed(inlet: Inlet) -> TransportError:
    """What an operator can do about a channel that RabbitMQ closed."""
    if inlet.closed is not None and "delivery acknowledgement" in inlet.closed:
        return TransportError(
            "RabbitMQ took a delivery back because its step ran longer than the broker's consumer_timeout: "
            "set consumer_timeout in rabbitmq.conf above the timeout of every activity"
        )
    return TransportError(f"RabbitMQ closed the channel of the queue {inlet.queue!r}: {inlet.closed}")


def _deliveries(message: Any, headers: Mapping[str, Any]) -> int:
    """Quorum queues count; of a classic queue only the redelivered flag is known."""
    before = str(headers.get(DELIVERED_BEFORE, ""))
    earlier = int(before) if before.isdecimal() and len(before) < 5 else 0
    return earlier + deliveries_of(headers, message.delivery_info.get("redelivered"))
