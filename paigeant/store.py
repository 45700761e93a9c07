"""The contract between paigeant and what remembers its workflows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from paigeant.events import Cancellation, ErrorInfo, Event, LetterKind
from paigeant.limit import Lock
from paigeant.offer import Offer
from paigeant.transport import Ledger, Outgoing

if TYPE_CHECKING:  # what reads lists is quick because it imports little
    from paigeant.journal import Turn, Unit
    from paigeant.kept import Kept, Parcel
    from paigeant.usage import Usage

WORKER_ANNOUNCES_EVERY = 15.0
"""Seconds between two announcements of a worker; one silent for four times as long counts as gone."""


class Status(StrEnum):
    """Where a workflow stands."""

    RUNNING = "running"
    PAUSED = "paused"
    PARKED = "parked"
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


class Store(ABC):
    """What is known about workflows. Every method may be called from any event loop.

    It keeps large values, too: it is a :class:`paigeant.kept.Keeper`.

    Raises everywhere:
        StoreError: the database is unreachable or refused.
    """

    url: str

    @abstractmethod
    async def connect(self) -> None:
        """Reach the database and bring its schema up to date."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        """Write the events, and with them what must be published next.

        ``cause`` is the id of the message whose step ended. False when that message was already done with: then
        nothing was written, and :meth:`successors` has what it was followed by.
        """

    @abstractmethod
    async def successors(self, message_id: str) -> Sequence[Outgoing] | None:
        """What followed a message that is done with, as far as not itself done; None for one that is not."""

    @abstractmethod
    async def standing(self, message_id: str, correlation_id: str) -> Standing:
        """Whether this message may run: asked before each step."""

    @abstractmethod
    def output(self, message_id: str) -> Any:
        """The output of the step that this message completed. Blocks: it is called by plain functions too.

        Raises:
            ValueMissing: it is not there.
        """

    # --- large values ------------------------------------------------------------------------------------------

    @abstractmethod
    async def keep(self, parcels: Sequence[Parcel]) -> None:
        """See :meth:`paigeant.kept.Keeper.keep`."""

    @abstractmethod
    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        """See :meth:`paigeant.kept.Keeper.fetch`."""

    @abstractmethod
    async def drop(self, workflows: Collection[str]) -> int:
        """See :meth:`paigeant.kept.Keeper.drop`."""

    @abstractmethod
    async def ended(self, before: float, after: str = "", limit: int = 1000) -> Sequence[str]:
        """The ids of workflows that ended before this time (epoch seconds), as did all that they dispatched.

        In order, those behind ``after``.
        """

    # --- idempotency keys --------------------------------------------------------------------------------------

    @abstractmethod
    async def take_key(self, use: KeyUse) -> KeyUse:
        """Note what a key stands for, unless that is known; what it stands for, and who sends that.

        Of several callers one is to send it. Without :meth:`mark_sent`, after some seconds another.
        """

    @abstractmethod
    async def mark_sent(self, correlation_id: str) -> None:
        """The first message of a key's workflow has reached the broker."""

    # --- locks -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def take_locks(self, wanted: Sequence[Lock], lease: float) -> str | None:
        """Take all of these for ``lease`` seconds; or none, and give the key of the first that cannot be taken.

        A lock can be taken as :func:`paigeant.limit.take` says. Those that were granted to a message are taken by
        whichever worker runs it.
        """

    @abstractmethod
    async def keep_locks(self, kept: Collection[Lock], lease: float) -> Collection[Lock]:
        """Keep locks for ``lease`` seconds from now; those that nobody has taken over."""

    @abstractmethod
    async def free_locks(self, freed: Collection[Lock]) -> None:
        """Give locks back that their holder still has, or was granted; :meth:`grant_locks` passes them on."""

    @abstractmethod
    async def grant_locks(self, lease: float, key: str | None = None) -> tuple[Sequence[Held], float | None]:
        """Give locks (default: any) that have a place to the messages that have waited for them longest; these.

        As in :meth:`match`. Each has ``lease`` seconds until it is run. And the seconds until a rate limit that
        messages wait for lets another one start, None if none does.
        """

    # --- journals of agent steps -------------------------------------------------------------------------------

    @abstractmethod
    async def take_journal(self, turn: Turn) -> Sequence[Unit] | None:
        """The finished units of a step, whose journal from now on this turn may continue and no earlier one.

        None: a later turn has begun.
        """

    @abstractmethod
    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        """Add a finished unit to the journal; False: a later turn has begun, and nothing was written."""

    @abstractmethod
    async def restart_journal(self, turn: Turn) -> bool:
        """Begin the journal anew; False: a later turn has begun. What was used for the units so far stays known."""

    @abstractmethod
    async def units(self, correlation_id: str, step_id: str | None = None) -> Sequence[Unit]:
        """The finished units of a workflow or of one of its steps, the oldest first, those of old journals included."""

    # --- steering ----------------------------------------------------------------------------------------------

    @abstractmethod
    async def cancel(self, correlation_id: str, cancellation: Cancellation) -> Steered | None:
        """End a workflow that has not ended, and those it dispatched, in one transaction; None: there is none.

        With ``compensate`` each is marked, and what waits in it is due now: its next message turns it. Without,
        it is over at once, nothing waits in it any more, and no later end of it is recorded.
        """

    @abstractmethod
    async def pause(self, correlation_id: str, by: str | None = None) -> Steered | None:
        """Let no step of a running workflow start; None: there is no such workflow."""

    @abstractmethod
    async def resume(self, correlation_id: str, by: str | None = None) -> Steered | None:
        """Let a paused workflow go on: the messages that were held are due now. None: there is no such workflow."""

    @abstractmethod
    async def cancellations(self, correlation_ids: Collection[str]) -> Mapping[str, Cancellation]:
        """Which of these workflows somebody cancelled."""

    # --- what waits --------------------------------------------------------------------------------------------

    @abstractmethod
    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        """Give what has come for waiting messages to them, each once; those that may go on now.

        Default: of all workflows, at most some hundreds at a time. A message that was given its value here stays held
        until :class:`~paigeant.events.MessageResumed` is recorded.
        """

    @abstractmethod
    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        """Messages whose time has come, at most some hundreds, and when to look again (epoch seconds; None: any time).

        Among them are those that were given their value a while ago and have not gone on: whoever did that has died.
        """

    @abstractmethod
    async def held(self, correlation_id: str | None = None, key: str = "", limit: int = 100) -> Sequence[Held]:
        """Waiting messages, the oldest first; ``key`` is how their keys begin."""

    @abstractmethod
    async def waiting_queues(self) -> Sequence[str]:
        """The queues to which the outbox holds messages that are not done with."""

    @abstractmethod
    async def take_overdue(self, queues: Sequence[str], grace: float) -> Sequence[Outgoing]:
        """Messages for these queues that should have been delivered ``grace`` seconds ago and that nobody is running.

        Taking them puts their time forward, so that of several callers one gets each.
        """

    # --- schedules ---------------------------------------------------------------------------------------------

    @abstractmethod
    async def register_schedules(self, app: str, declared: Sequence[ScheduleRecord]) -> None:
        """Write down the schedules an App has in its code; those it has no more are orphaned.

        One that is known keeps its next time unless its definition has changed, and stays paused or not.
        """

    @abstractmethod
    async def take_schedules(
        self, app: str, definitions: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Sequence[ScheduleRecord], float]:
        """Those of the named schedules that are due and have this definition, and the time now.

        Each is given to one caller. One that was taken a while ago and not moved on is due again: the taker has died.
        """

    @abstractmethod
    async def move_schedule(
        self,
        taken: ScheduleRecord,
        next_at: float | None,
        last_at: float | None = None,
        last_id: str | None = None,
        error: str | None = None,
    ) -> bool:
        """Put a schedule that was taken forward, with what was done; False: somebody has changed it meanwhile.

        Without ``last_at`` what it last did stays as it is.
        """

    @abstractmethod
    async def pause_schedule(self, app: str, name: str) -> bool:
        """Let a schedule rest; False: there is none that is not paused."""

    @abstractmethod
    async def resume_schedule(self, app: str, name: str, next_at: float | None) -> bool:
        """Let a paused schedule go on, at this time; False: there is none that is paused."""

    @abstractmethod
    async def delete_schedule(self, app: str, name: str) -> bool:
        """Delete a schedule that no living worker has in its code; False: there is none.

        Those of an App that has living workers have to be orphaned.
        """

    @abstractmethod
    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        """The schedules of an App (default: of all), by App and name."""

    # --- reading -----------------------------------------------------------------------------------------------

    @abstractmethod
    async def workflow(self, correlation_id: str) -> WorkflowRecord | None:
        """One workflow with its steps, or None."""

    @abstractmethod
    async def find(self, prefix: str) -> Sequence[str]:
        """The ids of workflows that begin with the prefix, at most ten."""

    @abstractmethod
    async def workflows(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        app: str | None = None,
        parent: str | None = None,
        limit: int = 20,
    ) -> Sequence[WorkflowRecord]:
        """Workflows, newest first, without their steps.

        ``parent`` is the workflow that dispatched them; ``""`` for those that none did.
        """

    @abstractmethod
    async def counts(self) -> dict[str, int]:
        """How many workflows there are in each status."""

    @abstractmethod
    async def events(self, correlation_id: str, after: int = 0, limit: int = 1000) -> Sequence[EventRecord]:
        """Events of a workflow with an offset greater than ``after``, in order."""

    @abstractmethod
    async def passing(self, correlation_id: str) -> int:
        """How many events of a workflow there are that are forgotten after a time."""

    @abstractmethod
    async def await_end(self, correlation_id: str) -> None:
        """Wait until the workflow has ended."""

    @abstractmethod
    async def await_event(self, correlation_id: str, after: int) -> None:
        """Wait until the workflow has an event with an offset greater than ``after``, or has ended."""

    @abstractmethod
    async def announce(self, worker: WorkerRecord) -> None:
        """Say that this worker is alive."""

    @abstractmethod
    async def withdraw(self, worker_id: str) -> None:
        """Say that this worker has gone."""

    @abstractmethod
    async def workers(self) -> Sequence[WorkerRecord]:
        """The workers that announced themselves, the latest first."""

    @abstractmethod
    async def course(self, correlation_id: str) -> Course | None:
        """The way a workflow went, or None."""

    # --- dead letters ------------------------------------------------------------------------------------------

    @abstractmethod
    async def dead_letters(
        self, limit: int = 100, which: Letters = ALL_LETTERS, below: int | None = None
    ) -> Sequence[DeadLetter]:
        """Messages that were set aside, the latest first; ``below``: those with a smaller id."""

    @abstractmethod
    async def dead_letter(self, id: int) -> DeadLetter | None:  # noqa: A002 - the field's name
        """One of them, or None."""

    @abstractmethod
    async def count_dead_letters(self, which: Letters = ALL_LETTERS) -> int:
        """How many there are."""

    @abstractmethod
    async def take_dead_letter(self, id: int, move: Move | None, record: Sequence[Event]) -> bool:  # noqa: A002
        """Take a dead letter away, move its workflow and record this, in one transaction.

        False, and nothing was done: the letter is gone, or the workflow does not stand as ``move`` says any more.
        """

    @abstractmethod
    async def edit_dead_letter(self, id: int, before: bytes, after: bytes, record: Sequence[Event]) -> bool:  # noqa: A002
        """Change the bytes of a dead letter; False: it is gone, or has other bytes by now."""

    def ledger(self) -> Ledger | None:
        """How a transport in the same database writes history in its own transactions; None when it cannot."""
        return None
