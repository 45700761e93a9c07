"""What a step lets others see while it runs: that it runs, how far it is, the values it yields or emits, tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import structlog
from pydantic_core import to_json

from paigeant.dispatch import Dispatcher
from paigeant.errors import NotSerializable
from paigeant.events import AgentStreamed, StepEmitted, StepProgressed, StepRestarted, StepStarted, StepYielded
from paigeant.io_thread import call_in
from paigeant.pulse import Pulse
from paigeant.runner.feed import Feed
from paigeant.runner.run import Run
from paigeant.values import jsonable

log = structlog.stdlib.get_logger("paigeant.progress")

LARGEST = 65_536
"""Bytes a value may have as JSON to be shown; of a larger one only the size is."""

_SURELY_SMALL = LARGEST // 12
"""Characters that are no more bytes than that, whatever they are."""


class Progress:
    """What one attempt shows, as it goes on. To show is a courtesy: no step fails for it, or waits long."""

    def __init__(self, run: Run, dispatcher: Dispatcher, pulse: Pulse) -> None:
        self.run = run
        self.pulse = pulse
        # The feed knows nothing of this: a circle would stay, with the message, until Python looks for circles.
        self.feed = Feed(dispatcher.note, partial(_shown_before, dispatcher, run.message.correlation_id))
        self._dispatcher = dispatcher
        self._shown: Counter[type[StepProgressed]] = Counter()

    async def report(self, details: Any) -> None:
        """The step says how far it is, in JSON types."""
        self._show(StepProgressed, details)
        await self.feed.written()

    async def yielded(self, value: Any) -> Any:
        """The step yielded a value; it, as JSON types.

        Raises:
            NotSerializable: it cannot be part of the output.
            AttemptEnded: the attempt was ended from outside.
        """
        self.pulse.beat()
        written = jsonable(value, f"yielded value {self._shown[StepYielded]}")
        self._show(StepYielded, written)
        await self.feed.pace()
        return written

    def emit(self, value: Any) -> None:
        """The step shows a value, from whichever thread it runs in."""
        self._show_soon(StepEmitted, value)

    def stream(self, value: Any) -> None:
        """The step's agent got on: an event of pydantic-ai as JSON types."""
        self._show_soon(AgentStreamed, value)

    def _show_soon(self, kind: type[StepProgressed], value: Any) -> None:
        try:
            written = jsonable(value)
        except NotSerializable as error:
            log.warning("a value cannot be shown", error=str(error))
        else:
            if asyncio._get_running_loop() is self.pulse.loop:
                self._show(kind, written)
            else:
                call_in(self.pulse.loop, self._show, kind, written)

    def _show(self, kind: type[StepProgressed], value: Any) -> None:
        run = self.run
        if run.delivery.lease.lost:  # another worker runs the step now
            return
        known = {**run.about(), "at": run.clock.now()}
        known["expires_at"] = known["at"] + self._dispatcher.stream_retention
        if not self._shown and run.is_repeated:
            self.feed.put(StepRestarted(**known))
        size, index = _size(value), self._shown[kind]
        if size > LARGEST:
            self.feed.put(kind(index=index, omitted=size, **known))
        else:
            self.feed.put(kind(value=value, index=index, **known), size)
        self._shown[kind] += 1


async def _shown_before(dispatcher: Dispatcher, correlation_id: str) -> int:
    """How many events that are to be seen while steps run a workflow has."""
    return await dispatcher.store.passing(correlation_id) if dispatcher.store is not None else 0


def _size(value: Any) -> int:
    """The bytes of a value as JSON; of one that is surely small, nothing."""
    return 0 if isinstance(value, str) and len(value) <= _SURELY_SMALL else len(to_json(value))


def note_start(run: Run, started_at: float, dispatcher: Dispatcher) -> None:
    """The step takes its time: record, beside it, that it runs."""
    event = StepStarted(at=started_at, **run.about())
    task = asyncio.ensure_future(dispatcher.note([event]))
    task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("could not record that a step started", error=str(error))
