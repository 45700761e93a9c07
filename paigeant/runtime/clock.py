"""The time, as something that can be replaced in tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


def boot_time() -> float:
    """Seconds since the machine started, suspended time included: no change of the wall clock moves it.

    All processes of a machine agree about it until the machine restarts. Where the system has no such clock, this is
    the monotonic clock, which may leave out suspended time.
    """
    return _since_boot()


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def _since_boot() -> float:
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def utc(seconds: float) -> datetime:
    """Epoch seconds as an aware UTC datetime, the form used on the wire."""
    return datetime.fromtimestamp(seconds, UTC)
