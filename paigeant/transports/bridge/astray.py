"""Settlements whose deliveries were lost with the connection: they wait a moment for the broker to redeliver them."""

from __future__ import annotations

from collections.abc import Iterator

from paigeant.transports.bridge.out import Out
from paigeant.transports.bridge.waiting import Waiting
from paigeant.transports.pump.settlement import Request

_REDELIVERED_WITHIN = 1.0
"""Seconds after a new connection in which a broker redelivers what was lost with the old one; RabbitMQ takes a few
hundredths of a second."""


class Astray:
    """Compares the settlements with ``out``, the deliveries that are out. Times are of the monotonic clock."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._requests: list[Request] = []
        self._until = 0.0

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def reconnected(self, now: float) -> None:
        """Wait from now on for redeliveries."""
        self._until = now + _REDELIVERED_WITHIN

    def take_from(self, waiting: Waiting, now: float) -> None:
        """Keep back those that would fail now, if there is still time for a redelivery."""
        if now < self._until:
            self._requests += waiting.take(lambda one: self._out.is_astray(one.settlement))

    def ended(self, now: float, *, is_stopping: bool) -> list[Request]:
        """Those whose delivery has come again, and all of them when the time is over."""
        if not self._requests:
            return []
        is_over = now >= self._until or is_stopping
        ended = [one for one in self._requests if is_over or not self._out.is_astray(one.settlement)]
        self._requests = [one for one in self._requests if one not in ended]
        return ended

    def left(self, now: float) -> float | None:
        """How many seconds are left until all of them have ended; None when there is none."""
        return self._until - now if self._requests else None
