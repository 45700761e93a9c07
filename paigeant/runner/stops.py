"""Tracks the steps that run in this process, and stops those whose workflow was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant.events import Cancellation
from paigeant.records.workflow import Standing
from paigeant.runner.ordered import Orders
from paigeant.runtime.outage import Outage
from paigeant.store import Steering
from paigeant.wire.message import PaigeantMessage

log = structlog.stdlib.get_logger("paigeant.stops")

LOOK = 1.0
"""Seconds between two polls for cancelled workflows."""


@dataclass(slots=True, eq=False)
class Stop:
    """Whether a running step has to stop. The step is told first; after the grace period its awaits are interrupted.

    As a context: the code inside can be interrupted, by a TimeoutError.
    """

    cancellation: Cancellation | None = None
    message: PaigeantMessage | None = None
    _limit: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        limit, self._limit = self._limit, None
        assert limit is not None
        await limit.__aexit__(*raised)

    def tell(self, cancellation: Cancellation, grace: float) -> None:
        """Tell the step to stop, and interrupt it after ``grace`` seconds."""
        self.cancellation = cancellation
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + grace)


@dataclass(slots=True)
class Stops:
    """The steps that run in this process, by workflow. Without a store nobody can cancel a workflow."""

    store: Steering | None = None
    grace: float = 0.0
    orders: Orders | None = None
    _running: dict[str, set[Stop]] = field(default_factory=dict)

    @contextmanager
    def of(self, message: PaigeantMessage) -> Iterator[Stop]:
        """Register the step of this message while it runs. Compensations are not stopped: a cancellation runs them."""
        stop = Stop(message=message)
        if message.routing_slip.is_back:
            yield stop
            return
        running = self._running.setdefault(message.correlation_id, set())
        running.add(stop)
        try:
            yield stop
        finally:
            running.discard(stop)
            if not running:
                self._running.pop(message.correlation_id, None)

    async def watch(self) -> None:
        """Poll for cancelled workflows, for ever."""
        outage = Outage(log, "ask which workflows were cancelled")
        while True:
            await asyncio.sleep(LOOK)
            with outage.noted():
                await self.look()

    async def look(self) -> None:
        """Tell the steps of cancelled workflows to stop."""
        if self.store is None or not self._running:
            return
        for correlation_id, cancellation in (await self.store.cancellations([*self._running])).items():
            for stop in tuple(self._running.get(correlation_id, ())):
                if stop.cancellation is None and await self._is_ordered(stop, cancellation):
                    log.info("telling a step to stop", correlation_id=correlation_id, grace=self.grace)
                    stop.tell(cancellation, self.grace)

    async def _is_ordered(self, stop: Stop, cancellation: Cancellation) -> bool:
        """Whether the cancellation is believed. If it is not, the workflow's next message records that."""
        if self.orders is None or stop.message is None:
            return True
        said = Standing(cancellation=cancellation)
        return (await self.orders.believed(stop.message, said, is_noted=False)).cancellation is not None
