"""Computes when a schedule is due: the times after a time, and which missed times to make up for.

Cron expressions are those of Debian's cron, by the library cronsim, also at changes of daylight saving time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from paigeant.errors import ConfigurationError
from paigeant.wire.times import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

SHORTEST = 1.0
"""Minimum seconds between two times of an interval: workers poll schedules once a second."""

MISSED_AFTER = 60.0
"""Seconds after which an unserved time counts as missed."""

BATCH = 20
"""How many times of one schedule are served at once when all missed times are made up for."""

_FIRST_WINDOW, _GROWTH = 3600.0, 24
"""Seconds before now in which the latest time is looked for first, and how many times as many next."""


class Backfill(StrEnum):
    """What happens to the times that passed while no worker ran."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Due:
    """The times to serve now, the earliest first, and the next time to check (None: there is no further one)."""

    times: tuple[float, ...]
    next_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The times of a schedule: every so many seconds since 1970-01-01 UTC, or by a cron expression in a time zone.

    :meth:`of` makes and checks it; :attr:`definition` is the same as JSON types. Times are epoch seconds.
    """

    every: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    backfill: Backfill = Backfill.LATEST

    @classmethod
    def of(
        cls,
        every: float | timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        backfill: str = Backfill.LATEST,
    ) -> Timetable:
        """Make a timetable from a developer's arguments.

        Raises:
            ConfigurationError: an argument is wrong; the error names it.
        """
        if (every is None) == (cron is None):
            raise ConfigurationError("a schedule has either every or cron", hint='every=60, cron="0 9 * * 1-5"')
        if backfill not in set(Backfill):
            raise ConfigurationError(f"backfill={backfill!r} is unknown", hint=f"choose of {', '.join(Backfill)}")
        seconds = every.total_seconds() if isinstance(every, timedelta) else every
        if seconds is not None and not (math.isfinite(seconds) and seconds >= SHORTEST):
            raise ConfigurationError(f"every={seconds:g} is no interval of at least {SHORTEST:g} s")
        if seconds is not None and seconds > LONGEST:
            raise ConfigurationError(
                f"every={seconds:g} is longer than {LONGEST:g} seconds, a hundred years",
                hint="times are seconds, not milliseconds",
            )
        table = cls(every=seconds, cron=cron, timezone=timezone, backfill=Backfill(backfill))
        if table.next_after(0.0) is None:
            raise ConfigurationError(f"cron={cron!r} has no time within fifty years")
        return table

    @property
    def definition(self) -> dict[str, Any]:
        """The timetable as JSON types."""
        return asdict(self) | {"backfill": self.backfill.value}

    @classmethod
    def defined(cls, definition: Mapping[str, Any]) -> Timetable:
        """Return the timetable of a :attr:`definition`.

        Raises:
            ConfigurationError: the definition is not a valid timetable.
        """
        try:
            return cls.of(**definition)
        except TypeError as error:
            raise ConfigurationError(f"{dict(definition)!r} is no timetable: {error}") from error

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"there is no time zone {self.timezone!r} here",
                hint='for example "Europe/Berlin"; a machine without time zones needs: pip install tzdata',
            ) from error

    # --- times -----------------------------------------------------------------------------------------------

    def next_after(self, at: float) -> float | None:
        """Return the first time later than ``at``, or None: a cron expression may have no further one."""
        return next(self.after(at), None)

    def after(self, at: float) -> Iterator[float]:
        """Yield the times later than ``at``, in order.

        Raises:
            ConfigurationError: the cron expression or the time zone cannot be read.
        """
        times = self._beats(at) if self.every is not None else self._crons(at)
        for time in times:
            if time > at:  # a time that occurs twice when clocks are set back counts once
                yield time
                at = time

    def _beats(self, at: float) -> Iterator[float]:
        every = self.every or SHORTEST
        number = math.floor(at / every)
        while True:
            yield number * every
            number += 1

    def _crons(self, at: float) -> Iterator[float]:
        from cronsim import CronSim, CronSimError

        try:
            for time in CronSim(self.cron or "", datetime.fromtimestamp(at, self.zone)):
                yield time.timestamp()
        except CronSimError as error:
            raise ConfigurationError(
                f"cron={self.cron!r} cannot be read: {error}",
                hint='minute, hour, day of month, month, day of week: "0 9 * * 1-5"',
            ) from error

    # --- what is due -----------------------------------------------------------------------------------------

    def due(self, next_at: float, now: float) -> Due:
        """Return what to serve now of a schedule whose next time is ``next_at``, which is not later than ``now``.

        ``all`` serves each time; otherwise only the latest, and with ``none`` only if it is not missed.
        """
        if self.backfill is Backfill.ALL:
            times = (next_at, *islice(self._between(next_at, now), BATCH - 1))
            return Due(times, self.next_after(times[-1]))
        latest = self._latest(next_at, now)
        is_missed = self.backfill is Backfill.NONE and now - latest > MISSED_AFTER
        return Due(() if is_missed else (latest,), self.next_after(now))

    def _between(self, after: float, until: float) -> Iterator[float]:
        return takewhile(lambda time: time <= until, self.after(after))

    def _latest(self, since: float, until: float) -> float:
        """Return the last time up to ``until``, at least ``since``. Searches ever larger windows before ``until``."""
        window = _FIRST_WINDOW
        while until - window > since:
            if times := deque(self._between(until - window, until), maxlen=1):
                return times[0]
            window *= _GROWTH
        return deque([since, *self._between(since, until)], maxlen=1)[0]
