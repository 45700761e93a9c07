"""The settlements that a transport's thread was handed and has not finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

from paigeant.transports.pump.settlement import Request

MOST, MOST_BYTES = 500, 4_000_000
"""How many settlements that publish, and how many of their bytes, are under way at once; and how many of the others."""


class Waiting:
    """Those under way were given to the pump, which wants to be given them again; the others wait for their turn.

    What publishes nothing does not wait behind what does: while the broker lets nobody publish, it still acknowledges.
    """

    def __init__(self) -> None:
        self._under_way: dict[Request, int] = {}  # with their bytes
        self._bytes = 0
        self._publishing: dict[Request, None] = {}
        self._others: dict[Request, None] = {}

    def __len__(self) -> int:
        return len(self._under_way) + len(self._publishing) + len(self._others)

    def __iter__(self) -> Iterator[Request]:
        return chain(self._under_way, self._publishing, self._others)

    def add(self, request: Request) -> None:
        """Wait for the next turn."""
        (self._publishing if request.publishes else self._others)[request] = None

    def discard(self, request: Request) -> None:
        """It has come to its end."""
        if (size := self._under_way.pop(request, None)) is not None:
            self._bytes -= size
        else:
            self._publishing.pop(request, None)
            self._others.pop(request, None)

    @property
    def has_new(self) -> bool:
        """Whether the next group holds more than what is under way."""
        return bool(self._others) or bool(self._publishing and self._has_room)

    @property
    def _has_room(self) -> bool:
        return len(self._under_way) < MOST and self._bytes < MOST_BYTES

    def group(self) -> list[Request]:
        """What the next exchange is about; from now on it is under way."""
        for request in list(islice(self._others, MOST)):
            del self._others[request]
            self._under_way[request] = 0
        while self._publishing and self._has_room:
            request = next(iter(self._publishing))
            del self._publishing[request]
            self._under_way[request] = size = request.settlement.size
            self._bytes += size
        return list(self._under_way)

    def start_again(self) -> None:
        """The connection is lost: what was under way waits again, before the others, and its outcome is unknown."""
        for request in self._under_way:
            request.settlement.tried = True
        again = [one for one in self._under_way if one.publishes]
        others = [one for one in self._under_way if not one.publishes]
        self._publishing = dict.fromkeys(again) | self._publishing
        self._others = dict.fromkeys(others) | self._others
        self._under_way, self._bytes = {}, 0

    def take(self, which: Callable[[Request], bool]) -> list[Request]:
        """Those for which this is true, which do not wait any more."""
        found = [one for one in self if which(one)]
        for one in found:
            self.discard(one)
        return found

    def overdue(self, now: float) -> list[Request]:
        """Those whose senders have waited long enough, by the monotonic clock."""
        return [one for one in self if one.give_up_at is not None and one.give_up_at <= now]
