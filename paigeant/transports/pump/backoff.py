"""Growing pauses between two tries to reach a broker, not the same for all workers."""

from __future__ import annotations

from random import SystemRandom

SHORTEST, LONGEST = 0.05, 2.0
"""Seconds."""

_dice = SystemRandom()
"""Not the numbers of the module ``random``: programs seed those, and this is drawn in a thread of its own."""


class Backoff:
    """Each pause is at most twice as long as the one before, and between half and all of it is taken at random."""

    def __init__(self, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest, self._longest = shortest, longest
        self._pause = shortest

    def next(self) -> float:
        """Seconds to wait before the next try."""
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return pause * _dice.uniform(0.5, 1.0)

    def reset(self) -> None:
        """A try succeeded."""
        self._pause = self._shortest
