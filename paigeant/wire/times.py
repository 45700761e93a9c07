"""When a workflow is to begin and to end, as its dispatcher says it: seconds, or a time with a time zone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from paigeant.errors import InvalidArguments

LONGEST = 100 * 366 * 86_400.0
"""Seconds: a hundred years. A longer time is mostly one in milliseconds, and may lead beyond what a date can say."""

LATEST = 253_402_300_799.0
"""Epoch seconds: the last moment of the year 9999, beyond which Python has no dates."""

When = float | timedelta | datetime
"""Seconds or a timedelta from a moment on, or a time of day with its time zone."""


@dataclass(frozen=True, slots=True)
class Times:
    """When the first step is due, until when it must be started and the workflow must be over; epoch seconds."""

    due_at: float
    start_by: float | None = None
    deadline: float | None = None

    @classmethod
    def of(
        cls,
        now: float,
        *,
        delay: float | timedelta | None = None,
        eta: datetime | None = None,
        expires: When | None = None,
        deadline: When | None = None,
    ) -> Times:
        """What :meth:`App.dispatch` was given. ``expires`` counts from when the step is due, ``deadline`` from now.

        Raises:
            InvalidArguments: two of them contradict each other, or one has no time zone or is no time.
        """
        if delay is not None and eta is not None:
            raise InvalidArguments("dispatch takes either delay or eta", hint="delay=60, eta=tomorrow")
        due_at = max(now, _moment("delay", delay, now) if eta is None else _moment("eta", eta, now))
        start_by = None if expires is None else _moment("expires", expires, due_at)
        end = None if deadline is None else _moment("deadline", deadline, now)
        for name, moment in (("eta", due_at), ("expires", start_by), ("deadline", end)):
            if moment is not None and moment > LATEST:
                raise InvalidArguments(f"{name} is after the year 9999", hint="times are seconds, not milliseconds")
        for name, limit in (("expires", start_by), ("deadline", end)):
            if limit is not None and limit <= due_at:
                raise InvalidArguments(f"{name} is not after the first step is due: it could never start")
        return cls(due_at, start_by, end)

    def ending_by(self, moment: float) -> Times:
        """The same with a workflow that is over by then at the latest."""
        return replace(self, deadline=moment if self.deadline is None else min(self.deadline, moment))


def _moment(name: str, when: When | None, since: float) -> float:
    match when:
        case None:
            return since
        case datetime() if when.tzinfo is None:
            raise InvalidArguments(f"{name} has no time zone", hint="datetime(…, tzinfo=UTC)")
        case datetime():
            return when.timestamp()
        case timedelta():
            seconds = when.total_seconds()
        case _:
            seconds = when
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidArguments(f"{name} is no time from now on: {seconds}")
    return bounded(name, seconds) + since


def bounded(name: str, seconds: float) -> float:
    """The number of seconds, if it is one and no longer than ``LONGEST``.

    Raises:
        InvalidArguments: naming the parameter, and the limit.
    """
    if not math.isfinite(seconds):
        raise InvalidArguments(f"{name} is no number of seconds: {seconds}")
    if seconds > LONGEST:
        raise InvalidArguments(
            f"{name}={seconds:g} is longer than {LONGEST:g} seconds, a hundred years",
            hint="times are seconds, not milliseconds",
        )
    return seconds


def span(name: str, seconds: float) -> float:
    """The number of seconds, if it is one that can pass: bounded, and not negative.

    Raises:
        InvalidArguments: naming the parameter, and the limit.
    """
    if bounded(name, seconds) < 0:
        raise InvalidArguments(f"{name}={seconds:g} is negative")
    return seconds
