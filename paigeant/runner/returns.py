"""Decides how an unsettled delivery returns to its queue: after which pause, and how often. Nothing here does I/O.

The message carries the count of its returns in a header, so the count survives restarts of the worker and the broker.
The worker changes the header by settling the delivery with a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from paigeant.errors import BrokerRefused, StoreError, StoreRefused, TransportError
from paigeant.records.workflow import RESENT, WorkerRecord
from paigeant.runtime.trouble import will_pass
from paigeant.transport import Delivery, Outgoing

HEADER = "paigeant-returns"
"""The header with the number of returns of a message."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a returned message is due: first and longest pause. Each return doubles the pause."""

OUTAGE_PAUSE = 5.0
"""Seconds until a message is due that was returned during an outage of broker or store."""

MOST_FAULTS = 10
"""Errors of one message after which it becomes a dead letter: about four minutes after the first."""

_COUNT = re.compile(r"\d{1,9}")
_COUNTS = re.compile(r"(\d{1,9}) (\d{1,9}) (\d{1,9})")


@dataclass(frozen=True, slots=True)
class Returns:
    """How often a message was returned to its queue.

    ``faults`` were errors of this message, and count towards making it a dead letter; ``waits`` were not. ``before``
    counts the deliveries of the earlier copies.
    """

    faults: int = 0
    waits: int = 0
    before: int = 0

    def __str__(self) -> str:
        return f"{self.faults} {self.waits} {self.before}"

    @property
    def pause(self) -> float:
        """Seconds until the message is due, with its latest return counted."""
        return pause_after(self.faults + self.waits)

    @property
    def is_last(self) -> bool:
        """Whether the message becomes a dead letter now."""
        return self.faults >= MOST_FAULTS

    def after_fault(self) -> Returns:
        """Return the counts with one more error of this message."""
        return Returns(self.faults + 1, self.waits, self.before)

    def after_wait(self) -> Returns:
        """Return the counts with one more return that is not the message's fault."""
        return Returns(self.faults, self.waits + 1, self.before)


def pause_after(returns: int, first: float = FIRST_PAUSE, most: float = LONGEST_PAUSE) -> float:
    """Return the seconds until the next try, after this number of returns."""
    return min(first * 2.0 ** min(max(returns - 1, 0), 30), max(first, most))


def returns_of(headers: Mapping[str, Any]) -> Returns:
    """Read the returns from a message's headers. A missing or unreadable header counts as no returns."""
    found = headers.get(HEADER)
    match = _COUNTS.fullmatch(found) if isinstance(found, str) else None
    return Returns(*map(int, match.groups())) if match else Returns()


def resent_after(headers: Mapping[str, Any]) -> int:
    """Return the deliveries of a message before recovery published its copy; 0 for a message that is no such copy."""
    found = headers.get(RESENT)
    return int(found) if isinstance(found, str) and _COUNT.fullmatch(found) else 0


def is_fault_of_message(error: BaseException) -> bool:
    """Whether an error is the fault of the message, and not of an unavailable broker or store."""
    match error:
        case StoreError():
            return isinstance(error, StoreRefused)
        case BrokerRefused():
            return True
        case TransportError():
            return not will_pass(error)
    return True


def copy_of(
    delivery: Delivery, returns: Returns, delay: float, headers: Mapping[str, str] = MappingProxyType({})
) -> Outgoing:
    """Return the same message with this count, and with these headers."""
    before = max(returns.before, delivery.deliveries - 1)
    return delivery.copy({**headers, HEADER: str(Returns(returns.faults, returns.waits, before))}, delay)


def others_serve(workers: Iterable[WorkerRecord], me: str, activity: str) -> bool:
    """Whether a live worker other than ``me`` serves the activity."""
    return any(one.alive and one.id != me and activity in one.activities for one in workers)


def others_take_back(workers: Iterable[WorkerRecord], me: str, activity: str) -> bool:
    """Whether such a worker may have the activity's compensation. A worker with the same code lacks it as well."""
    workers = list(workers)
    mine = next((one.code for one in workers if one.id == me), None)
    return others_serve([one for one in workers if one.code != mine], me, activity)
