"""The steps that run here, and telling those to stop whose workflow somebody cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant.errors import StoreError
from paigeant.events import Cancellation
from paigeant.message import PaigeantMessage
from paigeant.store import Store

log = structlog.stdlib.get_logger("paigeant.stops")

LOOK = 1.0
"""Seconds between two questions which workflows were cancelled."""


@dataclass(slots=True, eq=False)
class Stop:
    """Whether a running step is to stop. It is told first; what then awaits longer than the grace is interrupted.

    As a context: what runs inside can be interrupted, by a TimeoutError.
    """

    cancellation: Cancellation | None = None
    _limit: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        limit, self._limit = self._limit, None
        assert limit is not None
        await limit.__aexit__(*raised)

    def tell(self, cancellation: Cancellation, grace: float) -> None:
        """The step is to stop."""
        self.cancellation = cancellation
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + grace)


@dataclass(slots=True)
class Stops:
    """What runs in this process, by workflow. Without a store nobody can cancel anything."""

    store: Store | None = None
    grace: float = 0.0
    _running: dict[str, set[Stop]] = field(default_factory=dict)

    @contextmanager
    def of(self, message: PaigeantMessage) -> Iterator[Stop]:
        """While the step of this message runs. What takes a step back is not stopped: a cancel waits for it."""
        stop = Stop()
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
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self.look()
            except StoreError as error:
                log.warning("could not ask which workflows were cancelled", error=str(error))

    async def look(self) -> None:
        """Tell the steps whose workflow was cancelled."""
        if self.store is None or not self._running:
            return
        for correlation_id, cancellation in (await self.store.cancellations([*self._running])).items():
            for stop in self._running.get(correlation_id, ()):
                if stop.cancellation is None:
                    log.info("telling a step to stop", correlation_id=correlation_id, grace=self.grace)
                    stop.tell(cancellation, self.grace)
