"""A kombu channel over queues of our own: what our kombu transports over SQL and over Redis have in common.

A message that was received and not acknowledged is not lost when its consumer dies: it is leased. The lease is kept by
``drain_events``, and by a thread while the program is busy with a message. An acknowledgement after the lease was lost
is refused with a ``ChannelError``.

As on RabbitMQ: durable direct, topic and fanout exchanges that every process sees, and an error for one that is not
there; priorities 0 to 9, 9 first; ``expiration`` and ``x-message-ttl``; the header ``x-delay`` (milliseconds);
``x-dead-letter-exchange`` and ``x-dead-letter-routing-key`` for what is rejected, expires, or was delivered again more
often than ``x-delivery-limit`` (only deliveries that ended with the consumer's death count, not those it gave back).

Unlike on RabbitMQ: nothing is dropped because of ``x-expires``, ``x-max-length`` or ``auto_delete``, and a dead letter
whose exchange leads nowhere stays where it is.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any, Protocol

import structlog
from kombu.exceptions import ChannelError
from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments

from paigeant.errors import TransportError
from paigeant.transport import Delivery
from paigeant.transports.channel import envelope, routes
from paigeant.transports.pump.settlement import Settlement

log = structlog.stdlib.get_logger("paigeant.transport")

_BATCH = 10
"""Messages claimed at once for a consumer that set no limit; each claim and each acknowledgement is a round trip."""

_NOT_FOUND, _REFUSED, _NO_ROUTE = "404", "406", "312"


class Queues(Protocol):
    """What the channel needs of the queues on a server. One thread at a time uses them, except for :meth:`beat`.

    ``trouble`` is what they raise when the server cannot be used; ``heartbeat`` is after how many seconds a holder
    should :meth:`beat`, None where nobody else could take what it holds.
    """

    trouble: tuple[type[Exception], ...]
    heartbeat: float | None

    @property
    def routes(self) -> routes.Routes: ...

    @property
    def is_holding(self) -> bool:
        """Whether anything is leased."""
        ...

    @property
    def counts_deliveries(self) -> bool:
        """Whether a queue that is subscribed to has a delivery limit."""
        ...

    def declare(self, names: Iterable[str], arguments: Mapping[str, Any] | None = None) -> None: ...

    def delete(self, name: str) -> None: ...

    def depth(self, name: str) -> int: ...

    def purge(self, name: str) -> int: ...

    def subscribe(self, names: Iterable[str], prefetch: int = 0) -> None: ...

    def exchange(
        self, settlements: Sequence[Settlement], limit: int
    ) -> tuple[Sequence[bool | TransportError], list[Delivery]]:
        """Settle and claim. An error in place of an answer: there is no room for this settlement now."""
        ...

    def finish(self) -> None:
        """Do what an exchange leaves to be done, such as to wake others."""
        ...

    def take(self, name: str, limit: int = 1) -> list[Delivery]:
        """Claim from this queue, subscribed to or not."""
        ...

    def reject(self, delivery: Delivery) -> bool:
        """Drop the delivery, or send it to the dead letters; False when it is not ours any more.

        Raises:
            TransportError: the dead letter exchange leads nowhere; the delivery is still held.
        """
        ...

    def beat(self) -> None:
        """Renew the leases; called in another thread."""
        ...

    def disconnect(self) -> None:
        """Drop the connections after trouble; they are opened again when needed."""
        ...

    def close(self) -> None:
        """Give everything back and disconnect."""
        ...


class QoS(virtual.QoS):
    """What the channel has handed out, until it is acknowledged or comes back."""

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        self.channel = channel
        self.prefetch_count = prefetch_count or 0
        self._delivered: OrderedDict[str, Delivery] = OrderedDict()
        self._tags = itertools.count(1)

    def hand_out(self, delivery: Delivery) -> str:
        """Remember the delivery; the tag by which the program names it."""
        tag = str(next(self._tags))
        self._delivered[tag] = delivery
        return tag

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self._delivered) < self.prefetch_count

    def can_consume_max_estimate(self) -> int | None:
        return max(0, self.prefetch_count - len(self._delivered)) if self.prefetch_count else None

    def append(self, message: Delivery, delivery_tag: str) -> None:
        self._delivered[delivery_tag] = message

    def get(self, delivery_tag: str) -> Delivery:
        return self._delivered[delivery_tag]

    def ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Delete the message; with ``multiple`` also those handed out before it."""
        self._known(delivery_tag)
        tags = list(self._delivered)
        self._settle(tags[: tags.index(delivery_tag) + 1] if multiple else [delivery_tag], Settlement)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give the message back uncounted, or drop it to the dead letters."""
        delivery = self._known(delivery_tag)
        if requeue:
            self._settle([delivery_tag], _given_back)
        else:
            with self.channel.using() as queue:
                self._check([queue.reject(delivery)])
            del self._delivered[delivery_tag]

    def restore_unacked(self) -> list[Any]:
        self._settle(list(self._delivered), _given_back)
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """The channel gives everything back when it is closed or collected."""

    def _known(self, delivery_tag: str) -> Delivery:
        try:
            return self._delivered[delivery_tag]
        except KeyError:
            raise _channel_error(f"unknown delivery tag {delivery_tag}", "basic_ack", _REFUSED) from None

    def _settle(self, tags: Sequence[str], kind: Callable[..., Settlement]) -> None:
        with self.channel.using() as queue:
            accepted = _answered(queue.exchange([kind(delivery=self._delivered[tag]) for tag in tags], 0)[0])
        for tag in tags:
            del self._delivered[tag]
        self._check(accepted)

    def _check(self, accepted: Sequence[bool]) -> None:
        if not all(accepted):
            text = "the lease of the delivery was lost: the message is somebody else's now"
            raise _channel_error(text, "basic_ack", _REFUSED)


class Channel(virtual.Channel):
    """A channel with its own connections to the server, made when they are needed.

    ``pump`` is how paigeant's I/O thread uses it; whoever takes the pump also closes it.
    """

    QoS = QoS
    Message: Any = virtual.Message
    closed: bool

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        kombu: Any = super()  # has no types
        kombu.__init__(connection, **kwargs)
        self.no_ack_consumers: Any = set()
        self._queue: Queues = connection.new_queues()
        self._lock = threading.RLock()
        self._receivers: dict[str, Callable[[Any], Any]] = {}
        self._arrived: deque[Delivery] = deque()
        self._heartbeat: Heartbeat | None = None
        self._finalizer = weakref.finalize(self, _part, self._queue, os.getpid())

    @property
    def pump(self) -> Any:
        self._finalizer.detach()
        return self._queue

    @contextmanager
    def using(self, method: str = "basic_publish", code: str = _NOT_FOUND) -> Iterator[Queues]:
        """The queue, for this thread alone; kombu's errors instead of ours; new connections after any trouble."""
        with self._lock:
            try:
                yield self._queue
                self._queue.finish()
            except TransportError as error:
                raise _channel_error(f"{error} ({error.hint})", method, code) from error
            except self._queue.trouble:
                self._queue.disconnect()
                raise

    def close(self) -> None:
        """Give back what was not acknowledged and disconnect."""
        if self.closed:
            return
        self.closed = True
        with self._lock:
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self._finalizer()
        self._consumers.clear()
        self._tag_to_queue.clear()
        if self.connection is not None:
            self.connection.close_channel(self)

    # --- queues ------------------------------------------------------------------------------------------------

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments or {}, **kwargs)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        with self.using() as ours:
            return ours.routes.has_queue(queue)

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        with self.using("queue_declare", _REFUSED) as ours:
            ours.declare([queue], kwargs.get("arguments"))

    def _size(self, queue: str) -> int:
        with self.using() as ours:
            return ours.depth(queue)

    def _purge(self, queue: str) -> int:
        with self.using() as ours:
            return ours.purge(queue)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        if if_empty and self._size(queue):
            return
        with self.using() as ours:
            ours.delete(queue)

    # --- exchanges and bindings --------------------------------------------------------------------------------

    def exchange_declare(
        self,
        exchange: str | None = None,
        type: str = "direct",  # noqa: A002 - kombu's name
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        kind = type or "direct"
        name = exchange or f"amq.{kind}"
        if passive:
            with self.using("exchange_declare") as ours:
                ours.routes.type_of(name)
            return
        declared = {"durable": durable, "auto_delete": auto_delete, "arguments": dict(arguments or {})}
        with self.using("exchange_declare", _REFUSED) as ours:
            ours.routes.declare_exchange(name, kind, declared)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        with self.using() as ours:
            if not (if_unused and ours.routes.bindings_of(exchange)):
                ours.routes.delete_exchange(exchange)

    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        with self.using("queue_bind") as ours:
            ours.routes.bind(queue, exchange or "amq.direct", routing_key)

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        with self.using("queue_unbind") as ours:
            ours.routes.unbind(queue, exchange or "amq.direct", routing_key)

    def list_bindings(self) -> list[tuple[str, str, str]]:
        with self.using() as ours:
            return ours.routes.bindings_of()

    def get_exchanges(self) -> list[str]:
        return list(dict.fromkeys(exchange for _, exchange, _ in self.list_bindings()))

    def get_table(self, exchange: str) -> list[tuple[str, None, str]]:
        with self.using() as ours:
            found = ours.routes.bindings_of(exchange)
        return [(routing_key, None, queue) for queue, _, routing_key in found]

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        with self.using() as ours:
            found = ours.routes.targets(exchange, routing_key)
        fallback = default or self.deadletter_queue
        return found or ([fallback] if fallback else [])

    # --- publishing --------------------------------------------------------------------------------------------

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, mandatory: bool = False, **kwargs: Any
    ) -> None:
        """Write the message to every queue it reaches, in one transaction."""
        message["properties"]["delivery_info"].update(exchange=exchange, routing_key=routing_key)
        reached = self._lookup(exchange, routing_key)
        if mandatory and not reached:
            text = f"exchange {exchange!r} has no queue for {routing_key!r}"
            raise _channel_error(text, "basic_publish", _NO_ROUTE)
        self._put_all(reached, message)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        self._put_all([queue], message)

    def _put_all(self, reached: Sequence[str], message: dict[str, Any]) -> None:
        if not reached:
            return
        with self.using() as ours:
            limits = ours.routes.arguments_of(reached)
            published = [envelope.addressed(queue, message, limits.get(queue, {})) for queue in reached]
            _answered(ours.exchange(published, 0)[0])

    # --- receiving ---------------------------------------------------------------------------------------------

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        try:
            delivery = self._take(queue)
        except Empty:
            return None
        return self._handed_out(delivery, no_ack)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        delivery = self._take(queue)
        return envelope.payload(delivery, self.qos.hand_out(delivery))

    def _take(self, queue: str) -> Delivery:
        with self.using() as ours:
            found = ours.take(queue)
        self._keep_beating()
        if not found:
            raise Empty()
        return found[0]

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> None:
        with self._lock:
            self._consumers.add(consumer_tag)
            self._tag_to_queue[consumer_tag] = queue
            self._receivers[consumer_tag] = callback
            if no_ack:
                self.no_ack_consumers.add(consumer_tag)
            self._queue.subscribe(self._tag_to_queue.values())

    def basic_cancel(self, consumer_tag: str) -> None:
        with self.using() as ours:
            if consumer_tag not in self._consumers:
                return
            self._consumers.remove(consumer_tag)
            queue = self._tag_to_queue.pop(consumer_tag)
            del self._receivers[consumer_tag]
            ours.subscribe(self._tag_to_queue.values())
            if queue not in self._tag_to_queue.values():
                back = [delivery for delivery in self._arrived if delivery.queue == queue]
                self._arrived = deque(delivery for delivery in self._arrived if delivery.queue != queue)
                ours.exchange([_given_back(delivery=delivery) for delivery in back], 0)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        self.qos.ack(delivery_tag, multiple)

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> None:
        """Hand one message to its consumer.

        The server is looked at even when there is no consumer or no room, because that is what keeps the lease.
        """
        with self.using() as ours:
            if not self._arrived:
                self._arrived.extend(ours.exchange([], self._room())[1])
                ours.finish()
                self._keep_beating()
            if not self._arrived:
                raise Empty()
            delivery = self._arrived.popleft()
            consumer_tag = self._next_consumer(delivery.queue)
            receive = self._receivers[consumer_tag]
        receive(self._handed_out(delivery, consumer_tag in self.no_ack_consumers, consumer_tag))

    def _room(self) -> int:
        """How many messages may be claimed. One by one where deliveries are counted, lest the innocent be blamed."""
        if not self._consumers:
            return 0
        batch = 1 if self._queue.counts_deliveries else _BATCH
        room = self.qos.can_consume_max_estimate()
        return batch if room is None else min(room, batch)

    def _next_consumer(self, queue: str) -> str:
        """Consumers of one queue take turns."""
        for consumer_tag, theirs in self._tag_to_queue.items():
            if theirs == queue:
                self._tag_to_queue[consumer_tag] = self._tag_to_queue.pop(consumer_tag)
                return str(consumer_tag)
        raise LookupError(queue)

    def _handed_out(self, delivery: Delivery, no_ack: bool, consumer_tag: str = "") -> Any:
        message = self.Message(envelope.payload(delivery, self.qos.hand_out(delivery), consumer_tag), channel=self)
        if no_ack:
            self.qos.ack(message.delivery_tag)
        return message

    def _keep_beating(self) -> None:
        every = self._queue.heartbeat
        if self._heartbeat is None and every is not None and self._queue.is_holding:
            self._heartbeat = Heartbeat(self._queue, every)
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, _part, self._queue, os.getpid(), self._heartbeat)
            self._heartbeat.start()


class Heartbeat(threading.Thread):
    """Keeps a channel's lease while its program is busy and does not drain. Ends with the channel."""

    def __init__(self, queue: Queues, every: float) -> None:
        super().__init__(name="paigeant-heartbeat", daemon=True)
        self._queue = queue
        self._every = every
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self._queue.beat()
            except self._queue.trouble as error:
                log.warning("could not renew the lease", error=str(error).splitlines()[0])


def _part(queue: Queues, pid: int, heartbeat: Heartbeat | None = None) -> None:
    """Give back what a channel holds, when it is closed, collected, or the program ends; not in a forked child."""
    if heartbeat is not None:
        heartbeat.stop()
    if pid == os.getpid():
        with suppress(*queue.trouble):
            queue.close()


def _given_back(delivery: Delivery) -> Settlement:
    return Settlement(delivery=delivery, release_after=0.0)


def _answered(accepted: Sequence[bool | TransportError]) -> list[bool]:
    """The answers.

    Raises:
        TransportError: the server had no room.
    """
    for answer in accepted:
        if isinstance(answer, TransportError):
            raise answer
    return [answer is True for answer in accepted]


def _channel_error(text: str, method: str, code: str) -> ChannelError:
    return ChannelError(text, (50, 10), f"Channel.{method}", code)
