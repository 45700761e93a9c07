"""The contract between paigeant and what remembers its workflows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paigeant.events import Cancellation, Event, SignalReceived
from paigeant.limits.limit import Lock
from paigeant.records import (
    ALL_LETTERS,
    Course,
    DeadLetter,
    EventRecord,
    Family,
    Held,
    KeyUse,
    Letters,
    Move,
    ScheduleRecord,
    Standing,
    Steered,
    WorkerRecord,
    WorkflowRecord,
)
from paigeant.transport import Ledger, Outgoing

if TYPE_CHECKING:  # what reads lists is quick because it imports little
    from paigeant.claim_check import Kept, Parcel
    from paigeant.journal import Turn, Unit


class Store(ABC):
    """What is known about workflows. Every method may be called from any event loop.

    It keeps large values, too: it is a :class:`paigeant.claim_check.Keeper`.

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
        """See :meth:`paigeant.claim_check.Keeper.keep`."""

    @abstractmethod
    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        """See :meth:`paigeant.claim_check.Keeper.fetch`."""

    @abstractmethod
    async def drop(self, workflows: Collection[str]) -> int:
        """See :meth:`paigeant.claim_check.Keeper.drop`."""

    @abstractmethod
    async def ended(
        self, before: float, statuses: Collection[str] = (), after: Family | None = None, limit: int = 100
    ) -> Sequence[Family]:
        """Families whose root ended before this time (epoch seconds), with one of these statuses if there are some.

        In the order in which the roots ended, those behind ``after``. One without members must stay: something of it
        has not ended before that, or has a dead letter.
        """

    @abstractmethod
    async def forget(self, families: Sequence[Family], before: float) -> int:
        """Delete all that is known of those families of which still nothing must stay; how many workflows those were.

        Keepers of large values other than this store are told with :meth:`drop`, first.
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

        A lock can be taken as :func:`paigeant.limits.limit.take` says. Those that were granted to a message are taken
        by whichever worker runs it.
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

        Those of earlier epochs are among them. None: a later turn has begun.
        """

    @abstractmethod
    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        """Add a finished unit to the journal; False: a later turn has begun, and nothing was written."""

    @abstractmethod
    async def restart_journal(self, turn: Turn) -> bool:
        """Begin the journal anew; False: a later turn has begun. What was used for the units so far stays known."""

    @abstractmethod
    async def forget_journal(self, correlation_id: str, step_id: str) -> None:
        """Have whoever runs the step next begin its journal anew."""

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
        """Let no step of a running workflow start, nor of what it dispatched or will; None: there is no such one."""

    @abstractmethod
    async def resume(self, correlation_id: str, by: str | None = None) -> Steered | None:
        """Let a paused workflow go on, and what it dispatched: what was held is due now. None: there is none."""

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
    async def answer(self, given: SignalReceived) -> bool:
        """Record what somebody gives to a message that waits for it now; False: none does, or somebody was quicker."""

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
