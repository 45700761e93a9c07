"""What is known of workflows, workers, schedules and dead letters: what a store keeps, as it is read from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from paigeant.events import (
    Cancellation,
    ErrorInfo,
    Event,
    LetterKind,
    WorkflowCancelled,
    WorkflowCompensated,
    WorkflowCompleted,
    WorkflowEnded,
    WorkflowFailed,
)
from paigeant.records.offer import Offer
from paigeant.transport import Outgoing

if TYPE_CHECKING:  # what reads lists is quick because it imports little
    from paigeant.wire.usage import Usage

RESENT = "paigeant-resent"
"""The header of a message that is sent again because it may be lost; how often it was delivered before, at least."""

SAID_WITHIN = 10.0
"""Seconds after which a worker has surely said that it holds a message."""

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


def status_after(end: WorkflowEnded) -> Status:
    """Return the final status of a workflow that ended like this."""
    match end:
        case WorkflowCompleted():
            return Status.COMPLETED
        case WorkflowFailed():
            return Status.FAILED
        case WorkflowCancelled():
            return Status.CANCELLED
        case WorkflowCompensated(left=left):
            return Status.COMPENSATION_INCOMPLETE if left else Status.COMPENSATED
    raise NotImplementedError(end.type)


def _nothing_used() -> Usage:
    from paigeant.wire.usage import NOTHING

    return NOTHING


HERE = "here"
"""The fingerprint of a broker that is in the database of the store."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who publishes a waiting message: the App's queue prefix, and the fingerprint of its broker's URL.

    A broker in the store's own database is ``HERE``, whatever that database is called. ``address`` is the broker's URL
    for people, without its password.
    """

    prefix: str
    broker: str
    address: str = ""


def elsewhere(queue: str, mine: Owner | None, known: Sequence[Owner]) -> Owner | None:
    """The App whose queue this is, if its workers have announced other brokers than mine; None: the queue is here.

    Apps may share a store, and then each sees the workflows and dead letters of all.
    """
    serving = [one for one in known if queue.startswith(f"{one.prefix}.")]
    if not serving or mine is None or mine.broker in {one.broker for one in serving}:
        return None
    return serving[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the store knows that decides whether a delivered message may run.

    ``done``: the message was done with before, and this is what followed it, as far as not itself done.
    ``cancellation``: somebody cancelled the workflow. ``is_late``: recovery may take the message for lost.
    ``is_known``: there is a record of the workflow, or nobody asked.
    """

    status: Status = Status.RUNNING
    cancellation: Cancellation | None = None
    done: Sequence[Outgoing] | None = None
    is_late: bool = False
    is_known: bool = True


STEERING_TAKES = 0.5
"""Seconds for which whoever steers a workflow waits for the effect."""

ACTED_ON_FOR = STEERING_TAKES / 2
"""Seconds for which a worker may act on a :class:`Standing`: half of that, so that a busy machine has time to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """What became of a wish to cancel, pause or resume a workflow: how it stood before, and what was recorded.

    Nothing was, if a workflow that stands so cannot be steered like that.
    """

    status: Status
    recorded: Sequence[Event] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A message that waits in the store, or did: ``value`` is what came for it, None when its time came first.

    ``key`` is what it waits for; ``detail`` says it for people. ``proof`` is the signed answer that proves the value.
    Times are epoch seconds. ``left``: another worker took it, and nobody knows whether that worker published it.
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
    proof: str | None = None
    left: bool = False

    @property
    def question(self) -> str:
        """The name of the question that an approval answers; one of an earlier release is named by its wait."""
        named = self.detail.get("question") if isinstance(self.detail, dict) else None
        return str(named or self.wait_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One attempt of one step, or (``heading`` back) of taking it back. Times are epoch seconds.

    ``status`` is pending, skipped, started, completed, compensated, retried, parked, dropped, cancelled or failed. A
    skipped step was left out. The latest attempt of a step has what all of them ``used``. ``queue`` is the full name of
    the step's queue, if the plan has it.
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
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """What is known about a workflow. ``steps`` is filled when one workflow is read, not in lists.

    ``parent`` is the workflow that dispatched it, if one did, ``forked_from`` the one of which it is a fork. ``user``
    is on whose behalf it runs: ``issuer`` and ``subject`` as its token says, which workers check before each step.
    ``introduced``: no dispatch of it is recorded here, it is known from a message only.
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
    user: dict[str, str] | None = None
    introduced: bool = False
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

    ``code`` names the code it runs, see :func:`paigeant.runtime.code_version.code_version`; empty when unknown.
    ``offers`` describe the activities it serves. ``policy`` is the digest of its trust policy; empty if it does not
    sign.
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
    policy: str = ""
    alive: bool = True


def unserved(depths: Mapping[str, int], workers: Iterable[WorkerRecord]) -> list[str]:
    """What to tell people of queues that hold messages and that no live worker serves.

    Dead letters in queues wait for people, not for workers.
    """
    served = {queue for worker in workers if worker.alive for queue in worker.queues}
    waiting = {name: depth for name, depth in depths.items() if depth and name not in served}
    return [_unserved(name, depth) for name, depth in waiting.items() if not name.endswith(".dead-letter")]


def unserved_steps(
    workflows: Iterable[WorkflowRecord], workers: Iterable[WorkerRecord], *, apart_from: Collection[str] = ()
) -> list[str]:
    """What to tell people of steps that are yet to run and that no live worker serves, each activity once.

    ``apart_from`` are queues that were reported before.
    """
    alive = [worker for worker in workers if worker.alive]
    ahead = dict.fromkeys((step.activity, step.queue) for one in workflows for step in _ahead(one))
    return [
        f"no live worker serves {activity!r}" + (f" (queue {queue})" if queue else "")
        for activity, queue in ahead
        if queue not in apart_from and not any(_serves(worker, activity, queue) for worker in alive)
    ]


_YET_TO_RUN = frozenset({"pending", "started", "retried", "parked"})


def _ahead(workflow: WorkflowRecord) -> list[StepRecord]:
    """The steps of a workflow that will run, or run again: of each the latest attempt says so."""
    latest = {step.id: step for step in workflow.steps if step.heading == "forward"}
    if workflow.status.is_terminal:
        return []
    return [step for step in latest.values() if step.status in _YET_TO_RUN]


def _serves(worker: WorkerRecord, activity: str, queue: str | None) -> bool:
    """Whether it runs this activity from this queue. Every worker with a store runs paigeant's own steps."""
    if queue is not None and queue not in worker.queues:
        return False
    return activity in worker.activities or activity.startswith("paigeant.")


def _unserved(queue: str, depth: int) -> str:
    many = "1 message" if depth == 1 else f"{depth} messages"
    return f"no live worker serves {(queue.partition('.')[2] or queue)!r} (queue {queue}, {many})"


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

    A refused message has a ``code`` that says why, and ``claimed`` is the workflow that it names: anybody can write a
    message that names any workflow, so ``correlation_id`` is empty.
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
    claimed: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Which dead letters are meant: those that are all of what is said here.

    ``reason`` is part of the text, ``error`` the type of the step's error, ``code`` says why a message was refused.
    ``workflow`` is an id, also one that a refused message only claims. Times are epoch seconds.
    """

    kind: LetterKind | None = None
    queue: str | None = None
    activity: str | None = None
    reason: str | None = None
    error: str | None = None
    workflow: str | None = None
    code: str | None = None
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
    """A completed step, with what it changed: of the variables, and the steps ``ahead`` of it; None: none of them.

    With an ``error`` the step failed and was replaced by its ``otherwise``: the first of the steps ``ahead``.

    ``changes`` are what it ``set``, with the values, and ``deleted``; of the release before, ``variables`` are all of
    them after it.
    """

    id: str
    activity: str
    output: Any
    message_id: str
    attempt: int
    worker: str
    started_at: float
    finished_at: float
    variables: dict[str, Any] | None = None
    changes: dict[str, Any] | None = None
    ahead: list[Any] | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The way a workflow went: its slip as it was dispatched, None if that was not kept, and the completed steps.

    ``workflow`` is its record, without its steps.
    """

    workflow: WorkflowRecord
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
