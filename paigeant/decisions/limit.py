"""How many steps may run at a time, or may start in a while: decided from rows, without I/O.

A lock is a limit of one place, a concurrency limit one of several. A rate limit is a lock whose holder is time: a step
that acquires it blocks others until the next start is due (GCRA, ITU-T I.371 annex A, as virtual scheduling).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Self

from paigeant.wire.times import LONGEST

TIME = ""
"""The holder of a rate limit's one row."""

_MOMENT = 0.1
"""Seconds. The starts that a rate allows in this time may happen at once, so workers poll no more often than that."""

MOST_PLACES = 1_000_000_000

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([0-9]{1,9})/([0-9]{0,9})([smhd])")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``places`` at a time; with a ``period``, at most ``places`` starts in any ``period`` seconds."""

    places: int = 1
    period: float | None = None

    @classmethod
    def of_rate(cls, text: str) -> Self:
        """``100/m``: a number of starts in a second, minute, hour or day, or in several of these: ``5/10s``.

        Raises:
            ValueError: it is no such text.
        """
        found = _RATE.fullmatch(text) if isinstance(text, str) else None
        if found is None or not int(found[1]) or not int(found[2] or 1):
            raise ValueError("a rate is written as 100/m, 5/s or 20/10m")
        period = int(found[2] or 1) * _SECONDS[found[3]]
        if period > LONGEST:
            raise ValueError(f"the period of the rate is longer than {LONGEST:g} seconds, a hundred years")
        return cls(int(found[1]), period)

    @property
    def burst(self) -> int:
        """How many may start at once."""
        return self.places if self.period is None else max(1, int(self.places * _MOMENT / self.period))

    @property
    def interval(self) -> float:
        """Seconds between two starts in the long run, so that no period sees more than ``places``."""
        return 0.0 if self.period is None else self.period / (self.places - self.burst + 1)

    def next_start(self, until: float | None, now: float) -> float:
        """When the next one may start if one starts now; ``until`` is when this one could at the earliest."""
        earliest = now - (self.burst - 1) * self.interval
        return (earliest if until is None else max(until, earliest)) + self.interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock that a worker holds, or wants to, for the message of this id.

    ``granted_until``: the message was given its turn before, until this time (epoch seconds).
    """

    key: str
    holder: str
    worker: str | None = None
    limit: Limit = field(default=Limit(), compare=False)
    granted_until: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A row: who has a place of a lock, until when. Without a worker, a message was granted it that has yet to come."""

    holder: str
    worker: str | None
    until: float


@dataclass(frozen=True, slots=True)
class Taking:
    """A lock may be taken: these places go. Of a rate limit, when the next one may start, unless that is written."""

    gone: tuple[Place, ...] = ()
    next_start: float | None = None


def take(lock: Lock, places: Sequence[Place], now: float, *, others_wait: bool) -> Taking | None:
    """Return how to acquire the lock, or None if it is not free for this message.

    New requests queue behind waiting ones. A message that arrives late for its reservation may use the place that was
    reserved for another message that has not arrived yet, so that it does not wait without end.
    """
    if lock.limit.period is not None:
        return _start(lock, places, now, others_wait=others_wait)
    mine = next((one for one in places if one.holder == lock.holder), None)
    if mine is not None and mine.until >= now:
        return Taking() if mine.worker in (None, lock.worker) else None
    others = sorted((one for one in places if one is not mine), key=lambda one: one.until)
    taken = [one for one in others if one.until >= now]
    was_granted = lock.granted_until is not None
    if len(taken) < lock.limit.places:
        over = max(len(others) + 1 - lock.limit.places, 0)
        return Taking(tuple(others[:over])) if was_granted or not others_wait else None
    idle = [one for one in taken if one.worker is None]
    return Taking(tuple(idle[-1:])) if was_granted and idle else None


def _start(lock: Lock, places: Sequence[Place], now: float, *, others_wait: bool) -> Taking | None:
    if lock.granted_until is not None and now <= lock.granted_until:
        return Taking()
    until = max((one.until for one in places), default=None)
    is_due = until is None or until <= now
    if not is_due or (others_wait and lock.granted_until is None):
        return None
    return Taking(next_start=lock.limit.next_start(until, now))


# --- as data, in what a message waits for ----------------------------------------------------------------------------


def wanted_data(locks: Sequence[Lock]) -> dict[str, Any]:
    """Return the locks that a waiting message wants to acquire, as JSON types."""
    return {"limits": [{"key": one.key, **asdict(one.limit)} for one in locks]}


def wanted_of(key: str, holder: str, data: Any) -> list[Lock]:
    """The same, read back; of what makes no sense the one lock of this key."""
    listed = data.get("limits") if isinstance(data, dict) else None
    found = [_lock_of(one, holder) for one in listed] if isinstance(listed, list) else []
    locks = [one for one in found if one is not None]
    return locks if any(one.key == key for one in locks) else [Lock(key=key, holder=holder)]


def _lock_of(data: Any, holder: str) -> Lock | None:
    match data:
        case {"key": str(key), "places": int(places), "period": None | int() | float() as period}:
            is_limit = 0 < places <= MOST_PLACES and (period is None or 0 < period < inf)
            return Lock(key=key, holder=holder, limit=Limit(places, period)) if is_limit else None
        case _:
            return None
