"""What is known of workflows, workers, schedules and dead letters: what a store keeps, as it is read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from paigeant.events import Cancellation, ErrorInfo, Event, LetterKind
from paigeant.offer import Offer
from paigeant.transport import Outgoing

if TYPE_CHECKING:  # what reads lists is quick because it imports little
    from paigeant.usage import Usage

WORKER_ANNOUNCES_EVERY = 15.0
"""Seconds between two announcements of a worker; one silent for four times as long counts as gone."""


class Status(StrEnum):
    """Where a workflow stands."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    COMPENSATION_INCOMPLETE = "compensation_incomplete"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset(
    {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.COMPENSATED, Status.COMPENSATION_INCOMPLETE}
)
"""Where a workflow stays for good."""


def _nothing_used() -> Usage:
    from paigeant.usage import NOTHING

    return NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the store knows that decides whether a delivered message may run.

    ``done``: the message was done with before, and this is what followed it, as far as not itself done.
    ``cancellation``: somebody cancelled the workflow.
    """

    status: Status = Status.RUNNING
    cancellation: Cancellation | None = None
    done: Sequence[Outgoing] | None = None


STANDS_FOR = 0.5
"""Seconds for which a worker may act on a :class:`Standing`. Whoever steers a workflow waits as long for the effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """What became of a wish to cancel, pause or resume a workflow: how it stood before, and what was recorded.

    Nothing was, if a workflow that stands so cannot be steered like that.
    """

    status: Status
    recorded: Sequence[Event] = ()


def child_key(correlation_id: str) -> str:
    """What a workflow waits for that waits for this child of it."""
    return f"child:{correlation_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A message that waits in the store, or did: ``value`` is what came for it, None when its time came first.

    ``key`` is what it waits for; ``detail`` says it for people. Times are epoch seconds.
    """

    wait_id: str
    correlation_id: str
    step_id: str
    activity: str
    key: str
    due_at: float | None
    detail: Any
    queue: str
    body: bytes
    priority: int
    since: float
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One attempt of one step, or (``heading`` back) of taking it back. Times are epoch seconds.

    ``status`` is pending, started, completed, compensated, retried, parked, dropped, cancelled or failed. The latest
    attempt of a step has what all of them ``used``.
    """

    id: str
    activity: str
    status: str
    attempt: int = 1
    deliveries: int = 0
    output: Any = None
    error: ErrorInfo | None = None
    started_at: float | None = None
    finished_at: float | None = None
    worker: str | None = None
    message_id: str | None = None
    heading: str = "forward"
    used: Usage = field(default_factory=_nothing_used)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """What is known about a workflow. ``steps`` is filled when one workflow is read, not in lists.

    ``parent`` is the workflow that dispatched it, if one did, ``forked_from`` the one of which it is a fork.
    """

    correlation_id: str
    name: str
    app: str
    status: Status
    created_at: float
    updated_at: float
    finished_at: float | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    error: ErrorInfo | None = None
    cancellation: Cancellation | None = None
    parent: str | None = None
    used: Usage = field(default_factory=_nothing_used)
    forked_from: str | None = None
    steps: tuple[StepRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An event as recorded; ``offset`` grows and is where a reader goes on.

    ``abandoned``: it is about a run of its step that another run, known to the reader, has taken the place of.
    """

    offset: int
    type: str
    correlation_id: str
    at: float
    data: dict[str, Any]
    abandoned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker process as it announced itself; ``alive`` says whether it did so lately.

    ``code`` names the code it runs, see :func:`paigeant.code_version.code_version`; empty when that is not known.
    ``offers`` describe the activities it serves.
    """

    id: str
    app: str
    host: str
    pid: int
    activities: tuple[str, ...]
    queues: tuple[str, ...]
    concurrency: int
    started_at: float
    seen_at: float
    code: str = ""
    offers: tuple[Offer, ...] = ()
    alive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A schedule of an App: its definition, the time it is due next, and what it last did. Times are epoch seconds.

    ``definition`` is that of a :class:`paigeant.schedules.Timetable`. ``orphaned``: the App's code, as the worker that
    started last has it, does not know the schedule. ``last_id`` is the workflow dispatched for ``last_at``, None if
    there was nothing to dispatch or, with ``error``, if that failed.
    """

    app: str
    name: str
    definition: Mapping[str, Any]
    next_at: float | None
    paused: bool = False
    orphaned: bool = False
    last_at: float | None = None
    last_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was set aside, with the reason and its bytes. ``at`` is epoch seconds.

    Its ``id`` is a number in a store, and a text in a queue.

    ``error`` is that of the step, if it failed; ``correlation_id``, ``activity`` and ``step_id`` are empty of one that
    could not be read. ``heading`` is back for one that was to take its step back. ``message_id`` is what the broker
    was told: of an unreadable one nobody knows whether it is true.
    """

    id: int | str
    kind: LetterKind
    correlation_id: str
    message_id: str | None
    queue: str
    reason: str
    body: bytes
    worker: str
    deliveries: int
    at: float
    activity: str = ""
    step_id: str = ""
    heading: str = "forward"
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Which dead letters are meant: those that are all of what is said here.

    ``reason`` is part of the text, ``error`` the type of the step's error, ``workflow`` an id. Times are epoch seconds.
    """

    kind: LetterKind | None = None
    queue: str | None = None
    activity: str | None = None
    reason: str | None = None
    error: str | None = None
    workflow: str | None = None
    since: float | None = None
    before: float | None = None


ALL_LETTERS = Letters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From which standing a workflow goes to which, with something that is recorded; ``before`` None: it is unknown."""

    correlation_id: str
    before: Status | None
    after: Status | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneStep:
    """A completed step, with what it changed: ``variables`` after it, and the steps ``ahead`` of it; None: neither."""

    id: str
    activity: str
    output: Any
    message_id: str
    attempt: int
    worker: str
    started_at: float
    finished_at: float
    variables: dict[str, Any] | None = None
    ahead: list[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The way a workflow went: its slip as it was dispatched, None if that was not kept, and the completed steps."""

    slip: dict[str, Any] | None
    done: Sequence[DoneStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A workflow that no other one began, with all that follows from it: what it dispatched, the forks, and so on.

    ``members`` are the ids of all of them, none if some must stay. ``ended_at`` is when the ``root`` ended.
    """

    root: str
    ended_at: float
    members: tuple[str, ...] = ()


class KeyState(StrEnum):
    """What becomes of the first message of a key's workflow."""

    TAKEN = "taken"
    """Whoever asked is to send it."""
    SENDING = "sending"
    """Somebody else is sending it, or has died."""
    SENT = "sent"
    """It has reached the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """What an idempotency key stands for: a workflow, and a digest of what it is to do."""

    correlation_id: str
    key: str
    digest: str
    state: KeyState = KeyState.TAKEN
