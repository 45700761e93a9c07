"""Tracks the messages that one worker has received and not settled, and reports them to the store.

The report prevents recovery from treating them as lost. If a message may already count as lost, the worker claims it
before its step starts, so that only one of the message and its copies runs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from paigeant.records.workflow import SAID_WITHIN
from paigeant.runtime.clock import boot_time
from paigeant.runtime.outage import Outage
from paigeant.store import Presence
from paigeant.transport import Delivery

log = structlog.stdlib.get_logger("paigeant.holding")

_SHORTEST_PERIOD = 0.25


def period_of(grace: float) -> float:
    """Seconds between two reports, when a message counts as lost that is overdue for ``grace`` seconds.

    A report contains the messages that were there at the previous report. So each message is reported within two
    periods, long before it counts as lost.
    """
    return max(_SHORTEST_PERIOD, min(grace / 5, SAID_WITHIN / 2))


def late_after(grace: float) -> float:
    """Seconds after its due time from which a worker claims a message: the next report might come too late for it."""
    return grace / 2


def to_report(since: Mapping[str, float], now: float, period: float) -> frozenset[str]:
    """Return the messages that were there at the previous report."""
    return frozenset(message_id for message_id, began in since.items() if now - began >= period)


@dataclass(slots=True)
class Holding:
    """The messages that one worker has received and not settled. For use from one event loop.

    ``grace`` is how many seconds a message may be overdue before it counts as lost.
    """

    store: Presence
    worker: str
    grace: float
    _here: defaultdict[str, dict[int, bool]] = field(default_factory=lambda: defaultdict(dict))
    """By message the deliveries that are here, and whether each of them leaves."""
    _since: dict[str, float] = field(default_factory=dict)
    _reported: frozenset[str] = frozenset()

    def add(self, message_id: str, delivery: Delivery) -> None:
        """Record that the worker has received a delivery of this message."""
        self._here[message_id][id(delivery.lease)] = False
        self._since.setdefault(message_id, boot_time())

    def remove(self, message_id: str, delivery: Delivery) -> None:
        """Record that a delivery of this message was settled or returned."""
        here = self._here[message_id]
        here.pop(id(delivery.lease), None)
        if not here:
            del self._here[message_id]
            self._since.pop(message_id, None)

    def leaves(self, message_id: str, delivery: Delivery) -> bool:
        """Whether to return this delivery, because another delivery of the message stays in this worker.

        If all deliveries of a message ask at the same time, one of them stays: they must not all be returned.
        """
        here, this = self._here[message_id], id(delivery.lease)
        here[this] = any(not leaves for one, leaves in here.items() if one != this)
        return here[this]

    async def claim(self, message_id: str, *, take_over: bool) -> bool:
        """See :meth:`paigeant.store.Presence.claim`."""
        claimed = await self.store.claim(self.worker, message_id, take_over=take_over)
        self._reported |= {message_id}  # the next report deletes it if the worker no longer has it
        return claimed

    async def serve(self) -> None:
        """Report the messages that this worker holds, periodically and for ever."""
        period, outage = period_of(self.grace), Outage(log, "report which messages this worker holds")
        while True:
            await asyncio.sleep(period)
            with outage.noted():
                await self.report(to_report(self._since, boot_time(), period))

    async def report(self, held: frozenset[str]) -> None:
        """Report these messages to the store, if anything has changed."""
        held |= self._reported & self._since.keys()
        if held != self._reported:
            await self.store.holds(self.worker, held)
            self._reported = held
