"""Tracks which arrivals of a step are used. Each is used once, by the first part of the step that asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from threading import Lock


class Taken:
    """The numbers of the used arrivals, by key. Tool calls that run side by side share one, in threads too."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._used: defaultdict[str, set[int]] = defaultdict(set)

    def take(self, key: str) -> int:
        """Mark the first unused arrival as used and return its number."""
        with self._lock:
            used = self._used[key]
            number = next(number for number in count() if number not in used)
            used.add(number)
            return number

    def note(self, key: str, numbers: Iterable[int]) -> None:
        """Mark arrivals that a recorded tool call used. The journal returns its result, so the call does not repeat."""
        with self._lock:
            self._used[key].update(numbers)
