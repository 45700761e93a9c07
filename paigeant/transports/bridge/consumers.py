"""The consumers of a transport: other threads add and remove them, the bridge's thread hands out deliveries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from paigeant.errors import PaigeantError
from paigeant.runtime.io_thread import call_in
from paigeant.transport import Delivery, Prefetch
from paigeant.transports.bridge.refusals import Closed
from paigeant.transports.pump.contract import Pump


@dataclass(slots=True, eq=False)
class Consumer:
    """Receives the deliveries of some queues, or an error after which nothing more arrives."""

    queues: tuple[str, ...]
    prefetch: Prefetch
    loop: asyncio.AbstractEventLoop
    arrivals: asyncio.Queue[Sequence[Delivery] | PaigeantError] = field(default_factory=asyncio.Queue)
    has_begun: bool = False
    """Whether the broker has accepted its subscription."""

    def put(self, arrived: Sequence[Delivery] | PaigeantError) -> None:
        """Give it something, from any thread."""
        call_in(self.loop, self.arrivals.put_nowait, arrived)


Refusal = Callable[[BaseException], PaigeantError]


class Consumers:
    """All consumers of one bridge. ``is_stale``: the broker does not know of the latest change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: tuple[Consumer, ...] = ()  # replaced, never changed: other threads add and remove
        self._counter = count()
        self._has_ended = False
        self.is_stale = False

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, consumer: Consumer) -> None:
        """Deliver to it from the next subscription on.

        Raises:
            Closed: the bridge has ended.
        """
        with self._lock:
            if self._has_ended:
                raise Closed("the connection to the broker was closed")
            self._all = (*self._all, consumer)
            self.is_stale = True

    def remove(self, consumer: Consumer) -> bool:
        """Deliver nothing more to it; whether it was there."""
        with self._lock:
            if consumer not in self._all:
                return False
            self._all = tuple(one for one in self._all if one is not consumer)
            self.is_stale = True
            return True

    def end(self, error: PaigeantError) -> None:
        """Accept no further consumers, and give the error to those that are there."""
        with self._lock:
            consumers, self._all, self._has_ended = self._all, (), True
        for consumer in consumers:
            consumer.put(error)

    def abandoned(self) -> list[Consumer]:
        """Those whose event loop was closed."""
        return [one for one in self._all if one.loop.is_closed()]

    @property
    def prefetch(self) -> int:
        """How many deliveries all of them together want to have at a time."""
        sizes = [consumer.prefetch for consumer in self._all]
        return sum(size() if callable(size) else size for size in sizes)

    def of(self, queue: str) -> Consumer | None:
        """The consumer that receives the next delivery of this queue: consumers of one queue alternate."""
        candidates = [one for one in self._all if queue in one.queues]
        return candidates[next(self._counter) % len(candidates)] if candidates else None

    def subscribe(self, pump: Pump, refusal: Refusal) -> list[tuple[Consumer, PaigeantError]]:
        """Subscribe to the queues of all consumers. Returns the new ones that the broker refuses, with its reasons."""
        with self._lock:
            consumers, self.is_stale = self._all, False
        names = dict.fromkeys(name for consumer in consumers for name in consumer.queues)
        try:
            refused = pump.subscribe(tuple(names), self.prefetch) or {}
        except Exception as error:
            self.is_stale = True
            if not pump.diagnose(error).is_narrow or all(one.has_begun for one in consumers):
                raise
            refused = dict.fromkeys(names, refusal(error))
        ended = []
        for consumer in [one for one in consumers if not one.has_begun]:
            error_of = next((refused[name] for name in consumer.queues if name in refused), None)
            if error_of is None:
                consumer.has_begun = True
            else:
                ended.append((consumer, error_of))
        return ended
