"""A circuit breaker per activity: an activity that fails repeatedly is tried one step at a time.

So a dependency that is down does not use up every workflow's attempts. The pattern is Nygard's *Circuit Breaker*
(Release It!, 2007). The module does no I/O; the caller passes the time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FAILURES = 10
"""Consecutive failures, of more than one step, after which the breaker opens: the fault is not in the steps."""

TRIALS = 20
"""Consecutive failed trials after which failures use up attempts again: with the pauses, after about nine minutes."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two trials: first and longest pause. Each failure doubles the pause."""


@dataclass(slots=True)
class Breaker:
    """The state of one activity in one worker: whether it works, and otherwise when the worker tries it next.

    The id of the delivered message identifies a run. Times are epoch seconds.
    """

    trials: int = TRIALS
    _failures: int = 0
    _failed_trials: int = 0
    _steps: set[str] = field(default_factory=set)
    _pause: float = 0.0
    _next_at: float = 0.0
    _trial: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the activity is tried one step at a time."""
        return self._pause > 0 and not self.is_given_up

    @property
    def is_given_up(self) -> bool:
        """Whether so many trials failed that a bug is likely: then failures use up attempts again."""
        return self._failed_trials >= self.trials

    def ask(self, run: str, now: float) -> float | None:
        """Return None if the run may start, else the seconds after which to ask again.

        After an admitted run call :meth:`succeeded` or :meth:`failed` if the result is known, and :meth:`left` always.
        """
        if not self.is_open:
            return None
        if self._trial is None and now >= self._next_at:
            self._trial = run
            return None
        return self._wait(now)

    def succeeded(self) -> None:
        """Record that the activity works; the breaker closes."""
        self._failures, self._failed_trials, self._pause, self._trial = 0, 0, 0.0, None
        self._steps.clear()

    def failed(self, run: str, step: str, now: float) -> float | None:
        """Record a failed attempt of this step. Return the seconds until its retry if it was to be expected."""
        if self.is_given_up:
            return None
        if self.is_open:
            if self._trial == run:
                self._trial = None
                self._failed_trials += 1
                self._pause_for(min(self._pause * 2, LONGEST_PAUSE), now)
            return None if self.is_given_up else self._wait(now)
        self._failures += 1
        if len(self._steps) < FAILURES:
            self._steps.add(step)
        if self._failures >= FAILURES and len(self._steps) > 1:
            self._pause_for(FIRST_PAUSE, now)
        return None

    def left(self, run: str) -> None:
        """Record that the run is over, whatever its result."""
        if self._trial == run:
            self._trial = None

    def _pause_for(self, seconds: float, now: float) -> None:
        self._pause, self._next_at = seconds, now + seconds

    def _wait(self, now: float) -> float:
        """Return the seconds until a random time after the next trial: waiting steps must not all come at once."""
        return max(self._next_at - now, 0.0) + self._pause * random.uniform(0.5, 1.0)
