"""Which of the runs of a step counts, as far as a reader of its workflow's events can know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from paigeant.records import EventRecord, StepRecord


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a step's message: a redelivery, after a crash, is another one."""

    message_id: str
    deliveries: int
    worker: str


@dataclass(slots=True)
class _Place:
    """A step, or taking it back: the run that counts, and what was given up."""

    current: _Run | None = None
    has_ended: bool = False
    abandoned: set[_Run] = field(default_factory=set)
    past: set[str] = field(default_factory=set)

    def see(self, run: _Run) -> bool:
        """Whether the run counts; if it is new, it does from now on, and the one before it does no more."""
        if run == self.current:
            return True
        if run in self.abandoned or run.message_id in self.past or self._is_earlier(run):
            self.abandoned.add(run)
            return False
        if self.current is not None:
            self.abandoned.add(self.current)
            if self.current.message_id != run.message_id:
                self.past.add(self.current.message_id)
        self.current, self.has_ended = run, False
        return True

    def _is_earlier(self, run: _Run) -> bool:
        """Whether it is an earlier delivery of the message that counts, or one that lost against it."""
        current = self.current
        if current is None or run.message_id != current.message_id:
            return False
        return self.has_ended or run.deliveries < current.deliveries


class Runs:
    """What was recorded of the steps when a reader began, and what it has read since."""

    def __init__(self, steps: Iterable[StepRecord] = ()) -> None:
        self._places: defaultdict[tuple[str, str], _Place] = defaultdict(_Place)
        for step in steps:
            if step.message_id is not None:
                place = self._places[step.id, step.heading]
                place.see(_Run(step.message_id, step.deliveries, step.worker or ""))
                place.has_ended = step.status != "started"

    def marked(self, event: EventRecord) -> EventRecord:
        """The event, marked if it is about a run that another one has taken the place of."""
        run = _run_of(event.data)
        if run is None:
            return event
        place = self._places[str(event.data.get("step_id")), str(event.data.get("heading", "forward"))]
        return event if place.see(run) else replace(event, abandoned=True)


def _run_of(data: Mapping[str, Any]) -> _Run | None:
    match data:
        case {"message_id": str() as message_id, "deliveries": int() as deliveries, "worker": str() as worker}:
            return _Run(message_id, deliveries, worker)
        case _:
            return None
