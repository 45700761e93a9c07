"""The deliveries that are out: handed to a consumer and not settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from paigeant.transport import Delivery
from paigeant.transports.pump.settlement import Settlement

_Key = tuple[Any, int]
_Message = tuple[str, str | None, bytes]
"""Queue, id and bytes: a message with the id of another one is no copy of it."""


class Came(Enum):
    """What a delivery is."""

    NEW = "new"
    """Its message is not out: hand it out."""
    AGAIN = "again"
    """Its message was lost with a connection while its step runs here: the run goes on under this delivery."""
    COPY = "copy"
    """Its message is out already: it waits here until that one has ended, and goes with it."""


class Out:
    """What is out, under the delivery by which each message is held now.

    A broker that lost its connection to us hands a message out again. If its step still runs here, nobody died, and the
    run goes on under the new delivery: its lease is no longer lost, and what settles the old one settles the new one.
    A second copy of a message (its publisher did not hear that the first one arrived) is kept back while the first one
    is out: it would run the same step beside itself.
    """

    def __init__(self) -> None:
        self._held: dict[_Key, Delivery] = {}
        self._keys: dict[_Message, _Key] = {}
        self._copies: dict[_Message, list[Delivery]] = {}

    def add(self, delivery: Delivery) -> Came:
        """Note a delivery that came."""
        message = _message(delivery)
        key = self._keys.get(message)
        if key is None:
            self._held[_key(delivery)] = delivery
            if delivery.id:
                self._keys[message] = _key(delivery)
            return Came.NEW
        if self._held[key].lease.lost:
            self._held[key].lease.goes_on_as(delivery.lease)
            self._held[key] = delivery
            return Came.AGAIN
        self._copies.setdefault(message, []).append(delivery)
        return Came.COPY

    def discard(self, delivery: Delivery) -> Sequence[Delivery]:
        """It is settled; the copies of it, which are to be settled as well. Doing it again does nothing."""
        self._held.pop(_key(delivery), None)
        message = _message(delivery)
        if self._keys.get(message) != _key(delivery):
            return ()
        del self._keys[message]
        return [one for one in self._copies.pop(message, ()) if not one.lease.lost]

    def all(self) -> list[Delivery]:
        """The deliveries as they were handed out, under whose keys what they lead to is held."""
        return [replace(held, tag=key[0], token=key[1]) for key, held in self._held.items()]

    def settlement(self, settlement: Settlement) -> Settlement:
        """The settlement, of the delivery by which its message is held now."""
        delivery = settlement.delivery
        held = self._held.get(_key(delivery), delivery) if delivery is not None else None
        return settlement if held is delivery else replace(settlement, delivery=held)

    def is_astray(self, settlement: Settlement) -> bool:
        """Whether its delivery is out and its lease was lost, so that it may come again."""
        delivery = settlement.delivery
        return delivery is not None and delivery.lease.lost and self._keys.get(_message(delivery)) == _key(delivery)

    def held(self, settlements: Sequence[Settlement]) -> int:
        """How many are held besides those of these settlements; a lost one leaves its place to what comes again."""
        settled = sum(1 for one in settlements if one.delivery is not None and not one.delivery.lease.lost)
        copies = sum(1 for some in self._copies.values() for one in some if not one.lease.lost)
        return len(self._held) + copies - sum(1 for one in self._held.values() if one.lease.lost) - settled


def _key(delivery: Delivery) -> _Key:
    return delivery.tag, delivery.token


def _message(delivery: Delivery) -> _Message:
    return delivery.queue, delivery.id, delivery.body
