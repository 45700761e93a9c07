"""How one execution ended: a closed union, so that what follows is decided by one ``match``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paigeant.events import Cancellation, ErrorInfo
from paigeant.wire.join import Join
from paigeant.wire.log import Undo
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec
from paigeant.wire.usage import NOTHING, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Who ran the step, on which delivery, and when (epoch seconds).

    ``used`` is what the step used and the slip does not know yet.
    """

    worker: str
    deliveries: int
    started_at: float
    finished_at: float
    used: Usage = NOTHING

    def of(self, message: PaigeantMessage) -> dict[str, Any]:
        """The fields that every event about the end of this attempt has."""
        step = message.step
        return {
            "correlation_id": message.correlation_id,
            "at": self.finished_at,
            "message_id": message.id,
            "step_id": step.id,
            "activity": step.name,
            "attempt": message.attempt,
            "worker": self.worker,
            "deliveries": self.deliveries,
            "started_at": self.started_at,
            "heading": message.routing_slip.heading.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """The changes of a step to its workflow: inserted steps, skipped steps, dispatched workflows."""

    insert: tuple[ActivitySpec, ...] = ()
    skip: tuple[str, ...] = ()
    children: tuple[PaigeantMessage, ...] = ()

    @property
    def dispatched(self) -> tuple[ActivitySpec, ...]:
        """The steps of the workflows that were dispatched; branches of a scatter are planned, not dispatched."""
        return steps_of(self.children)


def steps_of(children: tuple[PaigeantMessage, ...]) -> tuple[ActivitySpec, ...]:
    """The steps of those of these workflows that are no branches."""
    return tuple(step for child in children if child.branch is None for step in child.routing_slip.itinerary)


@dataclass(frozen=True, slots=True)
class Completed:
    """The activity returned; ``variables`` is None when it changed none. ``is_last``: the steps ahead are not run.

    ``undo`` describes the compensation of the step, should the workflow fail.
    """

    execution: Execution
    output: Any = None
    variables: dict[str, Any] | None = None
    edits: Edits = Edits()
    is_last: bool = False
    undo: Undo | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """The activity failed and may try again after ``delay`` seconds: ``in_place``, or with a message of its own.

    ``counted``: its retry policy counts the attempt. ``progress`` is what the attempt last reported of itself.
    """

    execution: Execution
    error: ErrorInfo
    delay: float
    counted: bool = True
    in_place: bool = False
    progress: Any = None


@dataclass(frozen=True, slots=True)
class Parked:
    """The step waits for ``key``, or until ``due_at`` (epoch seconds), without holding a process or a message.

    ``detail`` says what is waited for, for people: what an approval asks, for example.
    """

    execution: Execution
    key: str
    due_at: float | None = None
    detail: Any = None
    children: tuple[PaigeantMessage, ...] = ()
    progress: Any = None
    join: Join | None = None


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The activity failed, its policy allows no further attempt, and an operator decides what becomes of the step."""

    execution: Execution
    error: ErrorInfo
    progress: Any = None


@dataclass(frozen=True, slots=True)
class Faulted:
    """The activity failed for good."""

    execution: Execution
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The delivery is set aside, because no run of it came to an end, and the workflow fails."""

    execution: Execution
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Refused:
    """The activity returned, and changes what it may not; its message is set aside and the workflow fails."""

    execution: Execution
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Dropped:
    """The step was not started, because its workflow is over."""

    execution: Execution
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody cancelled the workflow while the step ran (``ran``), or before it was started."""

    execution: Execution
    cancellation: Cancellation
    ran: bool


@dataclass(frozen=True, slots=True)
class Returned:
    """This worker cannot run the step. The delivery returns to its queue unchanged, due again after ``delay`` seconds.

    ``is_usual``: many deliveries return for this reason, so the log does not repeat it. ``grows``: each return of the
    same message doubles the delay, up to ``most`` seconds. ``headers`` are added to those of the message, if it grows.
    """

    reason: str
    delay: float
    is_usual: bool = False
    grows: bool = False
    most: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


Outcome = Completed | Retrying | Parked | Exhausted | Faulted | Poisoned | Refused | Dropped | Cancelled | Returned
