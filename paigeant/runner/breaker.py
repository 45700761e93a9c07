"""Trying an activity that keeps failing one at a time, so that a dependency that is down does not use up every
workflow's attempts. The pattern is Nygard's *Circuit Breaker* (Release It!, 2007). Pure: the time is given.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FAILURES = 10
"""How many failures in a row, of more than one step, say that the fault is not in the steps."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two trials: at first, and at most, as each failure doubles them."""


@dataclass(slots=True)
class Breaker:
    """What one worker knows of one activity: whether it works, and when it is tried next if it does not.

    A run is named by the id of the message that was delivered. Times are epoch seconds.
    """

    _failures: int = 0
    _steps: set[str] = field(default_factory=set)
    _pause: float = 0.0
    _next_at: float = 0.0
    _trial: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the activity is tried one at a time."""
        return self._pause > 0

    def ask(self, run: str, now: float) -> float | None:
        """May it start? None if so, else the seconds after which to ask again.

        What was let in says how it ended, :meth:`succeeded` or :meth:`failed`, if that is known; :meth:`left` always.
        """
        if not self.is_open:
            return None
        if self._trial is None and now >= self._next_at:
            self._trial = run
            return None
        return self._wait(now)

    def succeeded(self) -> None:
        """The activity works."""
        self._failures, self._pause, self._trial = 0, 0.0, None
        self._steps.clear()

    def failed(self, run: str, step: str, now: float) -> float | None:
        """An attempt of this step failed. If that was to be expected: the seconds after which to try it again."""
        if self.is_open:
            if self._trial == run:
                self._trial = None
                self._pause_for(min(self._pause * 2, LONGEST_PAUSE), now)
            return self._wait(now)
        self._failures += 1
        if len(self._steps) < FAILURES:
            self._steps.add(step)
        if self._failures >= FAILURES and len(self._steps) > 1:
            self._pause_for(FIRST_PAUSE, now)
        return None

    def left(self, run: str) -> None:
        """It is over, however it ended."""
        if self._trial == run:
            self._trial = None

    def _pause_for(self, seconds: float, now: float) -> None:
        self._pause, self._next_at = seconds, now + seconds

    def _wait(self, now: float) -> float:
        """Until some time after the next trial, so that those who wait do not come all at once."""
        return max(self._next_at - now, 0.0) + self._pause * random.uniform(0.5, 1.0)
