"""The routing slip: where a workflow goes, where it has been and what it carries.

The pattern is Hohpe and Woolf's *Routing Slip* (Enterprise Integration Patterns, 2003); itinerary, log and variables
are the words of MassTransit Courier. Slips are frozen: every change is a new slip.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AliasChoices, Field, model_validator

from paigeant.retry import RetryPolicy
from paigeant.values import Json, JsonObject, revive
from paigeant.wire import Label, WireModel


class Heading(StrEnum):
    """Which way a slip travels: towards its end, or back over completed steps to compensate them."""

    FORWARD = "forward"
    BACK = "back"


class ActivitySpec(WireModel):
    """One step: a planned run of an activity.

    ``id`` is unique within the slip and given when the slip is built; ``queue`` is filled in at dispatch. ``timeout``
    is seconds per attempt. ``agent_name=`` is accepted for ``name=``.
    """

    name: Annotated[Label, Field(min_length=1, validation_alias=AliasChoices("name", "agent_name"))]
    id: Label = ""
    queue: Label | None = None
    arguments: JsonObject = Field(default_factory=dict)
    prompt: str | None = None
    deps: Json = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    retry: RetryPolicy | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 0


class LogEntry(WireModel):
    """A completed step, with what it gave and who ran it when."""

    id: Label
    name: Label
    output: Json = None
    attempt: int = 1
    worker: str = ""
    started_at: datetime
    finished_at: datetime


def _numbered(steps: tuple[ActivitySpec, ...], taken: set[str]) -> tuple[ActivitySpec, ...]:
    """The steps, each with an id: its ordinal, or the next free one."""
    numbered: list[ActivitySpec] = []
    ordinal = len(taken)
    for step in steps:
        if not step.id:
            ordinal += 1
            while str(ordinal) in taken:
                ordinal += 1
            step = step.model_copy(update={"id": str(ordinal)})
        taken.add(step.id)
        numbered.append(step)
    return tuple(numbered)


class RoutingSlip(WireModel):
    """An itinerary (steps ahead, the current one first), a log (steps done) and the workflow's variables."""

    itinerary: tuple[ActivitySpec, ...] = ()
    log: tuple[LogEntry, ...] = ()
    variables: JsonObject = Field(default_factory=dict)
    heading: Heading = Heading.FORWARD

    @model_validator(mode="after")
    def _with_ids(self) -> Self:
        ids = [entry.id for entry in self.log] + [step.id for step in self.itinerary if step.id]
        taken = set(ids)
        if len(taken) != len(ids):
            raise ValueError("two steps of the slip have the same id")
        if not all(step.id for step in self.itinerary):
            # Frozen for everyone else: this runs before the slip is handed out.
            self.__dict__["itinerary"] = _numbered(self.itinerary, taken)
        return self

    def next_step(self) -> ActivitySpec | None:
        """The current step, or None at the end."""
        return self.itinerary[0] if self.itinerary else None

    def is_finished(self) -> bool:
        """Whether no step is left."""
        return not self.itinerary

    def completed(
        self,
        entry: LogEntry,
        variables: dict[str, Any] | None = None,
        *,
        insert: tuple[ActivitySpec, ...] = (),
        skip: Collection[str] = (),
    ) -> RoutingSlip:
        """The slip after its current step completed, inserted steps first and those of these names or ids left out."""
        ahead = self.itinerary[1:]
        if skip:
            ahead = tuple(step for step in ahead if step.name not in skip and step.id not in skip)
        if insert:
            taken = {one.id for one in self.log} | {one.id for one in self.itinerary}
            ahead = (*_numbered(insert, taken), *ahead)
        changes: dict[str, Any] = {"itinerary": ahead, "log": (*self.log, entry)}
        if variables is not None:
            changes["variables"] = variables
        return self.model_copy(update=changes)

    def mark_complete(self, step: str | ActivitySpec, output: Any = None) -> RoutingSlip:
        """The slip with the current step moved to the log, for handlers that move slips by hand.

        Raises:
            ValueError: when ``step`` is not the current step.
        """
        from paigeant.clock import SystemClock, utc

        current = self.next_step()
        name = step if isinstance(step, str) else step.name
        if current is None or name not in (current.name, current.id):
            expected = f"the current step is {current.name!r}" if current else "the slip is finished"
            raise ValueError(f"cannot complete {name!r}: {expected}")
        now = utc(SystemClock().now())
        entry = LogEntry(id=current.id, name=current.name, output=output, started_at=now, finished_at=now)
        return self.completed(entry)

    def output(self, step: str, type: Any = Any) -> Any:  # noqa: A002 - reads as slip.output("validate", type=Customer)
        """The output of a completed step by name or id, the latest of that name, as ``type``.

        Raises:
            KeyError: when no such step has completed.
        """
        for entry in reversed(self.log):
            if step in (entry.name, entry.id):
                return revive(entry.output, type)
        raise KeyError(f"no completed step {step!r}; completed: {[entry.name for entry in self.log]}")
