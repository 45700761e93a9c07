"""Recording and publishing: the effects that need no delivery, in this order: record, publish, announce.

With transport and store in one database, record and publish are one transaction of the transport. Where they are
separate, the store records the messages to publish along with the history.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import structlog

from paigeant.activity.observers import Observer, tell
from paigeant.events import Event
from paigeant.records.workflow import RESENT, SAID_WITHIN
from paigeant.runtime.outage import Outage
from paigeant.runtime.patience import Patience
from paigeant.store import Store
from paigeant.transport import BaseTransport, Outgoing
from paigeant.wire.claim_check import Keeper, Parcel

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.dispatch")


def copy_of(one: Outgoing) -> Outgoing:
    """Mark a message as a copy, because another worker probably publishes it: it starts only if nobody holds it."""
    return replace(one, delay=max(one.delay, SAID_WITHIN), headers={**one.headers, RESENT: "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """Records and publishes for one App. ``joined``: the store uses the transport's database.

    ``keeper`` stores values that travel outside their message.
    """

    transport: BaseTransport
    store: Store | None
    joined: bool
    observers: Sequence[Observer] = ()
    keeper: Keeper | None = None
    _patience: Patience = field(
        default_factory=lambda: Patience(Outage(log, "use the store")), init=False, compare=False
    )

    def patiently(self, ask: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Ask the store until it answers: an outage must neither rerun a finished step nor move messages around.

        Raises:
            StoreRefused: the store cannot accept a value.
        """
        return self._patience.ask(ask)

    async def keep(self, outgoing: Sequence[Outgoing], parcels: Sequence[Parcel] = ()) -> None:
        """Store the values and bodies of these messages before the messages are visible to anybody.

        Raises:
            StoreError: nobody knows what was stored; a second call does no harm.
        """
        parcels = [*(parcel for one in outgoing for parcel in one.parcels), *parcels]
        if parcels:
            assert self.keeper is not None, "values are stored outside a message only with a keeper"
            await self.keeper.keep(parcels)

    async def note(self, events: Sequence[Event]) -> None:
        """Record events that do not end a step."""
        if self.store is not None:
            await self.store.record(events)
        self.announce(events)

    async def post(self, outgoing: Sequence[Outgoing], record: Sequence[Event], parcels: Sequence[Parcel] = ()) -> None:
        """Record and publish without a delivery: in one transaction, or in this order.

        Raises:
            TransportError, StoreError: nobody knows what was done; a second call does no harm.
        """
        await self.keep(outgoing, parcels)
        if self.store is not None and not self.joined:
            await self.store.record(record, outgoing)
        await self.transport.send(outgoing, record if self.joined else ())
        self.announce(record)

    async def done_with(self, message_id: str) -> None:
        """Remove the expectation of a message that was published again after its step had ended."""
        if self.store is not None and not self.joined:
            await self.patiently(partial(self.store.record, (), (), message_id))

    async def wake(self, outgoing: Outgoing, resumed: Event, *, is_left: bool = False) -> None:
        """Publish a message parked in the store, then remove its row, as ``resumed`` says.

        ``is_left``: another worker may have published it. Then this is a copy, which starts only if nobody holds it.

        Raises:
            TransportError, StoreError: the row is still there, and the message may have been published.
        """
        await self.keep([outgoing])
        if self.store is not None and not self.joined:
            await self.store.record((), [outgoing])
            await self.transport.send([copy_of(outgoing) if is_left else outgoing])
            await self.store.record([resumed])
        else:
            await self.transport.send([outgoing], [resumed])
        self.announce([resumed])

    def announce(self, events: Sequence[Event]) -> None:
        """Call the observers with recorded events."""
        tell(self.observers, events)
