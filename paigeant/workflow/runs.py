"""Decides which run of a step counts, from the workflow's events that a reader has seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from paigeant.records.workflow import EventRecord, StepRecord


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a step's message. A redelivery after a crash is another run."""

    message_id: str
    deliveries: int
    worker: str


@dataclass(slots=True)
class _Place:
    """A step or its compensation: the run that counts, and the abandoned runs."""

    current: _Run | None = None
    has_ended: bool = False
    abandoned: set[_Run] = field(default_factory=set)
    past: set[str] = field(default_factory=set)

    def see(self, run: _Run) -> bool:
        """Return whether the run counts. A new run replaces the run that counted before it."""
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
        """Return whether the run is an earlier delivery of the current message, or one that lost against it."""
        current = self.current
        if current is None or run.message_id != current.message_id:
            return False
        return self.has_ended or run.deliveries < current.deliveries


class Runs:
    """The runs of a workflow's steps: those recorded when a reader started, and those it has read since."""

    def __init__(self, steps: Iterable[StepRecord] = ()) -> None:
        self._places: defaultdict[tuple[str, str], _Place] = defaultdict(_Place)
        for step in steps:
            if step.message_id is not None:
                place = self._places[step.id, step.heading]
                place.see(_Run(step.message_id, step.deliveries, step.worker or ""))
                place.has_ended = step.status != "started"

    def marked(self, event: EventRecord) -> EventRecord:
        """Return the event, marked ``abandoned`` if another run has replaced the run that it belongs to."""
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
