"""The contract between paigeant and what carries its messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from importlib import import_module
from math import inf
from re import compile as compile_pattern
from typing import TYPE_CHECKING, Any, Protocol

from paigeant.events import Event, StepEnded
from paigeant.runtime.clock import boot_time

if TYPE_CHECKING:
    from paigeant.wire.claim_check import Parcel
    from paigeant.wire.handed import HandedMessage
    from paigeant.wire.message import PaigeantMessage


class Durability(StrEnum):
    """What is left of a message when processes die."""

    TRANSACTIONAL = "transactional"
    """Settlement is one transaction, refused to a stale holder."""
    AT_LEAST_ONCE = "at_least_once"
    """An un-acknowledged message comes back; it may come twice."""
    BEST_EFFORT = "best_effort"
    """A message may be lost or come late when a worker dies."""
    VOLATILE = "volatile"
    """Messages live in this process only."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a transport can do; conformance tests and ``paigeant doctor`` check every claim."""

    durability: Durability
    delay: bool = False
    priority: bool = False
    fenced: bool = False
    delivery_count: bool = False
    dedupes: bool = False
    """Whether a message that is published again with the same id while it waits stays one message."""
    joins_store: bool = False
    """Whether history can be written in the transaction of a settlement."""
    longest_hold: float | None = None
    """Seconds after which the broker takes back what a live holder has not settled; None for never."""
    longest_name: int | None = None
    """Bytes the name of a queue may have; None where there is no limit that matters."""
    longest_delay: float = 86_400.0
    """Seconds up to which the broker delays a message better than a store does, if it delays at all."""

    @property
    def disregards_priority(self) -> bool:
        """Whether a step with a priority would wait its turn unnoticed; in memory that is nobody's loss."""
        return not self.priority and self.durability is not Durability.VOLATILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message as bytes, ready to publish to a queue. ``delay`` is seconds; priority 9 goes first.

    ``parcels`` are values of the message that do not travel with it, and have to be kept before it does.
    """

    queue: str
    body: bytes
    id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    priority: int = 0
    parcels: Sequence[Parcel] = field(default=(), compare=False)

    @property
    def name(self) -> str | None:
        """The name by which a database recognizes a copy of this message: made of its id and of its bytes.

        Ids can be computed in advance. Were the id alone the name, a stranger's message with the id of a message to
        come would take its place. The store's inbox decides by the id which of the two runs.
        """
        if self.id is None:
            return None
        return f"{self.id}~{blake2b(self.body, digest_size=16).hexdigest()}"


_NAME = compile_pattern(r"(.+)~[0-9a-f]{32}")


def id_in(name: str) -> str:
    """Return the id in the name of a message. Earlier releases named a message by its id."""
    found = _NAME.fullmatch(name)
    return found[1] if found else name


DELIVERED_BEFORE = "paigeant-deliveries"
"""The header in which a copy that a transport makes to give a message back keeps the count of the deliveries before."""


HANDED_ON = "paigeant-handed-on"
"""The header of a copy by which a worker replaced the message that it held: the copy is the message now."""


class Term:
    """Until when the leases of one holder surely hold, by :func:`~paigeant.runtime.clock.boot_time`.

    The transport moves ``until`` when it has renewed the leases: to the time before it asked plus their length.
    """

    __slots__ = ("until",)

    def __init__(self, until: float = inf) -> None:
        self.until = until


class Lease:
    """The right to run a step for a time. ``lost`` turns true when the transport learns that it ran out.

    Without a ``term`` it ends only when the transport says so.
    """

    __slots__ = ("_first", "_later", "_lost", "_term")

    def __init__(self, term: Term | None = None) -> None:
        self._lost = False
        self._first: Lease | None = None
        self._later: Lease | None = None
        self._term = term

    @property
    def lost(self) -> bool:
        return self._lost if self._later is None else self._later._lost

    @lost.setter
    def lost(self, lost: bool) -> None:
        self._lost = lost

    @property
    def holds(self) -> bool:
        """Whether the lease surely holds now, so that nobody else can have the message.

        A process that was frozen does not know yet that its lease ran out; the clock tells it.
        """
        if self._later is not None:
            return self._later.holds
        return not self._lost and (self._term is None or boot_time() < self._term.until)

    def goes_on_as(self, later: Lease) -> None:
        """The broker has handed the message out to the same process again, while its step runs.

        However often that happens, the first lease, which the step has, leads to the last one at once.
        """
        first = self._first or self
        first._later, later._first = later, first


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as received. It is settled or released once.

    ``deliveries`` counts how often the broker has handed this message out, this time included; ``redelivered`` says
    whether it did before, also if it came back unharmed. ``tag`` and ``token`` belong to the transport. ``priority`` is
    the one it was published with, where the broker tells.
    """

    queue: str
    body: bytes
    tag: Any
    token: int = 0
    id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    deliveries: int = 1
    redelivered: bool = False
    priority: int = 0
    lease: Lease = field(default_factory=Lease, compare=False)

    def copy(self, headers: Mapping[str, str], delay: float = 0.0) -> Outgoing:
        """The same message with these headers besides its own, to settle it with; the broker's own stay behind.

        It says that it is no mere duplicate, which nobody would miss.
        """
        kept = {
            name: str(value)
            for name, value in self.headers.items()
            if not name.startswith("x-") and name != DELIVERED_BEFORE
        }
        return Outgoing(
            queue=self.queue,
            body=self.body,
            id=self.id,
            headers={**kept, HANDED_ON: "1", **headers},
            delay=delay,
            priority=self.priority,
        )

    def is_worn(self, limit: int | None) -> bool:
        """Whether the broker drops the message if it goes back once more, since it does so after ``limit`` returns."""
        returns = self.headers.get("x-delivery-count")
        return bool(limit) and isinstance(returns, int) and returns >= (limit or 0)


Prefetch = int | Callable[[], int]
"""How many deliveries may be out at a time: always as many, or as this function says, which any thread may call."""


class Ledger(Protocol):
    """A store that lives in the transport's database and writes in the transport's transactions.

    ``connection`` is a SQLAlchemy connection inside a transaction; all methods run in the transport's I/O thread.
    """

    database_url: str

    def write(self, connection: Any, events: Sequence[Event]) -> None:
        """Record the events."""
        ...

    def finished(self, connection: Any, message_ids: Sequence[str]) -> Collection[str]:
        """Which of these messages are done with."""
        ...

    def recorded(self, connection: Any, ends: Sequence[StepEnded]) -> bool:
        """Whether all these ends are recorded, and of the very run that reports them."""
        ...


class BaseTransport(ABC):
    """Carries messages between services. Every method may be called from any event loop.

    Raises everywhere:
        TransportError: the broker is unreachable or refused.
    """

    url: str
    features: Features

    @abstractmethod
    async def connect(self) -> None:
        """Reach the broker, or say why not. Calling it again does nothing."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what is held and disconnect."""

    @abstractmethod
    async def declare(self, *queues: str) -> None:
        """Make sure the queues exist, so that what is published to them waits there."""

    @abstractmethod
    async def send(self, outgoing: Sequence[Outgoing], record: Sequence[Event] = ()) -> None:
        """Publish all of it; when this returns the broker has it.

        ``record`` is written in the same transaction by a store that was enlisted, and must be empty otherwise.
        """

    async def publish(self, queue: str, message: PaigeantMessage | HandedMessage) -> None:
        """Publish one message. One that a worker's handler has in hand is forwarded by the worker instead."""
        from paigeant.wire.handed import HandedMessage

        if isinstance(message, HandedMessage):
            return
        await self.send([Outgoing(queue=queue, body=message.to_json(), id=message.id, priority=message.step.priority)])

    def subscribe(self, name: str, *, burst: bool = False) -> AsyncGenerator[HandedMessage, None]:
        """The messages for the activity of this name, for a loop by hand: ``async for message in ...``.

        The body does the step and then calls ``message.routing_slip.mark_complete(name, output)`` or
        ``message.fail(error)``. The step is settled when the loop asks for the next message. A message that the loop
        leaves undecided goes back to the broker. With ``burst`` the loop ends when nothing is left to do.
        """
        messages = import_module("paigeant.runway.subscription").messages  # what stands above is asked by its name
        found: AsyncGenerator[HandedMessage, None] = messages(self, name, burst=burst)
        return found

    @abstractmethod
    def consume(self, queues: Sequence[str], prefetch: Prefetch) -> AsyncGenerator[Sequence[Delivery], None]:
        """Batches of deliveries; at most ``prefetch`` are out at a time, counted until settled or released.

        A function is asked again and again; where it says less than before, what is out stays out.
        Closing the generator stops the flow; what is out can still be settled. A broker that is away is waited for.

        Raises:
            BrokerRefused: the broker does not let this consumer begin.
            TransportError: the transport was closed.
        """

    @abstractmethod
    async def settle(self, delivery: Delivery, outgoing: Sequence[Outgoing] = (), record: Sequence[Event] = ()) -> None:
        """Publish what comes next and acknowledge, as one atomic act where the broker can.

        Raises:
            Superseded: another worker owns the delivery now; nothing was published or recorded.
            BrokerRefused: the broker refuses this settlement alone, with its reason; the delivery is still held.
        """

    @abstractmethod
    async def release(self, delivery: Delivery, delay: float = 0.0) -> None:
        """Give the delivery back as if it had never been handed out, due again after ``delay`` seconds."""

    @abstractmethod
    async def extend(self, delivery: Delivery) -> None:
        """Renew the lease now. Leases of a live worker renew themselves.

        Raises:
            Superseded: the lease is lost.
        """

    async def note(self, key: str, seconds: float) -> None:
        """Keep a fact for so many seconds, for every process of the broker, beyond the end of this one.

        ``key`` has at most 240 bytes. Noting it again is allowed. A broker that cannot keep notes ignores this.
        """
        del key, seconds

    async def noted(self, key: str) -> bool | None:
        """Whether somebody has noted this; None: this broker cannot keep notes. To ask may prolong the note."""
        del key
        return None

    @abstractmethod
    async def purge(self, queue: str) -> int:
        """Delete what waits in the queue; the number of messages deleted."""

    @abstractmethod
    async def depth(self, queue: str) -> int:
        """How many messages wait in the queue."""

    async def ping(self, queue: str) -> None:
        """Make one round trip with the broker; a transport for which :meth:`depth` is dear asks something cheaper."""
        await self.depth(queue)

    async def queues(self) -> Mapping[str, int]:
        """Every known queue with its depth; empty where the broker cannot list them."""
        return {}

    async def delivery_limit(self, prefix: str) -> int | None:
        """How often a message of a queue of this prefix may go back to the broker before the broker drops it.

        None where it drops none for that, or where it is not known. The transport acts on what it has found.
        """
        del prefix
        return None

    def trouble(self) -> str | None:
        """What keeps the transport from working right now, in one line; None when nothing does. Does not block."""
        return None

    def enlist(self, ledger: Ledger) -> bool:
        """Let the store write in this transport's transactions; False when they do not share a database."""
        del ledger
        return False
