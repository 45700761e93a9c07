"""Shows a running step to observers: its start, its progress, the values it yields or emits, an agent's stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from pydantic_core import to_json

from paigeant.context.pulse import Pulse
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import NotSerializable
from paigeant.events import AgentStreamed, Event, StepEmitted, StepProgressed, StepRestarted, StepStarted, StepYielded
from paigeant.records.trust import Doubt
from paigeant.runner.feed import Feed
from paigeant.runner.run import Run
from paigeant.runtime.io_thread import call_in
from paigeant.transport import Lease
from paigeant.wire.limits import refuse_too_large
from paigeant.wire.typed_values import Form
from paigeant.wire.values import jsonable

log = structlog.stdlib.get_logger("paigeant.progress")

LARGEST = 65_536
"""Maximum size of a shown value in bytes of JSON; of a larger value only the size is shown."""

_SURELY_SMALL = LARGEST // 12
"""Number of characters that never take more bytes than that."""


class Progress:
    """Shows the progress of one attempt. It is best effort: a step neither fails nor waits long because of it."""

    def __init__(self, run: Run, dispatcher: Dispatcher, pulse: Pulse, earlier: Sequence[Event] = ()) -> None:
        """``earlier`` are the unrecorded events of earlier attempts in place."""
        self.run = run
        self.pulse = pulse
        # The feed has no reference to this: a cycle would keep the message in memory until the garbage collector runs.
        shown_before = partial(_shown_before, dispatcher, run.message.correlation_id)
        self.feed = Feed(dispatcher.note, shown_before, partial(_may_show, run.delivery.lease), earlier)
        self._dispatcher = dispatcher
        self._shown: Counter[type[StepProgressed]] = Counter()

    async def report(self, details: Any) -> None:
        """Show how far the step is; ``details`` are of JSON types."""
        self._show(StepProgressed, details)
        await self.feed.recorded()

    async def yielded(self, value: Any, form: Form) -> Any:
        """Show a value of this form that the step yielded, and return it as JSON types.

        Raises:
            NotSerializable, MessageTooLarge: the value cannot be part of the output.
            AttemptEnded: the attempt was ended from outside.
        """
        self.pulse.beat()
        what = f"yielded value {self._shown[StepYielded]}"
        serialized = form.write(value, what)
        refuse_too_large(serialized, what, self._dispatcher.value_limit)
        self._show(StepYielded, serialized)
        await self.feed.pace()
        return serialized

    def emit(self, value: Any) -> None:
        """Show a value. The step may call this from any thread."""
        self._show_soon(StepEmitted, value)

    def stream(self, value: Any) -> None:
        """Show progress of the step's agent: an event of pydantic-ai as JSON types."""
        self._show_soon(AgentStreamed, value)

    def doubt(self, doubt: Doubt) -> None:
        """Record that something in the store is not trusted. The step may call this from any thread."""
        call_in(self.pulse.loop, self.feed.put, self.run.doubted(doubt))

    def _show_soon(self, kind: type[StepProgressed], value: Any) -> None:
        try:
            serialized = jsonable(value)
        except NotSerializable as error:
            log.warning("could not show a value", error=str(error))
        else:
            if asyncio._get_running_loop() is self.pulse.loop:
                self._show(kind, serialized)
            else:
                call_in(self.pulse.loop, self._show, kind, serialized)

    def _show(self, kind: type[StepProgressed], value: Any) -> None:
        run = self.run
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


def _may_show(lease: Lease) -> bool:
    """Whether the step's events are shown at once.

    Without a valid lease another worker may run the step. This worker's events count if its result does, and are then
    recorded with the result.
    """
    return not lease.lost


async def _shown_before(dispatcher: Dispatcher, correlation_id: str) -> int:
    """Return how many events of running steps the workflow already has."""
    return await dispatcher.store.passing(correlation_id) if dispatcher.store is not None else 0


def _size(value: Any) -> int:
    """Return the size of a value as JSON in bytes; 0 for a value that is certainly small."""
    return 0 if isinstance(value, str) and len(value) <= _SURELY_SMALL else len(to_json(value))


async def note_again(run: Run, dispatcher: Dispatcher) -> None:
    """Record that a step starts again, before it does: the store then rejects the results of an earlier holder.

    With broker and store in one database the broker's fencing token does that, so the record need not come first.
    """
    if dispatcher.store is None or dispatcher.joined:
        note_start(run, run.clock.now(), dispatcher)
    else:
        await dispatcher.patiently(lambda: dispatcher.note([StepStarted(at=run.clock.now(), **run.about())]))


def note_start(run: Run, started_at: float, dispatcher: Dispatcher) -> None:
    """Record in the background that the step runs, because the step takes a while."""
    event = StepStarted(at=started_at, **run.about())
    task = asyncio.ensure_future(dispatcher.note([event]))
    task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("could not record that a step started", error=str(error))
