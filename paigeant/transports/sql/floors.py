"""Where the ready messages of each queue and priority begin, so that PostgreSQL need not walk there each time.

PostgreSQL keeps a claimed message in its index as long as an old snapshot may read it. During a ``pg_dump`` or a long
report each claim would walk over everything that was claimed since. Below a floor, no message was ready when this
process last looked. A message can still become ready below it: it was released, it was delayed, or its sender committed
late. So a full look follows soon. How soon depends on what a full look costs, which is next to nothing on most days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

_CHEAP = 0.0005
"""Seconds that a full look may take without being noticed: there is no need for floors."""

_AFFORDABLE = 0.01
"""Seconds that a full look may take where floors have found too little."""

_SHARE = 20
"""A dear full look comes again after so many times what the last one took: a twentieth of the time goes there."""

_PER_MESSAGE = 0.0002
"""Seconds that claiming takes for each message, however short the walk."""

_MOST_PRIORITIES = 20
"""Floors of one queue; a program that uses more priorities has its queue looked at fully."""

_END = 2**40
"""Beyond every priority."""

Floors = Mapping[str, Mapping[int, int]]
"""The lowest id by queue and priority."""


class Looks:
    """Decides how to look. All times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._floors: dict[str, dict[int, int]] = {}
        self._least = float("inf")
        self._cost = 0.0
        self._full_at = 0.0

    def floors(self, names: Sequence[str], now: float) -> Floors:
        """The floors to look from; none for a full look, which is also the only look at an unknown queue."""
        if self._cost <= _CHEAP or now >= self._full_at:
            return {}
        return {name: self._floors[name] for name in names if name in self._floors}

    def is_enough(self, used: Floors, found: int, wanted: int) -> bool:
        """Whether a full look need not follow at once."""
        return not used or found >= wanted or self._cost > _AFFORDABLE

    def learn(self, used: Floors, found: Iterable[tuple[str, Any, int]], took: float, now: float) -> None:
        """What a look from these floors has found: queue, priority and id of messages."""
        found = list(found)
        took = max(0.0, took - _PER_MESSAGE * len(found))
        self._least = min(self._least, took)
        if not used:
            self._cost = took - self._least
            self._full_at = now + _SHARE * self._cost
        lowest: dict[tuple[str, int], int] = {}
        for queue, priority, row in found:
            if isinstance(priority, int):
                lowest[queue, priority] = min(row, lowest.get((queue, priority), row))
        for (queue, priority), row in lowest.items():
            self._floors.setdefault(queue, {})[priority] = row
            if len(self._floors[queue]) > _MOST_PRIORITIES:
                del self._floors[queue]


def walks(names: Sequence[str], floors: Floors) -> dict[str, list[Any]]:
    """The parameters of a look: the floors, and the priorities between, above and below those of each queue."""
    known = [(name, priority, row) for name in names for priority, row in floors.get(name, {}).items()]
    gaps = [(name, *gap) for name in names for gap in _gaps(floors.get(name, {}))]
    columns = [list(column) for column in zip(*known, strict=True)] or [[], [], []]
    between = [list(column) for column in zip(*gaps, strict=True)] or [[], [], []]
    return {
        "floor_queue": columns[0],
        "floor_priority": columns[1],
        "floor_id": columns[2],
        "gap_queue": between[0],
        "gap_above": between[1],
        "gap_below": between[2],
    }


def _gaps(priorities: Iterable[int]) -> list[tuple[int, int]]:
    """The open intervals between these priorities that contain a whole number."""
    ends = [-_END, *sorted(priorities), _END]
    return [(above, below) for above, below in pairwise(ends) if below - above > 1]
