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


def utc(seconds: float) -> datetime:
    """Epoch seconds as an aware UTC datetime, the form used on the wire."""
    return datetime.fromtimestamp(seconds, UTC)
