"""A broker in memory that behaves as real ones do at their worst, and the transport by which simulated workers use it.

There is one for each tier of promise: ``atomic`` as our SQL transport with the store in its database, ``fenced`` as our
Redis transport with a store elsewhere, ``at_least_once`` as RabbitMQ with a store elsewhere.
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

from paigeant import codec
from paigeant.clock import Clock
from paigeant.errors import MalformedMessage, Superseded, TransportError
from paigeant.events import Event, StepCompleted
from paigeant.message import PaigeantMessage
from paigeant.testing.faults import Point
from paigeant.testing.history import Claimed, Copied, Freed, History, Offered, Published, Settled
from paigeant.transport import BaseTransport, Delivery, Durability, Features, Lease, Ledger, Outgoing, Prefetch

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
"""What a broker of each tier can do. The last one cannot delay, so that long delays wait in the store."""

LEASE = 5.0
"""Seconds a dead worker keeps its deliveries."""

_AGAIN_AFTER = 0.1
_LIMIT = 100_000_000


class ConnectionLost(Exception):
    """The connection broke; whether what was asked for was done, nobody knows."""


class Doer(Protocol):
    """A process that acts on broker and store, and to which things happen on the way."""

    name: str

    @property
    def reaches_store(self) -> bool:
        """Whether there is no outage."""
        ...

    async def act(self, point: Point | None, effect: Callable[[], Any], activity: str | None = None) -> Any:
        """Do it, with what is planned to go wrong before and after it; never returns to a process that died.

        The effect is done at once, or is a coroutine.
        """
        ...


@dataclass(slots=True, eq=False)
class Kept:
    """A message on the broker; it is out while it has a holder."""

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
    """Queues, leases and the messages in them. Nothing here waits: an effect is done or not."""

    def __init__(
        self, tier: Tier, clock: Clock, history: History, dice: random.Random, lease_seconds: float = LEASE
    ) -> None:
        self.tier: Tier = tier
        self.lease_seconds = lease_seconds
        self.features = TIERS[tier]
        self.clock = clock
        self.history = history
        self.messages: list[PaigeantMessage] = []
        self._dice = dice
        self._kept: list[Kept] = []
        self._settled: set[tuple[str, int]] = set()
        self._published: set[str] = set()
        self._count = 0
        self._leases = 0
        self._last_taken: list[Kept] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()

    # --- what workers do --------------------------------------------------------------------------------------

    def put(self, outgoing: Outgoing) -> None:
        """Take a message; one that is there already is not taken again where the broker knows ids."""
        if self.features.dedupes and outgoing.id and any(one.id == outgoing.id for one in self._kept):
            return
        message = _read(outgoing)
        if message is not None:
            self.messages.append(message)
            self.history.add(Published(message=message.id, workflow=message.correlation_id, cause=message.causation_id))
            if message.id in self._published:
                self.history.add(Copied(message=message.id))
            self._published.add(message.id)
        self._keep(replace(outgoing, delay=0.0), self.clock.now() + outgoing.delay)

    def _keep(self, outgoing: Outgoing, due_at: float, *, is_copy: bool = False) -> None:
        self._count += 1
        self._kept.append(Kept(self._count, outgoing, due_at, is_copy=is_copy))
        self._wake_at(due_at)

    def take(self, holder: str, queues: Sequence[str], prefetch: int) -> list[Delivery]:
        """Hand out some of what waits, in any order."""
        waiting = self.ready(queues)
        self._dice.shuffle(waiting)
        room = prefetch - sum(1 for one in self._kept if one.holder == holder)
        self._last_taken = waiting[: self._dice.randint(1, room)] if room > 0 else []
        return [self._hand_out(one, holder) for one in self._last_taken]

    def _hand_out(self, kept: Kept, holder: str) -> Delivery:
        self._leases += 1
        kept.holder, kept.lease, kept.mark = holder, self._leases, Lease()
        kept.deliveries += 1
        self.history.add(Claimed(message=kept.id, worker=holder, lease=kept.lease, deliveries=kept.deliveries))
        return Delivery(
            queue=kept.outgoing.queue,
            body=kept.outgoing.body,
            tag=kept.number,
            token=kept.lease,
            id=kept.outgoing.id,
            headers=kept.outgoing.headers,
            deliveries=kept.deliveries,
            redelivered=kept.redelivered,
            lease=kept.mark,
        )

    def owned(self, holder: str, delivery: Delivery) -> Kept | None:
        """The message of this delivery, if it is still its holder's."""
        for kept in self._kept:
            if (kept.number, kept.holder, kept.lease) == (delivery.tag, holder, delivery.token):
                return kept
        return None

    def settle(self, holder: str, delivery: Delivery) -> None:
        """Let a message go for good."""
        found = [one for one in self._kept if one.number == delivery.tag]
        stale = not found or (found[0].holder, found[0].lease) != (holder, delivery.token)
        self.history.add(Settled(message=delivery.id or "", worker=holder, lease=delivery.token, stale=stale))
        self._settled.add((holder, delivery.token))
        for kept in found:
            self._kept.remove(kept)
            for _ in range(kept.copies):
                self._copy(kept)
        self.wake()

    def was_settled(self, holder: str, delivery: Delivery) -> bool:
        """Whether this holder settled it already, and did not hear that it had."""
        return (holder, delivery.token) in self._settled

    def give_back(self, kept: Kept, why: str, delay: float = 0.0) -> None:
        """End a lease. A message that was given up unharmed is not counted."""
        self.history.add(Freed(message=kept.id, lease=kept.lease, why=why))
        if why == "given up":
            kept.deliveries -= 1
        kept.redelivered, kept.holder, kept.mark.lost = True, None, True
        kept.due_at = self.clock.now() + delay
        self._wake_at(kept.due_at)

    # --- what goes wrong --------------------------------------------------------------------------------------

    def holder_died(self, holder: str) -> None:
        """Its socket closes at once, its leases end by themselves."""
        self._free(holder, "crash", 0.0 if self.tier == "at_least_once" else self.lease_seconds)

    def holder_left(self, holder: str) -> None:
        """It has said good-bye."""
        self._free(holder, "given up", 0.0)

    def connection_lost(self, holder: str) -> None:
        """Where a lease is a connection's, all of them are gone."""
        if self.tier == "at_least_once":
            self._free(holder, "lost", 0.0)

    def leases_expire(self, holder: str) -> None:
        """The broker hears nothing of a holder for too long, although it lives."""
        self._free(holder, "expired", 0.0)

    def _free(self, holder: str, why: str, delay: float) -> None:
        for kept in [one for one in self._kept if one.holder == holder]:
            self.give_back(kept, why, delay)

    def duplicate_last(self) -> None:
        """Have what was just taken once more: now, or where ids are known, as soon as the broker has let it go."""
        for kept in [one for one in self._last_taken if not one.is_copy]:
            if self.features.dedupes:
                kept.copies += 1
            else:
                self._copy(kept)

    def _copy(self, kept: Kept) -> None:
        self.history.add(Copied(message=kept.id))
        self._keep(kept.outgoing, self.clock.now(), is_copy=True)

    # --- looking on -------------------------------------------------------------------------------------------

    def ready(self, queues: Sequence[str]) -> list[Kept]:
        now = self.clock.now()
        return [one for one in self._kept if one.holder is None and one.due_at <= now and one.outgoing.queue in queues]

    def depths(self) -> dict[str, int]:
        """How many messages wait in each queue; what is out does not."""
        waiting = Counter(one.outgoing.queue for one in self._kept if one.holder is None)
        return {name: waiting[name] for name in sorted({one.outgoing.queue for one in self._kept})}

    def purge(self, queue: str) -> int:
        gone = [one for one in self._kept if one.outgoing.queue == queue and one.holder is None]
        self._kept = [one for one in self._kept if one not in gone]
        return len(gone)

    def left(self) -> tuple[str, ...]:
        """The messages it still has."""
        return tuple(one.id for one in self._kept)

    def next_due(self) -> float | None:
        """When the next message can be handed out, in epoch seconds; the past while one is out."""
        return min([0.0 if one.holder else one.due_at for one in self._kept], default=None)

    async def changed(self) -> None:
        """Wait until there may be something to take."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _wake_at(self, due_at: float) -> None:
        delay = max(0.0, due_at - self.clock.now())
        self._loop.call_later(delay, self.wake, context=self._context)


def _read(outgoing: Outgoing) -> PaigeantMessage | None:
    try:
        return codec.decode(outgoing.body, _LIMIT)
    except MalformedMessage:
        return None


class SimulatedTransport(BaseTransport):
    """How one process uses the broker. ``write`` records events in the store's database, in the same act."""

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
                if (kept := self._broker.owned(me, delivery)) is not None:
                    self._broker.give_back(kept, "lost")
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
            self._broker.put(one)
        self._broker.settle(self._doer.name, delivery)
        return True

    async def _publish_then_acknowledge(self, delivery: Delivery, outgoing: Sequence[Outgoing]) -> None:
        """A lost connection loses the delivery with it, so that there is nothing to try again.

        What is to be delayed is held here, as the bridge does for brokers that cannot delay.
        """
        me = self._doer.name
        await asyncio.sleep(max([0.0, *(one.delay for one in outgoing)]))
        try:
            for one in outgoing:
                self._required(delivery)
                await self._doer.act("publish", partial(self._broker.put, replace(one, delay=0.0)))
            await self._doer.act("ack", lambda: self._broker.settle(me, self._required(delivery)))
        except ConnectionLost:
            self._broker.connection_lost(me)
            raise Superseded() from None

    def _required(self, delivery: Delivery) -> Delivery:
        if self._broker.owned(self._doer.name, delivery) is None:
            raise Superseded()
        return delivery

    async def release(self, delivery: Delivery, delay: float = 0.0) -> None:
        def effect() -> None:
            if (kept := self._broker.owned(self._doer.name, self._required(delivery))) is not None:
                self._broker.give_back(kept, "given up", delay)

        await self._doer.act(None, effect)

    async def extend(self, delivery: Delivery) -> None:
        self._required(delivery)

    async def purge(self, queue: str) -> int:
        return self._broker.purge(queue)

    async def depth(self, queue: str) -> int:
        return self._broker.depths().get(queue, 0)

    async def queues(self) -> Mapping[str, int]:
        return self._broker.depths()
