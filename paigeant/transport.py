"""The contract between paigeant and what carries its messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from paigeant.events import Event

if TYPE_CHECKING:
    from paigeant.claim_check import Parcel
    from paigeant.handed import HandedMessage
    from paigeant.message import PaigeantMessage


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


class Lease:
    """The right to run a step for a time. ``lost`` turns true when the transport learns that it ran out."""

    __slots__ = ("_later", "_lost")

    def __init__(self) -> None:
        self._lost = False
        self._later: Lease | None = None

    @property
    def lost(self) -> bool:
        return self._lost if self._later is None else self._later.lost

    @lost.setter
    def lost(self, lost: bool) -> None:
        self._lost = lost

    def goes_on_as(self, later: Lease) -> None:
        """The broker has handed the message out to the same process again, while its step runs."""
        self._later = later


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as received. It is settled or released once.

    ``deliveries`` counts how often the broker has handed this message out, this time included; ``redelivered`` says
    whether it did before, also if it came back unharmed. ``tag`` and ``token`` belong to the transport.
    """

    queue: str
    body: bytes
    tag: Any
    token: int = 0
    id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    deliveries: int = 1
    redelivered: bool = False
    lease: Lease = field(default_factory=Lease, compare=False)


Prefetch = int | Callable[[], int]
"""How many deliveries may be out at a time: always as many, or as this function says, which any thread may call."""


class Ledger(Protocol):
    """A store that lives in the transport's database and writes in the transport's transactions.

    ``connection`` is a SQLAlchemy connection inside a transaction; both methods run in the transport's I/O thread.
    """

    database_url: str

    def write(self, connection: Any, events: Sequence[Event]) -> None:
        """Record the events."""
        ...

    def finished(self, connection: Any, message_ids: Sequence[str]) -> Mapping[str, str]:
        """Which of these messages are done with, and by which worker."""
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
        from paigeant.handed import HandedMessage

        if isinstance(message, HandedMessage):
            return
        await self.send([Outgoing(queue=queue, body=message.to_json(), id=message.id, priority=message.step.priority)])

    @abstractmethod
    def consume(self, queues: Sequence[str], prefetch: Prefetch) -> AsyncGenerator[Sequence[Delivery], None]:
        """Batches of deliveries; at most ``prefetch`` are out at a time, counted until settled or released.

        A function is asked again and again; where it says less than before, what is out stays out.
        Closing the generator stops the flow; what is out can still be settled.
        """

    @abstractmethod
    async def settle(self, delivery: Delivery, outgoing: Sequence[Outgoing] = (), record: Sequence[Event] = ()) -> None:
        """Publish what comes next and acknowledge, as one atomic act where the broker can.

        Raises:
            Superseded: another worker owns the delivery now; nothing was published or recorded.
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

    @abstractmethod
    async def purge(self, queue: str) -> int:
        """Delete what waits in the queue; the number of messages deleted."""

    @abstractmethod
    async def depth(self, queue: str) -> int:
        """How many messages wait in the queue."""

    async def queues(self) -> Mapping[str, int]:
        """Every known queue with its depth; empty where the broker cannot list them."""
        return {}

    def enlist(self, ledger: Ledger) -> bool:
        """Let the store write in this transport's transactions; False when they do not share a database."""
        del ledger
        return False
