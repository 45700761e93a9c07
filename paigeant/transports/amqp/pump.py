"""The pump for RabbitMQ: it consumes and acknowledges on one connection, and publishes on another.

The connection that consumes is the lease: whoever loses it has lost every delivery. So nothing that can go wrong
without need happens on it. Messages are published, and queues declared, on the other one
(:mod:`paigeant.transports.amqp.publisher`); what RabbitMQ may refuse is asked on a channel of its own.

Queues are quorum queues, because those count deliveries, unless the URL asks for classic ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import amqp
import structlog
from kombu import Connection

from paigeant.errors import BrokerRefused, PaigeantError, TransportError
from paigeant.runtime.clock import boot_time
from paigeant.transport import DELIVERED_BEFORE, Delivery, Ledger, Outgoing, Term
from paigeant.transports.amqp.inlet import Inlet, why_closed
from paigeant.transports.amqp.link import Link
from paigeant.transports.amqp.prefetch import Prefetch
from paigeant.transports.amqp.publisher import PROMPT, Flight, Publisher
from paigeant.transports.amqp.queues import Queues, asked, concerns_queue
from paigeant.transports.pump.backoff import Backoff
from paigeant.transports.pump.diagnosis import LOST, OURS, Diagnosis, Scope
from paigeant.transports.pump.hearing import Hearing
from paigeant.transports.pump.settlement import Settlement, Verdict

log = structlog.stdlib.get_logger("paigeant.transport")

_PARTING_PATIENCE = 3.0
"""Seconds in which what is given back at the end must be confirmed."""

_COMES_AGAIN_WITHIN = 1.0
"""Seconds in which RabbitMQ hands out again what went with a channel; it takes a few hundredths."""


class AmqpPump:
    """Two AMQP connections, used by the I/O thread alone. ``new_connection`` makes the one that publishes."""

    keeps_leases = False
    glances = None

    def __init__(self, connection: Connection, new_connection: Callable[[], Connection]) -> None:
        options = connection.transport_options or {}
        self._link = Link(connection)
        self._queues = Queues(options.get("queue_type", "quorum"))
        self._publisher = Publisher(lambda: Link(new_connection()), self._queues, self._gone)
        self._inlets: dict[str, Inlet] = {}  # by queue
        self._rejected: dict[str, _RejectedQueue] = {}
        self._arrived: list[Delivery] = []
        self._astray_until = 0.0
        self._term = Term()
        self._hearing = Hearing()
        self._prefetch = Prefetch()

    # --- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the connection that consumes; the other one is opened when it is needed."""
        self._link.open()

    @property
    def _amqp(self) -> amqp.Connection:
        return self._link.amqp

    def disconnect(self) -> None:
        """Every delivery of this connection is lost: RabbitMQ hands it out again."""
        for inlet in self._inlets.values():
            inlet.lose()
        self._inlets.clear()
        self._arrived.clear()
        self._publisher.close()

    def close(self) -> None:
        """Give back what is held, uncounted if RabbitMQ lets us publish; the connection is closed by the bridge."""
        try:
            self.subscribe((), 0)  # or the copies would come back to ourselves, and count when the connection goes
            back = [Settlement(delivery=one, release_after=0.0) for one in self._held()]
            until = time.monotonic() + _PARTING_PATIENCE
            while back and time.monotonic() < until and not self._publisher.blocked:
                verdicts, _ = self.exchange(back, 0)
                back = [one for one, verdict in zip(back, verdicts, strict=True) if verdict is None]
                self.finish()
        finally:
            self.disconnect()

    @property
    def patience(self) -> float | None:
        """Long enough to be idle, short enough for heartbeats."""
        others = (self._prefetch.patience, self._publisher.patience, self._retry_in())
        return min([self._link.patience, *(one for one in others if one is not None)])

    def fileno(self) -> Sequence[int]:
        """Both sockets while something is on its way to be confirmed."""
        link = self._publisher.link
        is_listening = link is not None and (self._publisher.is_flying or link.blocked is not None)
        return [self._link.fileno(), link.fileno()] if link is not None and is_listening else [self._link.fileno()]

    @property
    def obstacle(self) -> str | None:
        """What is wrong although the connection is there."""
        if self._publisher.blocked:
            return f"RabbitMQ blocked publishing: {self._publisher.blocked}"
        if self._publisher.obstacle is not None:
            return self._publisher.obstacle
        return next((str(one.error) for one in self._rejected.values()), None)

    def diagnose(self, error: BaseException) -> Diagnosis:
        """What the error concerns."""
        if isinstance(error, BrokerRefused) or concerns_queue(error):
            return Diagnosis(Scope.QUEUE, again=True)
        if isinstance(error, amqp.ChannelError):
            return Diagnosis(Scope.CHANNEL, again=True)
        if isinstance(error, amqp.AMQPError | OSError | TransportError):
            return LOST
        return LOST if self._link.is_lost else OURS  # py-amqp uses attributes of a lost connection

    def enlist(self, ledger: Ledger) -> None:
        raise TransportError("RabbitMQ has no transaction that a store could join")

    def renew(self) -> None:
        """The connection is the lease: hear whether it is still there."""
        self._link.beat(force=True)

    def about(self) -> Mapping[str, Any]:
        """What the server said of itself when we connected: product, version, capabilities."""
        return self._link.server

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Sequence[str]) -> None:
        """On the connection that publishes if that is possible: RabbitMQ may close it over a queue that just begins."""
        if (missing := set(names) - self._queues.declared) and not self._publisher.ensure(missing):
            for name in missing:
                self._queues.ensure(self._link, name)

    def purge(self, name: str) -> int:
        self.declare([name])
        return int(asked(self._link, name, lambda channel: channel.queue_purge(name)) or 0)

    def delete(self, name: str) -> None:
        """The queues of delayed messages are everybody's, and stay."""
        asked(self._link, name, lambda channel: channel.queue_delete(name))
        self._queues.forget(name)

    def depth(self, name: str) -> int:
        """How many messages wait in the queue; none in one that is not there."""

        def question(channel: Any) -> int:
            return int(channel.queue_declare(name, passive=True).message_count)

        try:
            return asked(self._link, name, question)
        except BrokerRefused as error:
            if isinstance(error.__cause__, amqp.NotFound):
                return 0
            raise

    def depths(self) -> Mapping[str, int]:
        """AMQP cannot list queues; those used on this connection are known."""
        return {name: self.depth(name) for name in sorted(self._queues.declared) if ".delay." not in name}

    def note(self, key: str, seconds: float) -> None:
        """A note is an empty queue of this name, which RabbitMQ deletes after these seconds."""
        arguments = {"x-expires": max(1, int(seconds * 1000))}
        with suppress(amqp.AccessRefused):
            self._link.desk.ask(
                lambda channel: channel.queue_declare(key, durable=True, auto_delete=False, arguments=arguments)
            )

    def noted(self, key: str) -> bool | None:
        """None where this user may not declare such a queue, and so cannot have noted anything."""
        try:
            self._link.desk.ask(lambda channel: channel.queue_declare(key, passive=True))
        except amqp.NotFound:
            return False
        except amqp.AccessRefused:
            return None
        return True

    # --- consumers -------------------------------------------------------------------------------------------

    def subscribe(self, names: Sequence[str], prefetch: int) -> Mapping[str, PaigeantError]:
        """Consume from these queues; those that RabbitMQ refuses, with its reasons, are tried again now and then."""
        self._rejected.clear()
        self._hearing.heard()
        self._prefetch = Prefetch(names, prefetch)
        for inlet in list(self._inlets.values()):
            inlet.cancel()
            self._retire(inlet)
        for name, part in self._prefetch.parts.items():
            self._begin(name, part)
        return {name: one.error for name, one in self._rejected.items()}

    def _retire(self, inlet: Inlet) -> None:
        """Close a channel that serves nothing any more."""
        if inlet.queue not in self._prefetch.parts and not inlet.held and not inlet.is_consuming:
            del self._inlets[inlet.queue]
            inlet.close()

    def _begin(self, name: str, part: int) -> None:
        """Consume from one queue, or note that RabbitMQ refuses it."""
        try:
            self.declare([name])
            self._consume(name, part)
        except BrokerRefused as error:
            rejected = self._rejected.setdefault(name, _RejectedQueue(error))
            if rejected.put_off(error):
                log.error("RabbitMQ rejects a queue; the worker serves the others", queue=name, error=str(error))
        else:
            if self._rejected.pop(name, None) is not None:
                log.info("RabbitMQ accepts the queue again", queue=name)

    def _consume(self, name: str, part: int) -> None:
        inlet = self._inlets.get(name)
        if inlet is None or inlet.closed is not None:
            inlet = self._inlets[name] = Inlet(self._link, name, self._term, self._arrived.append)
        inlet.consume(part)

    def _share_out(self, limit: int) -> None:
        """Give a busy queue more of the prefetch, which allows ``limit`` more to be handed out, by one more consumer.

        None is cancelled for it: a quorum queue takes back what is on its way to a cancelled consumer, and counts that.
        """
        held = {name: len(inlet.held) for name, inlet in self._inlets.items()}
        if limit > 0:
            self._prefetch.widen(sum(held.values()) - len(self._arrived) + limit)
        for name, more in self._prefetch.grown(held).items():
            if name not in self._rejected:
                self._consume(name, more)

    def _gone(self, name: str) -> None:
        """The queue was deleted. RabbitMQ may forget to end its consumers if it is declared again at once."""
        self._queues.forget(name)
        if (inlet := self._inlets.get(name)) is not None and inlet.is_consuming:
            inlet.cancel()
            inlet.has_ended = True

    def _look_after_consumers(self) -> None:
        """Begin again what RabbitMQ ended: a deleted queue is made anew, a closed channel opened, a refusal tried."""
        for name, inlet in list(self._inlets.items()):
            if inlet.closed is not None:
                self._on_closed(inlet)
            elif inlet.has_ended and not inlet.is_consuming:
                log.warning("RabbitMQ ended a consumer, was its queue deleted? It is declared again", queue=name)
                self._queues.forget(name)
            else:
                inlet.has_ended = False
                continue
            inlet.has_ended = False
            if name in self._prefetch.parts and name not in self._rejected:
                self._begin(name, self._prefetch.parts[name])
        for name, one in list(self._rejected.items()):
            if time.monotonic() >= one.again_at:
                self._begin(name, self._prefetch.parts[name])

    def _on_closed(self, inlet: Inlet) -> None:
        """What was held on the channel is RabbitMQ's again, and what is settled of it meanwhile waits for a moment."""
        del self._inlets[inlet.queue]
        self._arrived[:] = [one for one in self._arrived if not one.lease.lost]
        if inlet.queue not in self._rejected:
            self._astray_until = time.monotonic() + _COMES_AGAIN_WITHIN
            log.error("RabbitMQ closed a channel, its deliveries go back", error=str(why_closed(inlet)))

    def _retry_in(self) -> float | None:
        if not self._rejected:
            return None
        return max(0.0, min(one.again_at for one in self._rejected.values()) - time.monotonic())

    # --- the hop ---------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[Verdict], list[Delivery]]:
        """Publish everything, hear the confirms, then take what has arrived. :meth:`finish` acknowledges."""
        begun = [self._start(one) for one in settlements]
        self._publisher.work(PROMPT)
        verdicts = [self._end(one, way) for one, way in zip(settlements, begun, strict=True)]
        self._link.read()
        self._extend_term()
        self._look_after_consumers()
        self._share_out(limit)
        self._link.beat()
        self._check_hearing(limit)
        room = limit if self._is_consuming else len(self._arrived)  # the bridge gives back what nobody waits for
        taken = self._arrived[:room]
        del self._arrived[:room]
        return verdicts, taken

    def _extend_term(self) -> None:
        """The connection stands: it was just read. RabbitMQ drops a client that says nothing for two heartbeats."""
        heartbeat = self._amqp.heartbeat
        self._term.until = boot_time() + heartbeat if heartbeat else inf

    @property
    def _is_consuming(self) -> bool:
        return any(inlet.is_consuming for inlet in self._inlets.values())

    def _start(self, settlement: Settlement) -> Verdict | Flight:
        """Whether it can be settled as it is, or what must land before it is."""
        flight, delivery = settlement.progress, settlement.delivery
        if isinstance(flight, Flight) and flight.publisher is self._publisher:
            return flight
        if delivery is not None and self._holder(delivery) is None:
            may_come_again = delivery.lease.lost and time.monotonic() < self._astray_until
            return None if may_come_again else settlement.release_after is not None
        following = _what_follows(settlement)
        if not following:
            return True
        settlement.progress = flight = self._publisher.launch(settlement, following)
        return flight

    def _end(self, settlement: Settlement, way: Verdict | Flight) -> Verdict:
        if isinstance(way, Flight):
            if not way.has_landed:
                return None
            settlement.progress = None
            way = way.error or True
        if way is True and settlement.delivery is not None and (inlet := self._holder(settlement.delivery)) is not None:
            inlet.settle(settlement.delivery)
        return way

    def _holder(self, delivery: Delivery) -> Inlet | None:
        inlet = self._inlets.get(delivery.queue)
        return inlet if inlet is not None and inlet.holds(delivery) else None

    def _held(self) -> list[Delivery]:
        return [delivery for inlet in self._inlets.values() for delivery in inlet.held.values()]

    def finish(self) -> None:
        """Acknowledge what was settled: RabbitMQ does not answer to that, so nobody has to wait for it."""
        done = [inlet for inlet in self._inlets.values() if inlet.has_done]
        if done:
            with self._link.parts.gathered():
                for inlet in done:
                    inlet.acknowledge()

    def _check_hearing(self, limit: int) -> None:
        if self._arrived or limit <= 0 or not self._is_consuming or any(one.held for one in self._inlets.values()):
            self._hearing.heard()
        else:
            self._hearing.check(list(self._inlets), self.depth, lambda: bool(self._arrived))


class _RejectedQueue:
    """A queue that RabbitMQ refuses to let us consume from: why, and when it is tried again (monotonic)."""

    def __init__(self, error: BrokerRefused) -> None:
        self.error = error
        self.again_at = 0.0
        self._backoff = Backoff(1.0, 60.0)

    def put_off(self, error: BrokerRefused) -> bool:
        """It was refused again; whether that is news."""
        is_news = self.again_at == 0.0 or str(error) != str(self.error)
        self.error, self.again_at = error, time.monotonic() + self._backoff.next()
        return is_news


def _what_follows(settlement: Settlement) -> Sequence[Outgoing]:
    """What to publish before the acknowledgement. Giving back publishes a copy: a requeue would count as a crash."""
    delivery = settlement.delivery
    if delivery is None or settlement.release_after is None:
        return settlement.outgoing
    headers = {name: str(value) for name, value in delivery.headers.items() if not name.startswith("x-")}
    headers[DELIVERED_BEFORE] = str(delivery.deliveries - 1)
    copy = Outgoing(
        queue=delivery.queue, body=delivery.body, id=delivery.id, headers=headers, delay=settlement.release_after
    )
    return [copy]
