"""What a step lets others see while it runs: that it runs, how far it is, the values it yields."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from paigeant.dispatch import Dispatcher
from paigeant.errors import StoreError
from paigeant.events import StepEvent, StepProgressed, StepStarted, StepYielded
from paigeant.pulse import Pulse
from paigeant.run import Run
from paigeant.values import jsonable

log = structlog.stdlib.get_logger("paigeant.progress")


@dataclass(slots=True)
class Progress:
    """What one attempt reports. To report is a courtesy: no step fails because the store is away."""

    run: Run
    dispatcher: Dispatcher
    pulse: Pulse
    count: int = 0

    async def report(self, details: Any) -> None:
        """The step says how far it is."""
        await self._note(StepProgressed, value=details)

    async def yielded(self, value: Any) -> Any:
        """The step yielded a value; it, as JSON types."""
        self.pulse.beat()
        written = jsonable(value, f"yielded value {self.count}")
        await self._note(StepYielded, value=written, index=self.count)
        self.count += 1
        return written

    async def _note(self, kind: type[StepEvent], **data: Any) -> None:
        try:
            await self.dispatcher.note([kind(at=self.run.clock.now(), **self.run.about(), **data)])
        except StoreError as error:
            log.warning("could not record the progress of a step", error=str(error))


def note_start(run: Run, started_at: float, dispatcher: Dispatcher) -> None:
    """The step takes its time: record, beside it, that it runs."""
    event = StepStarted(at=started_at, **run.about())
    task = asyncio.ensure_future(dispatcher.note([event]))
    task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("could not record that a step started", error=str(error))
