"""Events: facts about workflows, frozen and in the past tense.

A store records them, observers receive them, and ``workflow.events()`` yields them. ``at`` is epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # events are imported by commands that must start at once
    from paigeant.wire.join import Branch, Join


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """An exception as data: its type, its message and, where user code raised it, the traceback."""

    type: str
    message: str
    traceback: str | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """When somebody cancelled a workflow (epoch seconds), and whether its completed steps are compensated."""

    at: float
    by: str | None = None
    reason: str = ""
    compensate: bool = False

    def __str__(self) -> str:
        who = f" by {self.by}" if self.by else ""
        return f"cancelled{who}: {self.reason}" if self.reason else f"cancelled{who}"


class LetterKind(StrEnum):
    """Why a message became a dead letter."""

    EXHAUSTED = "exhausted"
    """Its step or its compensation failed, and no further attempt follows."""
    POISON = "poison"
    """It ran alone in its process several times, and the process died each time; or it never ended otherwise."""
    REFUSED = "refused"
    """It, or what was to follow it, is not accepted: too large, of an unknown version, or beyond a grant."""
    UNREADABLE = "unreadable"
    """Its bytes are no message."""
    UNTRUSTED = "untrusted"
    """It was refused before its step ran: its token is not valid, or it says what cannot be true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a workflow. ``proof`` is the signed statement that says so, if the App signs."""

    type: ClassVar[str] = "event"

    correlation_id: str
    at: float
    proof: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDispatched(Event):
    """A routing slip was accepted."""

    type: ClassVar[str] = "workflow_dispatched"

    name: str
    app: str
    message_id: str
    variables: dict[str, Any] = field(default_factory=dict)
    itinerary: list[dict[str, Any]] = field(default_factory=list)
    slip: dict[str, Any] | None = None
    """The whole routing slip, of which the itinerary is an extract."""
    parent: str | None = None
    branch: Branch | None = None
    forked_from: str | None = None
    """The workflow whose recorded steps this one continues."""
    user: dict[str, str] | None = None
    """On whose behalf it runs: ``issuer`` and ``subject`` as its token says, which workers check before each step."""
    introduced: bool = False  # no dispatch of it is recorded: a worker received a message of it


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowEnded(Event):
    """The workflow is over. ``parent`` is the workflow that dispatched it, if one did, ``branch`` its place in that.

    ``used`` is a :class:`~paigeant.wire.usage.Usage` without what is zero.
    """

    type: ClassVar[str] = "workflow_ended"

    variables: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None
    branch: Branch | None = None
    used: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCompleted(WorkflowEnded):
    """The last step completed; ``output`` is its output.

    ``standing`` are the log entries of a branch that can be taken back: should its parent fail, that does it.
    ``instead`` is recorded in its place if the workflow was cancelled while its last step ran: that it is compensated.
    """

    type: ClassVar[str] = "workflow_completed"

    output: Any = None
    standing: list[dict[str, Any]] = field(default_factory=list)
    instead: tuple[Event, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFailed(WorkflowEnded):
    """The workflow ended without reaching its last step."""

    type: ClassVar[str] = "workflow_failed"

    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCancelled(WorkflowEnded):
    """Somebody ended the workflow; ``reason`` and ``by`` are what they said and who they are."""

    type: ClassVar[str] = "workflow_cancelled"

    reason: str = ""
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody cancelled the workflow. It ends when its completed steps are compensated."""

    type: ClassVar[str] = "cancel_requested"

    reason: str = ""
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPaused(Event):
    """Somebody paused the workflow: no step of it starts."""

    type: ClassVar[str] = "workflow_paused"

    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResumed(Event):
    """A paused workflow was resumed."""

    type: ClassVar[str] = "workflow_resumed"

    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationStarted(Event):
    """A step failed for good, and ``steps`` (by id, in this order) are compensated."""

    type: ClassVar[str] = "compensation_started"

    error: ErrorInfo
    steps: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCompensated(WorkflowEnded):
    """The workflow failed, and its steps were compensated, except for the steps (by id) that are ``left``."""

    type: ClassVar[str] = "workflow_compensated"

    error: ErrorInfo
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(Event):
    """Something that happened to one attempt of one step; ``heading`` is back for a compensation."""

    type: ClassVar[str] = "step_event"

    message_id: str
    step_id: str
    activity: str
    attempt: int
    worker: str
    deliveries: int = 1
    heading: str = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(StepEvent):
    """A worker has been running this step for a moment (quick steps are recorded once, when they end)."""

    type: ClassVar[str] = "step_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPassing(StepEvent):
    """Something to be seen while a step runs. The store forgets it at ``expires_at`` (epoch seconds)."""

    type: ClassVar[str] = "step_passing"

    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRestarted(StepPassing):
    """The step runs from its beginning once more: what its earlier runs let others see counts for nothing."""

    type: ClassVar[str] = "step_restarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgressed(StepPassing):
    """A running step showed a value: the details of a heartbeat.

    ``index`` counts the values of its kind from 0 within the run; where it leaps, some were left out. ``omitted`` is
    the size in bytes of a value that was too large to be shown.
    """

    type: ClassVar[str] = "step_progressed"

    value: Any = None
    index: int = 0
    omitted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepYielded(StepProgressed):
    """A generator activity yielded a value."""

    type: ClassVar[str] = "step_yielded"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEmitted(StepProgressed):
    """An activity showed a value with ``ctx.emit()``."""

    type: ClassVar[str] = "step_emitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStreamed(StepProgressed):
    """An agent's model or tools got on: ``value`` is an event of pydantic-ai, a token for example, as JSON."""

    type: ClassVar[str] = "agent_streamed"


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
    changes: dict[str, Any] | None = None
    """The variables that it ``set``, with their values, and ``deleted``; None if it changed none."""
    ahead: list[dict[str, Any]] | None = None
    """The steps ahead after the step, or None when it changed none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompensated(StepEnded):
    """A completed step was taken back; ``output`` is what its compensation returned."""

    type: ClassVar[str] = "step_compensated"
    status: ClassVar[str] = "compensated"

    output: Any = None
    variables: dict[str, Any] | None = None
    """The workflow's variables after that, or None when it changed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(StepEnded):
    """An attempt of a step or of its compensation failed, and no further attempt follows."""

    type: ClassVar[str] = "step_failed"
    status: ClassVar[str] = "failed"

    error: ErrorInfo
    ahead: list[dict[str, Any]] | None = None
    """The steps ahead after others took the place of this one; None if none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRetried(StepEnded):
    """An attempt of a step failed; the next one follows after ``delay`` seconds. ``counted``: its policy counts it."""

    type: ClassVar[str] = "step_retried"
    status: ClassVar[str] = "retried"

    error: ErrorInfo
    delay: float
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParked(StepEnded):
    """A step waits for ``key`` or until ``due_at`` (epoch seconds); nothing of it runs meanwhile.

    With an ``error`` it has failed, and waits for an operator.
    """

    type: ClassVar[str] = "step_parked"
    status: ClassVar[str] = "parked"

    key: str
    due_at: float | None = None
    detail: Any = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCancelled(StepEnded):
    """A running step was stopped, because somebody cancelled its workflow."""

    type: ClassVar[str] = "step_cancelled"
    status: ClassVar[str] = "cancelled"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDropped(StepEnded):
    """A step was not started, because its workflow was over before; ``reason`` says how."""

    type: ClassVar[str] = "step_dropped"
    status: ClassVar[str] = "dropped"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHeld(Event):
    """A message is kept in the store until ``key`` arrives or ``due_at`` has come.

    ``prefix`` and ``broker`` say which App may publish it then; see :class:`paigeant.records.workflow.Owner`.
    """

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
    join: Join | None = None
    prefix: str | None = None
    broker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageResumed(Event):
    """A held message went back to its queue; ``key`` is what it waited for."""

    type: ClassVar[str] = "message_resumed"

    wait_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Event):
    """Something a step of this workflow waits for, or will: a signal, the end of a child, an operator's word.

    ``by`` says who sent it, if known; ``question`` names the question that an approval answers.
    """

    type: ClassVar[str] = "signal_received"

    key: str
    value: Any = None
    by: str | None = None
    question: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSuperseded(StepEvent):
    """A worker finished a step that another worker had taken over; its result was refused."""

    type: ClassVar[str] = "step_superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDeadLettered(Event):
    """A message was set aside. ``correlation_id`` is empty if the message could not be read, or was refused.

    ``error`` is that of the step, if it failed, and ``activity``, ``step_id`` and ``heading`` say which it is. ``code``
    says why a message was refused, and ``claimed`` which workflow it names.
    """

    type: ClassVar[str] = "message_dead_lettered"

    kind: LetterKind
    message_id: str | None
    queue: str
    reason: str
    body: bytes
    worker: str
    deliveries: int = 1
    activity: str = ""
    step_id: str = ""
    heading: str = "forward"
    error: ErrorInfo | None = None
    claimed: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefused(Event):
    """A worker refused a message before its step ran, and acknowledged it. No workflow has changed.

    ``claimed`` is the workflow that it names, ``correlation_id`` is empty. ``kept``: it is a dead letter now.
    """

    type: ClassVar[str] = "message_refused"

    code: str
    reason: str
    queue: str
    message_id: str | None
    worker: str
    claimed: str = ""
    kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterEvent(Event):
    """Something was done with the dead letter with the id ``letter``; ``by`` names the person."""

    type: ClassVar[str] = "dead_letter_event"

    letter: int
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRedriven(DeadLetterEvent):
    """Its step runs again under a new epoch, in the message with this id. An ended workflow is running again."""

    type: ClassVar[str] = "dead_letter_redriven"

    message_id: str
    step_id: str
    activity: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterEdited(DeadLetterEvent):
    """Something in it was changed: ``changed`` names the parts."""

    type: ClassVar[str] = "dead_letter_edited"

    changed: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterDiscarded(DeadLetterEvent):
    """It was thrown away; a workflow that it belonged to and that had not ended has failed."""

    type: ClassVar[str] = "dead_letter_discarded"

    note: str = ""


LAST = (WorkflowCompleted.type, WorkflowFailed.type, WorkflowCancelled.type, WorkflowCompensated.type)
"""The types of event that end a workflow. Others follow only if a step is redriven."""
