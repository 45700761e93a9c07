"""What has happened, as frozen facts in the past tense.

Events are what a store keeps, observers are told and ``workflow.events()`` yields. ``at`` is epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """An exception as data: its type, its message and, where user code raised it, the traceback."""

    type: str
    message: str
    traceback: str | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a workflow."""

    type: ClassVar[str] = "event"

    correlation_id: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDispatched(Event):
    """A routing slip was accepted."""

    type: ClassVar[str] = "workflow_dispatched"

    name: str
    app: str
    message_id: str
    variables: dict[str, Any] = field(default_factory=dict)
    itinerary: list[dict[str, Any]] = field(default_factory=list)
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowEnded(Event):
    """The workflow is over. ``parent`` is the workflow that dispatched it, if one did."""

    type: ClassVar[str] = "workflow_ended"

    variables: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCompleted(WorkflowEnded):
    """The last step completed; ``output`` is its output."""

    type: ClassVar[str] = "workflow_completed"

    output: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFailed(WorkflowEnded):
    """The workflow ended without reaching its last step."""

    type: ClassVar[str] = "workflow_failed"

    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCancelled(WorkflowEnded):
    """Somebody ended the workflow; ``reason`` is what they said."""

    type: ClassVar[str] = "workflow_cancelled"

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(Event):
    """Something that happened to one attempt of one step."""

    type: ClassVar[str] = "step_event"

    message_id: str
    step_id: str
    activity: str
    attempt: int
    worker: str
    deliveries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(StepEvent):
    """A worker has been running this step for a moment (quick steps are recorded once, when they end)."""

    type: ClassVar[str] = "step_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgressed(StepEvent):
    """A running step reported a value: a heartbeat's details, or one value of an async generator."""

    type: ClassVar[str] = "step_progressed"

    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepYielded(StepProgressed):
    """An async generator activity yielded a value; ``index`` counts from 0 within the attempt."""

    type: ClassVar[str] = "step_yielded"

    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded(StepEvent):
    """One attempt of a step is over."""

    type: ClassVar[str] = "step_ended"
    status: ClassVar[str] = "ended"

    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted(StepEnded):
    """A step ended with an output."""

    type: ClassVar[str] = "step_completed"
    status: ClassVar[str] = "completed"

    output: Any = None
    variables: dict[str, Any] | None = None
    """The workflow's variables after the step, or None when it changed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(StepEnded):
    """An attempt of a step failed and no further one follows."""

    type: ClassVar[str] = "step_failed"
    status: ClassVar[str] = "failed"

    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRetried(StepEnded):
    """An attempt of a step failed; the next one is on its way, due after ``delay`` seconds."""

    type: ClassVar[str] = "step_retried"
    status: ClassVar[str] = "retried"

    error: ErrorInfo
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParked(StepEnded):
    """A step waits for ``key`` or until ``due_at`` (epoch seconds); nothing of it runs meanwhile."""

    type: ClassVar[str] = "step_parked"
    status: ClassVar[str] = "parked"

    key: str
    due_at: float | None = None
    detail: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDropped(StepEnded):
    """A step was not started, because its workflow was over before; ``reason`` says how."""

    type: ClassVar[str] = "step_dropped"
    status: ClassVar[str] = "dropped"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHeld(Event):
    """A message is kept in the store until ``key`` arrives or ``due_at`` has come."""

    type: ClassVar[str] = "message_held"

    wait_id: str
    step_id: str
    activity: str
    key: str
    due_at: float | None = None
    detail: Any = None
    queue: str
    body: bytes
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageResumed(Event):
    """A held message went back to its queue; ``key`` is what it waited for."""

    type: ClassVar[str] = "message_resumed"

    wait_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Event):
    """Something a step of this workflow waits for, or will: a signal, the end of a child, an operator's word.

    ``by`` says who sent it, where that is known.
    """

    type: ClassVar[str] = "signal_received"

    key: str
    value: Any = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSuperseded(StepEvent):
    """A worker finished a step that another worker had taken over; its result was refused."""

    type: ClassVar[str] = "step_superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDeadLettered(Event):
    """A message was set aside. ``correlation_id`` is empty when the message could not be read."""

    type: ClassVar[str] = "message_dead_lettered"

    message_id: str | None
    queue: str
    reason: str
    body: bytes
    worker: str
    deliveries: int = 1


LAST = (WorkflowCompleted.type, WorkflowFailed.type, WorkflowCancelled.type)
"""The types of event after which a workflow has no more."""
