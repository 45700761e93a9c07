"""The pump for RabbitMQ: confirmed publishes in one round, then grouped acknowledgements, on one connection.

What py-amqp leaves to its caller is done here: publishing with ``mandatory`` (an unroutable message is confirmed
otherwise), matching confirms to publishes by delivery tag (py-amqp credits a late confirm to the next publish),
a time limit on confirms, and heartbeats that do not depend on user code. Any doubt ends the connection.

Queues are quorum queues, because those count deliveries, unless the URL asks for classic ones. A delay is a queue whose
messages expire into the real one; RabbitMQ deletes it when it has not been used.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import amqp
import structlog
from kombu import Connection

from paigeant.errors import TransportError
from paigeant.transport import Delivery, Ledger, Outgoing
from paigeant.transports.amqp_frames import frame_handler
from paigeant.transports.amqp_parts import Parts
from paigeant.transports.amqp_prefetch import Prefetch
from paigeant.transports.hearing import Hearing
from paigeant.transports.received import bytes_of, deliveries_of, headers_of, id_of
from paigeant.transports.settlement import Settlement

log = structlog.stdlib.get_logger("paigeant.transport")

CONFIRM_TIMEOUT = 5.0
"""Seconds in which RabbitMQ must confirm a batch of publishes."""

_FRAME_TIMEOUT = 5.0
_LONGEST_REST = 5.0
_PERSISTENT = 2
_LATE_COMERS = 1000
"""Consumers that were cancelled and may still be sent what was on its way."""

_generations = itertools.count(1)  # delivery tags begin anew with every connection
_DELIVERED_BEFORE = "paigeant-deliveries"
"""The header in which a message that was given back, as a copy, keeps the count of the deliveries before."""

_DELAY_QUEUE_SPARE = 60_000
"""Milliseconds a delay queue outlives the last message that was put into it."""


class AmqpPump:
    """One AMQP connection with a channel to publish on and one to consume on."""

    keeps_leases = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        options = connection.transport_options or {}
        connection.transport_options = options | {"frame_handler": frame_handler}
        self._arguments = {"x-queue-type": options.get("queue_type", "quorum")}
        self._declared: set[str] = set()
        self._unconfirmed: set[int] = set()
        self._returned: set[str] = set()
        self._is_refused = False
        self._published = 0
        self._consumers: dict[str, str] = {}  # consumer tag: queue
        self._cancelled: list[str] = []
        self._arrived: list[Delivery] = []
        self._held: dict[int, Delivery] = {}
        self._done: dict[int, Delivery] = {}  # settled and not acknowledged yet
        self._generation = next(_generations)
        self._heartbeat_at = 0.0
        self._hearing = Hearing()
        self._prefetch = Prefetch()
        self._late: deque[str] = deque()

    # --- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the channels."""
        self._connection.ensure_connection(max_retries=1, interval_start=0)
        self._amqp: amqp.Connection = self._connection.connection
        self._amqp.sock.settimeout(_FRAME_TIMEOUT)  # or a reply that never comes is waited for without end
        self._parts = Parts(self._amqp.transport)
        self._out = self._amqp.channel()
        self._out.confirm_select()
        self._out.events["basic_ack"].add(self._on_confirm)
        self._out.events["basic_nack"].add(self._on_refuse)
        self._out.events["basic_return"].add(self._on_return)
        self._in = self._amqp.channel()
        self._in.auto_decode = False  # by whatever codec of Python's the message names

    def disconnect(self) -> None:
        """Every delivery of this connection is lost: RabbitMQ hands it out again."""
        for delivery in self._held.values():
            delivery.lease.lost = True
        self._held.clear()
        self._done.clear()
        self._arrived.clear()

    def close(self) -> None:
        """Give back what is held, uncounted; the connection is closed by the bridge."""
        try:
            self.subscribe((), 0)  # or the copies would come back to ourselves, and count when the connection goes
            self.exchange([Settlement(delivery=one, release_after=0.0) for one in list(self._held.values())], 0)
            self.finish()
        finally:
            self.disconnect()

    @property
    def patience(self) -> float | None:
        """Long enough to be idle, short enough for heartbeats."""
        if self._parts.has_unread:
            return 0.0
        beat = min(self._amqp.heartbeat / 3, _LONGEST_REST) if self._amqp.heartbeat else _LONGEST_REST
        return min(beat, rest) if (rest := self._prefetch.patience) is not None else beat

    def fileno(self) -> int | None:
        return int(self._amqp.sock.fileno())

    def is_recoverable(self, error: BaseException) -> bool:
        if _is_consumer_timeout(error):
            return True
        if isinstance(error, amqp.PreconditionFailed | amqp.AccessRefused | amqp.NotAllowed | amqp.ResourceLocked):
            return False
        kinds = (*self._connection.connection_errors, *self._connection.channel_errors, OSError, TransportError)
        return isinstance(error, (*kinds, AttributeError))  # py-amqp uses attributes of a lost connection

    def enlist(self, ledger: Ledger) -> None:
        raise TransportError("RabbitMQ has no transaction that a store could join")

    def renew(self) -> None:
        """The connection is the lease: hear whether it is still there."""
        self._beat(force=True)

    def about(self) -> Mapping[str, Any]:
        """What the server said of itself when we connected: product, version, capabilities."""
        told: Mapping[str, Any] = self._amqp.server_properties
        return told

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Sequence[str]) -> None:
        for name in set(names) - self._declared:
            self._declare(name)
            self._declared.add(name)

    def _declare(self, name: str) -> int:
        """How many messages wait in it, too."""
        found = self._in.queue_declare(name, durable=True, auto_delete=False, arguments=self._arguments)
        return int(found.message_count)

    def purge(self, name: str) -> int:
        self.declare([name])
        return int(self._in.queue_purge(name) or 0)

    def delete(self, name: str) -> None:
        """Its delay queues go by themselves."""
        self._in.queue_delete(name)
        self._declared.discard(name)

    def depth(self, name: str) -> int:
        return self._declare(name)

    def depths(self) -> Mapping[str, int]:
        """AMQP cannot list queues; those used on this connection are known."""
        return {name: self.depth(name) for name in sorted(self._declared)}

    def _delay_queue(self, target: str, milliseconds: int) -> str:
        """A queue whose messages move to the target after the delay. Declaring it again keeps it alive."""
        name = f"{target}.delay.{milliseconds}"
        arguments = {
            "x-message-ttl": milliseconds,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": target,
            "x-expires": milliseconds + _DELAY_QUEUE_SPARE,
        }
        self._in.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        return name

    def subscribe(self, names: Sequence[str], prefetch: int) -> None:
        for tag in list(self._consumers):
            self._cancel(tag)
        self._cancelled.clear()
        self._hearing.heard()
        self._prefetch = Prefetch(names, prefetch)
        self.declare(names)
        for name, part in self._prefetch.parts.items():
            self._consume(name, part)

    def _cancel(self, tag: str) -> None:
        name = self._consumers.pop(tag)
        self._in.basic_cancel(tag)
        # What was on its way arrives after all; py-amqp would requeue it, which counts as a crash.
        self._in.callbacks[tag] = self._receiver(name)
        self._late.append(tag)
        while len(self._late) > _LATE_COMERS:
            self._in.callbacks.pop(self._late.popleft(), None)

    def _share_out(self, limit: int) -> None:
        """Give a busy queue more of the prefetch, which allows ``limit`` more to be handed out, by one more consumer.

        None is cancelled for it: a quorum queue takes back what is on its way to a cancelled consumer, and counts that.
        """
        if limit > 0:
            self._prefetch.widen(len(self._held) - len(self._arrived) + limit)
        for name, more in self._prefetch.grown(Counter(delivery.queue for delivery in self._held.values())).items():
            self._consume(name, more)

    def _consume(self, name: str, part: int) -> None:
        self._in.basic_qos(0, part, False)
        tag = self._in.basic_consume(name, callback=self._receiver(name), on_cancel=self._on_cancel)
        self._consumers[tag] = name

    def _consume_again(self) -> None:
        """RabbitMQ ends a consumer when its queue is deleted or moves: make the queue anew and go on."""
        while self._cancelled:
            name = self._cancelled.pop()
            if name in self._consumers.values():  # it had several, and has one again
                continue
            log.warning("RabbitMQ ended a consumer, was its queue deleted? It is declared again", queue=name)
            self._declared.discard(name)
            self.declare([name])
            self._consume(name, self._prefetch.parts[name])

    # --- the hop ---------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        """Publish everything, await the confirms, then take what has arrived. :meth:`finish` acknowledges."""
        try:
            return self._exchange(settlements, limit)
        except amqp.PreconditionFailed as error:
            if not _is_consumer_timeout(error):
                raise
            raise TransportError(
                "RabbitMQ took a delivery back because its step ran longer than the broker's consumer_timeout: "
                "set consumer_timeout in rabbitmq.conf above the timeout of every activity"
            ) from error

    def _exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        accepted = [s.delivery is None or self._holds(s.delivery) for s in settlements]
        standing = [s for s, ok in zip(settlements, accepted, strict=True) if ok]
        self._publish([one for s in standing for one in _what_follows(s)])
        for one in standing:
            if one.delivery is not None:
                self._done[one.delivery.token] = self._held.pop(one.delivery.token)
        self._read()
        self._consume_again()
        self._share_out(limit)
        self._beat()
        self._check_hearing(limit)
        room = limit if self._consumers else len(self._arrived)  # the bridge gives back what nobody waits for
        taken, self._arrived = self._arrived[:room], self._arrived[room:]
        known = [ok or s.release_after is not None for s, ok in zip(settlements, accepted, strict=True)]
        return known, taken

    def finish(self) -> None:
        """Acknowledge what was settled: RabbitMQ does not answer to that, so nobody has to wait for it."""
        if self._done:
            self._acknowledge(self._done)
            self._done.clear()

    def _holds(self, delivery: Delivery) -> bool:
        return self._held.get(delivery.token) is delivery

    def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Once more to queues that were deleted since they were declared."""
        for _ in range(2):
            if not outgoing:
                return
            self.declare([one.queue for one in outgoing])
            returned = self._publish_once(outgoing)
            self._declared -= returned
            outgoing = [one for one in outgoing if one.queue in returned]
        if outgoing:
            raise TransportError(f"RabbitMQ refused a message: no queue {outgoing[0].queue!r}")

    def _publish_once(self, outgoing: Sequence[Outgoing]) -> set[str]:
        """Publish all of it and await the confirms; the queues that were not there."""
        self._unconfirmed.clear()
        self._returned.clear()
        queues = [self._delay_queue(one.queue, _rounded(one.delay)) if one.delay > 0 else one.queue for one in outgoing]
        with self._parts.gathered():
            for one, queue in zip(outgoing, queues, strict=True):
                self._published += 1
                self._unconfirmed.add(self._published)
                self._out.basic_publish(_amqp_message(one), exchange="", routing_key=queue, mandatory=True)
        self._await_confirms(time.monotonic() + CONFIRM_TIMEOUT)
        return set(self._returned)

    def _await_confirms(self, deadline: float) -> None:
        while self._unconfirmed and not self._is_refused:
            left = deadline - time.monotonic()
            if left <= 0 or not self._parts.has_come(left):
                raise TransportError(f"RabbitMQ did not confirm {len(self._unconfirmed)} messages in time")
            self._read_frame()
        if self._is_refused:
            self._declared.clear()
            raise TransportError("RabbitMQ refused a message: is it out of memory or disk?")

    def _acknowledge(self, tags: Collection[int]) -> None:
        """One frame for each run of tags below which everything is settled, one for each of the others."""
        lowest = min(self._held, default=max(tags) + 1)
        below = [tag for tag in tags if tag < lowest]
        with self._parts.gathered():
            if below:
                self._in.basic_ack(max(below), multiple=True)
            for tag in tags:
                if tag > lowest:
                    self._in.basic_ack(tag)

    def _read(self) -> None:
        """Take every frame that is there, without waiting for more."""
        while self._parts.has_come():
            self._read_frame()

    def _read_frame(self) -> None:
        """One of them: ``drain_events`` reads on until a method has arrived, so a lone heartbeat would time it out."""
        self._amqp.on_inbound_frame(self._amqp.transport.read_frame())

    def _beat(self, *, force: bool = False) -> None:
        heartbeat = self._amqp.heartbeat
        if heartbeat and (force or time.monotonic() >= self._heartbeat_at):
            self._heartbeat_at = time.monotonic() + heartbeat / 3
            self._amqp.heartbeat_tick(rate=2)

    def _check_hearing(self, limit: int) -> None:
        if self._arrived or self._held or not self._consumers or limit <= 0:
            self._hearing.heard()
        else:
            self._hearing.check(self._consumers.values(), self.depth, lambda: bool(self._arrived))

    # --- what RabbitMQ says ----------------------------------------------------------------------------------

    def _on_confirm(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {one for one in self._unconfirmed if one > tag}
        else:
            self._unconfirmed.discard(tag)

    def _on_refuse(self, tag: int, multiple: bool) -> None:
        self._is_refused = True

    def _on_return(self, reason: Any, exchange: str, routing_key: str, message: Any) -> None:
        self._returned.add(routing_key)  # it is confirmed none the less, after this

    def _on_cancel(self, tag: str) -> None:
        if (name := self._consumers.pop(tag, None)) is not None:
            self._cancelled.append(name)

    def _receiver(self, queue: str) -> Any:
        return lambda message: self._on_message(queue, message)

    def _on_message(self, queue: str, message: Any) -> None:
        headers = headers_of(message.properties.get("application_headers"))
        delivery = Delivery(
            queue=queue,
            body=bytes_of(message.body),
            tag=(self._generation, message.delivery_tag),
            token=message.delivery_tag,
            id=id_of(message.properties.get("message_id")),
            headers=headers,
            deliveries=_deliveries(message, headers),
        )
        self._held[delivery.token] = delivery
        self._arrived.append(delivery)


def _what_follows(settlement: Settlement) -> Sequence[Outgoing]:
    """What to publish before the acknowledgement. Giving back publishes a copy: a requeue would count as a crash."""
    delivery = settlement.delivery
    if delivery is None or settlement.release_after is None:
        return settlement.outgoing
    headers = {name: str(value) for name, value in delivery.headers.items() if not name.startswith("x-")}
    headers[_DELIVERED_BEFORE] = str(delivery.deliveries - 1)
    copy = Outgoing(
        queue=delivery.queue, body=delivery.body, id=delivery.id, headers=headers, delay=settlement.release_after
    )
    return [copy]


def _amqp_message(one: Outgoing) -> Any:
    properties: dict[str, Any] = {
        "delivery_mode": _PERSISTENT,
        "content_type": "application/json",
        "application_headers": dict(one.headers),
    }
    if one.id is not None:
        properties["message_id"] = one.id
    return amqp.basic_message.Message(one.body, **properties)


def _rounded(seconds: float) -> int:
    """The delay in milliseconds, rounded up to two digits, so that few delay queues serve many delays."""
    milliseconds = max(1, int(seconds * 1000))
    unit = 10 ** max(0, len(str(milliseconds)) - 2)
    return int(-(-milliseconds // unit) * unit)


def _deliveries(message: Any, headers: Mapping[str, Any]) -> int:
    """Quorum queues count; of a classic queue only the redelivered flag is known."""
    before = str(headers.get(_DELIVERED_BEFORE, ""))
    earlier = int(before) if before.isdecimal() and len(before) < 5 else 0
    return earlier + deliveries_of(headers, message.delivery_info.get("redelivered"))


def _is_consumer_timeout(error: BaseException) -> bool:
    """Whether RabbitMQ closed the channel of a holder that did not acknowledge in time (30 minutes by default)."""
    return isinstance(error, amqp.PreconditionFailed) and "delivery acknowledgement" in str(error)
