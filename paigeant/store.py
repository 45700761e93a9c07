"""The contract between paigeant and what remembers its workflows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from paigeant.events import ErrorInfo, Event
from paigeant.transport import Ledger, Outgoing

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the store knows that decides whether a delivered message may run.

    ``done``: the message was done with before, and this is what followed it, as far as not itself done.
    """

    status: Status = Status.RUNNING
    done: Sequence[Outgoing] | None = None


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
    """One attempt of one step. ``status`` is pending, started, completed, retried or failed; times are epoch s."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """What is known about a workflow. ``steps`` is filled when one workflow is read, not in lists."""

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
    steps: tuple[StepRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An event as recorded; ``offset`` grows and is where a reader goes on."""

    offset: int
    type: str
    correlation_id: str
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker process as it announced itself; ``alive`` says whether it did so lately.

    ``code`` names the code it runs, see :func:`paigeant.code_version.code_version`; empty when that is not known.
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
    alive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was set aside, with the reason and its bytes."""

    id: int
    correlation_id: str
    message_id: str | None
    queue: str
    reason: str
    body: bytes
    worker: str
    deliveries: int
    at: float


class Store(ABC):
    """What is known about workflows. Every method may be called from any event loop.

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

    @abstractmethod
    async def workflow(self, correlation_id: str) -> WorkflowRecord | None:
        """One workflow with its steps, or None."""

    @abstractmethod
    async def find(self, prefix: str) -> Sequence[str]:
        """The ids of workflows that begin with the prefix, at most ten."""

    @abstractmethod
    async def workflows(
        self, *, status: str | None = None, name: str | None = None, app: str | None = None, limit: int = 20
    ) -> Sequence[WorkflowRecord]:
        """Workflows, newest first, without their steps."""

    @abstractmethod
    async def counts(self) -> dict[str, int]:
        """How many workflows there are in each status."""

    @abstractmethod
    async def events(self, correlation_id: str, after: int = 0, limit: int = 1000) -> Sequence[EventRecord]:
        """Events of a workflow with an offset greater than ``after``, in order."""

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
    async def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Messages that were set aside, the latest first."""

    def ledger(self) -> Ledger | None:
        """How a transport in the same database writes history in its own transactions; None when it cannot."""
        return None
