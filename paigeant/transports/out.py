"""The deliveries that are out: handed to a consumer and not settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from paigeant.transport import Delivery
from paigeant.transports.settlement import Settlement

_Key = tuple[Any, int]


class Out:
    """What is out, under the delivery by which each message is held now.

    A broker that lost its connection to us hands a message out again. If its step still runs here, nobody died, and the
    run goes on under the new delivery: its lease is no longer lost, and what settles the old one settles the new one.
    """

    def __init__(self) -> None:
        self._held: dict[_Key, Delivery] = {}
        self._keys: dict[tuple[str, str | None], _Key] = {}  # by queue and message id

    def add(self, delivery: Delivery) -> bool:
        """Note a delivery that came; whether it is of a message whose step still runs here, under a lost lease."""
        key = self._keys.get(_message(delivery))
        if key is not None and _comes_again(self._held[key], delivery):
            self._held[key].lease.goes_on_as(delivery.lease)
            self._held[key] = delivery
            return True
        self._held[_key(delivery)] = delivery
        if delivery.id:
            self._keys[_message(delivery)] = _key(delivery)
        return False

    def discard(self, delivery: Delivery) -> None:
        """It is settled. Doing it again does nothing."""
        self._held.pop(_key(delivery), None)
        if self._keys.get(_message(delivery)) == _key(delivery):
            del self._keys[_message(delivery)]

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
        return len(self._held) - sum(1 for one in self._held.values() if one.lease.lost) - settled


def _comes_again(held: Delivery, delivery: Delivery) -> bool:
    return held.lease.lost and held.body == delivery.body


def _key(delivery: Delivery) -> _Key:
    return delivery.tag, delivery.token


def _message(delivery: Delivery) -> tuple[str, str | None]:
    return delivery.queue, delivery.id
