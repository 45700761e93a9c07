"""A broker in memory with the worst behaviour of real brokers, and the transport with which simulated workers use it.

There is one kind for each tier: ``atomic`` behaves like the SQL transport with the store in its database, ``fenced``
like the Redis transport with a separate store, ``at_least_once`` like RabbitMQ with a separate store.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

from paigeant.errors import MalformedMessage, Superseded, TransportError
from paigeant.events import Event, StepCompleted
from paigeant.runtime.clock import Clock
from paigeant.testing.faults import Point
from paigeant.testing.history import Claimed, Copied, Freed, History, Offered, Published, Replaced, Settled
from paigeant.transport import BaseTransport, Delivery, Durability, Features, Lease, Ledger, Outgoing, Prefetch
from paigeant.wire import codec
from paigeant.wire.message import PaigeantMessage

Tier = Literal["atomic", "fenced", "at_least_once"]

TIERS: Mapping[Tier, Features] = {
    "atomic": Features(
        durability=Durability.TRANSACTIONAL,
        delay=True,
        fenced=True,
        delivery_count=True,
        dedupes=True,
        joins_store=True,
    ),
    "fenced": Features(durability=Durability.TRANSACTIONAL, delay=True, fenced=True, delivery_count=True, dedupes=True),
    "at_least_once": Features(durability=Durability.AT_LEAST_ONCE, delivery_count=True),
}
"""The features of a broker of each tier. The last one cannot delay messages, so long delays wait in the store."""

LEASE = 5.0
"""Seconds until the broker redelivers the messages of a dead worker."""

_AGAIN_AFTER = 0.1
_LIMIT = 100_000_000


class ConnectionLost(Exception):
    """The connection broke, and the caller cannot know whether the broker carried out the request."""


class Doer(Protocol):
    """A process that acts on broker and store, and that faults strike."""

    name: str

    @property
    def reaches_store(self) -> bool:
        """Whether the process reaches the store; False during an outage."""
        ...

    async def act(self, point: Point | None, effect: Callable[[], Any], activity: str | None = None) -> Any:
        """Apply the effect, with the planned faults before and after it. Never returns if the process died.

        The effect runs at once, or returns a coroutine.
        """
        ...


@dataclass(slots=True, eq=False)
class Queued:
    """A message on the broker. It is in flight while it has a holder."""

    number: int
    outgoing: Outgoing
    due_at: float
    deliveries: int = 0
    redelivered: bool = False
    holder: str | None = None
    lease: int = 0
    mark: Lease = field(default_factory=Lease)
    copies: int = 0
    is_copy: bool = False

    @property
    def id(self) -> str:
        return self.outgoing.id or f"number {self.number}"


class SimulatedBroker:
    """The queues, messages and leases of a broker. No method waits: an effect is applied at once or not at all."""

    def __init__(
        self,
        tier: Tier,
        clock: Clock,
        history: History,
        dice: random.Random,
        lease_seconds: float = LEASE,
        name: str = "",
        number: int = 0,
    ) -> None:
        self.tier: Tier = tier
        self.name = name
        self.lease_seconds = lease_seconds
        self.features = TIERS[tier]
        self.clock = clock
        self.history = history
        self.messages: list[PaigeantMessage] = []
        self._dice = dice
        self._queued: list[Queued] = []
        self._settled: set[tuple[str, int]] = set()
        self._published: set[str] = set()
        self._notes: dict[str, float] = {}
        self._count = 0
        self._leases = number * 1_000_000  # no two brokers give a lease the same number
        self._last_taken: list[Queued] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()

    # --- what workers do --------------------------------------------------------------------------------------

    def put(self, outgoing: Outgoing, follows: Delivery | None = None) -> None:
        """Accept a message. A broker that knows ids ignores a message that it already has.

        The delivery that the message ``follows`` is settled in the same act, so it does not count as a message here.
        """
        left = [one for one in self._queued if follows is None or one.number != follows.tag]
        if self.features.dedupes and outgoing.id and any(one.outgoing.name == outgoing.name for one in left):
            return
        message = _read(outgoing)
        if message is not None:
            self.messages.append(message)
            cause, broker = message.causation_id, self.name
            self.history.add(Published(message=message.id, workflow=message.correlation_id, cause=cause, broker=broker))
            if message.id in self._published:
                self.history.add(Copied(message=message.id))
            self._published.add(message.id)
        self._keep(replace(outgoing, delay=0.0), self.clock.now() + outgoing.delay)

    def _keep(self, outgoing: Outgoing, due_at: float, *, is_copy: bool = False) -> None:
        self._count += 1
        self._queued.append(Queued(self._count, outgoing, due_at, is_copy=is_copy))
        self.wake_at(due_at)

    def take(self, holder: str, queues: Sequence[str], prefetch: int) -> list[Delivery]:
        """Deliver some of the waiting messages, in any order."""
        waiting = self.ready(queues)
        self._dice.shuffle(waiting)
        room = prefetch - sum(1 for one in self._queued if one.holder == holder)
        self._last_taken = waiting[: self._dice.randint(1, room)] if room > 0 else []
        return [self._hand_out(one, holder) for one in self._last_taken]

    def _hand_out(self, queued: Queued, holder: str) -> Delivery:
        self._leases += 1
        queued.holder, queued.lease, queued.mark = holder, self._leases, Lease()
        queued.deliveries += 1
        self.history.add(Claimed(message=queued.id, worker=holder, lease=queued.lease, deliveries=queued.deliveries))
        return Delivery(
            queue=queued.outgoing.queue,
            body=queued.outgoing.body,
            tag=queued.number,
            token=queued.lease,
            id=queued.outgoing.id,
            headers=queued.outgoing.headers,
            deliveries=queued.deliveries,
            redelivered=queued.redelivered,
            lease=queued.mark,
        )

    def owned(self, holder: str, delivery: Delivery) -> Queued | None:
        """Return the message of this delivery if the holder still owns it."""
        for queued in self._queued:
            if (queued.number, queued.holder, queued.lease) == (delivery.tag, holder, delivery.token):
                return queued
        return None

    def settle(self, holder: str, delivery: Delivery, *, replaced: bool = False) -> None:
        """Remove a message; ``replaced`` means that a copy of it takes its place."""
        found = [one for one in self._queued if one.number == delivery.tag]
        stale = not found or (found[0].holder, found[0].lease) != (holder, delivery.token)
        if replaced and not stale:
            self.history.add(Replaced(message=delivery.id or "", worker=holder, lease=delivery.token))
        else:
            self.history.add(Settled(message=delivery.id or "", worker=holder, lease=delivery.token, stale=stale))
        self._settled.add((holder, delivery.token))
        for queued in found:
            self._queued.remove(queued)
            self._let_copies_come(queued)
        self.wake()

    def _let_copies_come(self, gone: Queued) -> None:
        """Deliver copies one after the other, because a broker that knows ids never has two messages of one id."""
        for again in [one for one in self._queued if gone.copies and one.id == gone.id]:
            again.copies, gone.copies = again.copies + gone.copies, 0
        if gone.copies:
            self._copy(gone)
            self._queued[-1].copies = gone.copies - 1

    def was_settled(self, holder: str, delivery: Delivery) -> bool:
        """Return whether this holder already settled the delivery without receiving the confirmation."""
        return (holder, delivery.token) in self._settled

    def give_back(self, queued: Queued, why: str, delay: float = 0.0) -> None:
        """End a lease. A message that its holder released on purpose does not count as a failed delivery."""
        self.history.add(Freed(message=queued.id, lease=queued.lease, why=why))
        if why == "given up":
            queued.deliveries -= 1
        queued.redelivered, queued.holder, queued.mark.lost = True, None, True
        queued.due_at = self.clock.now() + delay
        self.wake_at(queued.due_at)

    def note(self, key: str, seconds: float) -> None:
        """Store a note for some seconds."""
        self._notes[key] = self.clock.now() + seconds

    def noted(self, key: str) -> bool:
        """Return whether the note exists."""
        return self._notes.get(key, 0.0) > self.clock.now()

    # --- what goes wrong --------------------------------------------------------------------------------------

    def holder_died(self, holder: str) -> None:
        """Note the death of a holder: its socket closes at once, its leases expire later."""
        self._free(holder, "crash", 0.0 if self.tier == "at_least_once" else self.lease_seconds)

    def holder_left(self, holder: str) -> None:
        """Note that a holder disconnected in an orderly way."""
        self._free(holder, "given up", 0.0)

    def connection_lost(self, holder: str) -> None:
        """End all leases of the connection, if the broker ties leases to connections."""
        if self.tier == "at_least_once":
            self._free(holder, "lost", 0.0)

    def leases_expire(self, holder: str) -> None:
        """Expire the leases of a holder that is alive but did not renew them in time."""
        self._free(holder, "expired", 0.0)

    def _free(self, holder: str, why: str, delay: float) -> None:
        for queued in [one for one in self._queued if one.holder == holder]:
            self.give_back(queued, why, delay)

    def duplicate_last(self) -> None:
        """Duplicate the last claimed message: now, or on a broker that knows ids after the message was settled."""
        for queued in [one for one in self._last_taken if not one.is_copy]:
            if self.features.dedupes:
                queued.copies += 1
            else:
                self._copy(queued)

    def _copy(self, queued: Queued) -> None:
        self.history.add(Copied(message=queued.id))
        self._keep(queued.outgoing, self.clock.now(), is_copy=True)

    # --- looking on -------------------------------------------------------------------------------------------

    def ready(self, queues: Sequence[str]) -> list[Queued]:
        now = self.clock.now()
        return [
            one for one in self._queued if one.holder is None and one.due_at <= now and one.outgoing.queue in queues
        ]

    def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue, without messages in flight."""
        waiting = Counter(one.outgoing.queue for one in self._queued if one.holder is None)
        return {name: waiting[name] for name in sorted({one.outgoing.queue for one in self._queued})}

    def purge(self, queue: str) -> int:
        gone = [one for one in self._queued if one.outgoing.queue == queue and one.holder is None]
        self._queued = [one for one in self._queued if one not in gone]
        return len(gone)

    def left(self) -> tuple[str, ...]:
        """The messages that the broker still has."""
        return tuple(one.id for one in self._queued)

    def next_due(self) -> float | None:
        """Return when the next message can be delivered, in epoch seconds; a past time while one is in flight."""
        return min([0.0 if one.holder else one.due_at for one in self._queued], default=None)

    async def changed(self) -> None:
        """Wait until there may be a message to deliver."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def wake_at(self, due_at: float) -> None:
        """Wake all consumers at this time."""
        delay = max(0.0, due_at - self.clock.now())
        self._loop.call_later(delay, self.wake, context=self._context)


def _is_replaced(delivery: Delivery, outgoing: Sequence[Outgoing]) -> bool:
    return any(one.id == delivery.id for one in outgoing)


def _read(outgoing: Outgoing) -> PaigeantMessage | None:
    try:
        return codec.decode(outgoing.body, _LIMIT)
    except MalformedMessage:
        return None


class SimulatedTransport(BaseTransport):
    """The transport of one process. ``write`` records events in the store's database in the same act."""

    def __init__(self, broker: SimulatedBroker, doer: Doer, write: Callable[..., None]) -> None:
        self.url = f"simulated://{broker.tier}"
        self.features = broker.features
        self._broker = broker
        self._doer = doer
        self._write = write

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        await self._doer.act(None, lambda: self._broker.holder_left(self._doer.name))

    async def declare(self, *queues: str) -> None:
        pass

    def enlist(self, ledger: Ledger) -> bool:
        del ledger
        return self.features.joins_store

    async def send(self, outgoing: Sequence[Outgoing], record: Sequence[Event] = ()) -> None:
        def effect() -> None:
            if record:
                self._write(record, outgoing)
            for one in outgoing:
                self._broker.put(one)

        try:
            await self._doer.act("send", effect)
        except ConnectionLost as error:
            self._broker.connection_lost(self._doer.name)
            raise TransportError("the connection broke") from error

    async def consume(self, queues: Sequence[str], prefetch: Prefetch) -> AsyncGenerator[Sequence[Delivery], None]:
        while True:
            batch = await self._taken(queues, prefetch) if self._broker.ready(queues) else []
            if batch:
                yield batch
            else:
                await self._broker.changed()

    async def _taken(self, queues: Sequence[str], prefetch: Prefetch) -> list[Delivery]:
        me, taken = self._doer.name, list[Delivery]()

        def effect() -> list[Delivery]:
            taken.extend(self._broker.take(me, queues, prefetch() if callable(prefetch) else prefetch))
            return taken

        try:
            await self._doer.act("claim", effect)
        except ConnectionLost:
            self._broker.connection_lost(me)
            for delivery in taken:
                if (queued := self._broker.owned(me, delivery)) is not None:
                    self._broker.give_back(queued, "lost")
            self._broker.wake_at(self._broker.clock.now() + _AGAIN_AFTER)  # it reconnects and polls
            return []
        return taken

    async def settle(self, delivery: Delivery, outgoing: Sequence[Outgoing] = (), record: Sequence[Event] = ()) -> None:
        if self._broker.tier == "at_least_once":
            await self._publish_then_acknowledge(delivery, outgoing)
            return
        tried = False
        while True:
            try:
                settled = await self._doer.act("settle", lambda: self._settle(delivery, outgoing, record))
            except ConnectionLost:
                tried = True
                await asyncio.sleep(_AGAIN_AFTER)
                continue
            if not settled and not (tried and self._broker.was_settled(self._doer.name, delivery)):
                raise Superseded()
            return

    def _settle(self, delivery: Delivery, outgoing: Sequence[Outgoing], record: Sequence[Event]) -> bool:
        if any(isinstance(event, StepCompleted) for event in record):
            self._broker.history.add(
                Offered(message=delivery.id or "", successors=tuple(one.id or "" for one in outgoing))
            )
        if self._broker.owned(self._doer.name, delivery) is None:
            return False
        if record:
            self._write(record, outgoing)
        for one in outgoing:
            self._broker.put(one, delivery)
        self._broker.settle(self._doer.name, delivery, replaced=_is_replaced(delivery, outgoing))
        return True

    async def _publish_then_acknowledge(self, delivery: Delivery, outgoing: Sequence[Outgoing]) -> None:
        """Publish, then acknowledge. A lost connection also loses the delivery, so the transport does not retry.

        Like the bridge for brokers without delays, this transport holds delayed messages itself.
        """
        me = self._doer.name
        await asyncio.sleep(max([0.0, *(one.delay for one in outgoing)]))
        try:
            for one in outgoing:
                self._required(delivery)
                await self._doer.act("publish", partial(self._broker.put, replace(one, delay=0.0)))
            replaced = _is_replaced(delivery, outgoing)
            await self._doer.act("ack", lambda: self._broker.settle(me, self._required(delivery), replaced=replaced))
        except ConnectionLost:
            self._broker.connection_lost(me)
            raise Superseded() from None

    def _required(self, delivery: Delivery) -> Delivery:
        if self._broker.owned(self._doer.name, delivery) is None:
            raise Superseded()
        return delivery

    async def release(self, delivery: Delivery, delay: float = 0.0) -> None:
        def effect() -> None:
            if (queued := self._broker.owned(self._doer.name, self._required(delivery))) is not None:
                self._broker.give_back(queued, "given up", delay)

        await self._doer.act(None, effect)

    async def extend(self, delivery: Delivery) -> None:
        self._required(delivery)

    async def note(self, key: str, seconds: float) -> None:
        try:
            await self._doer.act("mark", lambda: self._broker.note(key, seconds))
        except ConnectionLost as error:
            self._broker.connection_lost(self._doer.name)
            raise TransportError("the connection broke") from error

    async def noted(self, key: str) -> bool | None:
        found: bool = await self._doer.act(None, lambda: self._broker.noted(key))
        return found

    async def purge(self, queue: str) -> int:
        return self._broker.purge(queue)

    async def depth(self, queue: str) -> int:
        return self._broker.depths().get(queue, 0)

    async def queues(self) -> Mapping[str, int]:
        return self._broker.depths()
