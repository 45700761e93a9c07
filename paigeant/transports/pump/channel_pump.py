"""The pump for any kombu channel: publish, then acknowledge, then drain, one after another.

Nothing here is atomic: between the publish and the acknowledgement a crash leaves two copies with one message id.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from functools import partial
from queue import Empty
from typing import Any

import structlog
from kombu import Connection, Consumer, Producer, Queue

from paigeant.errors import TransportError
from paigeant.transport import Delivery, Ledger
from paigeant.transports.pump.diagnosis import LOST, OURS, REFUSED, Diagnosis
from paigeant.transports.pump.hearing import Hearing
from paigeant.transports.pump.received import (
    UNREADABLE,
    bytes_of,
    deliveries_of,
    guard,
    guard_consumer,
    headers_of,
    id_of,
)
from paigeant.transports.pump.settlement import Settlement

log = structlog.stdlib.get_logger("paigeant.transport")

_CONFIRM_TIMEOUT = 5.0
_tags = itertools.count(1)
_notes: dict[str, float] = {}


class ChannelPump:
    """One connection, one channel for both ways; used by the I/O thread alone."""

    keeps_leases = False
    obstacle: str | None = None
    glances = None

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: Any = connection.default_channel
        guard(self._channel)
        self._producer = Producer(self._channel, auto_declare=False)
        self._consumers: dict[str, Consumer] = {}  # by queue
        self._declared: set[str] = set()
        self._arrived: list[Delivery] = []
        self._hearing = Hearing()
        self._prefetch = 0
        self._held: dict[int, tuple[Delivery, Any]] = {}

    @property
    def patience(self) -> float | None:
        """Brokers kombu can only poll are asked a hundred times a second."""
        return 0.01 if self._consumers else None

    def fileno(self) -> int | None:
        return None

    def open(self) -> None:
        """The connection was made by the channel already."""

    def disconnect(self) -> None:
        """Every delivery of this connection is lost: the broker will hand it out again."""
        for delivery, _ in self._held.values():
            delivery.lease.lost = True
        self._held.clear()

    def close(self) -> None:
        """Give back what is held; the connection is released by the bridge."""
        for _, message in self._held.values():
            message.requeue()
        self.disconnect()

    def finish(self) -> None:
        """The broker tells others."""

    def enlist(self, ledger: Ledger) -> None:
        raise NotImplementedError("this channel has no transactions to join")

    def renew(self) -> None:
        """The connection is the lease."""

    def diagnose(self, error: BaseException) -> Diagnosis:
        """What the error concerns, as far as kombu tells."""
        kinds = (*self._connection.connection_errors, *self._connection.channel_errors, OSError, TransportError)
        if isinstance(error, kinds):
            return LOST
        return OURS if isinstance(error, AttributeError | TypeError | NameError) else REFUSED

    def declare(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._declared:
                self._queue(name).declare()
                self._declared.add(name)

    def purge(self, name: str) -> int:
        self.declare([name])
        return self._queue(name).purge() or 0

    def delete(self, name: str) -> None:
        self.purge(name)  # kombu's virtual transports keep the messages of a queue without bindings
        self._queue(name).delete()
        self._declared.discard(name)

    def depth(self, name: str) -> int:
        return int(self._queue(name).queue_declare(passive=False).message_count)

    def depths(self) -> Mapping[str, int]:
        """kombu cannot list the queues of a broker; those used here are known."""
        return {name: self.depth(name) for name in sorted(self._declared)}

    def note(self, key: str, seconds: float) -> None:
        """Only memory has a place for notes: what lives there dies with the process, as its messages do."""
        if self._is_in_memory:
            now = time.monotonic()
            for old in [old for old, until in _notes.items() if until <= now]:
                del _notes[old]
            _notes[key] = now + seconds

    def noted(self, key: str) -> bool | None:
        """None for a broker that is somewhere else."""
        return _notes.get(key, 0.0) > time.monotonic() if self._is_in_memory else None

    @property
    def _is_in_memory(self) -> bool:
        return bool(self._connection.transport.driver_type == "memory")

    def subscribe(self, names: Sequence[str], prefetch: int) -> None:
        self._hearing.heard()
        self._prefetch = prefetch
        while self._consumers:
            self._consumers.popitem()[1].cancel()
        self.declare(names)
        for name in names:
            receive = partial(self._on_message, name)
            consumer = Consumer(
                self._channel,
                [self._queue(name)],
                on_message=receive,
                on_decode_error=lambda message, error, receive=receive: receive(message),
                auto_declare=False,
                prefetch_count=prefetch,
            )
            consumer.consume()
            guard_consumer(self._channel, name)
            self._consumers[name] = consumer

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        accepted = [self._settle(settlement) for settlement in settlements]
        if self._consumers and limit > 0:
            self._widen(len(self._held) + limit)
            self._drain(limit)
        self._check_hearing(limit)
        taken, self._arrived = self._arrived, []
        return accepted, taken

    def _widen(self, prefetch: int) -> None:
        """So many may be out from now on, if that is more than before."""
        if prefetch > self._prefetch:
            self._prefetch = prefetch
            self._channel.basic_qos(0, prefetch, False)

    def _settle(self, settlement: Settlement) -> bool:
        delivery = settlement.delivery
        if delivery is not None and delivery.tag not in self._held:
            return settlement.release_after is not None
        for one in settlement.outgoing:
            self.declare([one.queue])
            self._producer.publish(
                one.body,
                routing_key=one.queue,
                exchange="",
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                priority=one.priority,
                headers=dict(one.headers),
                message_id=one.id,
                confirm_timeout=_CONFIRM_TIMEOUT,
            )
        if delivery is not None:
            _, message = self._held.pop(delivery.tag)
            if settlement.release_after is None:
                message.ack()
            else:
                message.requeue()
        return True

    def _drain(self, limit: int) -> None:
        try:
            while len(self._arrived) < limit:
                self._connection.drain_events(timeout=0.001)
        except (TimeoutError, Empty):
            pass
        except UNREADABLE as error:
            log.error("kombu cannot read an item of a queue and has dropped it", error=type(error).__name__)

    def _check_hearing(self, limit: int) -> None:
        if self._arrived or self._held or not self._consumers or limit <= 0:
            self._hearing.heard()
        else:
            self._hearing.check(self._consumers, self.depth, lambda: bool(self._arrived))

    def _on_message(self, queue: str, message: Any) -> None:
        tag, headers = next(_tags), headers_of(message.headers)
        redelivered = message.delivery_info.get("redelivered") or getattr(message, "redelivered", False)
        delivery = Delivery(
            queue=queue,
            body=bytes_of(message.body),
            tag=tag,
            id=id_of(message.properties.get("message_id")),
            headers=headers,
            deliveries=deliveries_of(headers, redelivered),
            priority=_number(message.properties.get("priority")),
        )
        self._held[tag] = (delivery, message)
        self._arrived.append(delivery)

    def _queue(self, name: str) -> Any:
        return Queue(name, routing_key=name, durable=True, channel=self._channel)


def _number(found: Any) -> int:
    return found if isinstance(found, int) and 0 <= found <= 9 else 0
