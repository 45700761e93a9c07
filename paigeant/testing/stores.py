"""The store of a simulation: the real SQL store, in memory and without a thread, with one door for each process."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic_core import to_json

from paigeant.errors import StoreError
from paigeant.events import (
    Event,
    LetterKind,
    MessageDeadLettered,
    MessageHeld,
    StepCompleted,
    StepEnded,
    WorkflowCompensated,
    WorkflowDispatched,
)
from paigeant.records.journal import Turn, Unit
from paigeant.records.offer import Offer
from paigeant.records.workflow import Held, ScheduleRecord, Standing, Status, WorkerRecord
from paigeant.runtime.clock import Clock, SystemClock
from paigeant.store import Store
from paigeant.stores.access import Access, Role
from paigeant.stores.groups import Request
from paigeant.stores.sql import SqlStore
from paigeant.stores.tables import metadata, workers
from paigeant.testing.broker import ConnectionLost, Doer
from paigeant.testing.faults import Point
from paigeant.testing.history import (
    Declined,
    Dispatched,
    Ended,
    History,
    Looked,
    Offered,
    Reopened,
    SetAside,
    WorkflowOver,
)
from paigeant.testing.labels import run_label, step_label
from paigeant.testing.ledger import formatted
from paigeant.testing.virtual import VirtualClock
from paigeant.testing.witnesses import Shown, UnitRecorded
from paigeant.transport import Ledger, Outgoing
from paigeant.wire.approval import KEY as APPROVAL

T = TypeVar("T")

last_look: ContextVar[int] = ContextVar("paigeant_last_look", default=0)
"""The number of the look at the store with which the run of a delivery started."""


_WORKER = [column.name for column in workers.columns]
_ANNOUNCE = f"INSERT OR REPLACE INTO {workers.name} ({', '.join(_WORKER)}) VALUES ({', '.join('?' * len(_WORKER))})"

_MOST_OFFERS = 50
_offers: dict[tuple[int, ...], tuple[Sequence[Offer], str]] = {}


def _serialized_offers(offers: Sequence[Offer]) -> str:
    """Serialize a worker's offers to JSON. Workers of one App share the offers, so the result is cached."""
    key = tuple(map(id, offers))
    if key not in _offers:
        if len(_offers) > _MOST_OFFERS:
            _offers.clear()
        _offers[key] = offers, to_json([asdict(offer) for offer in offers]).decode()
    return _offers[key][1]


class _Hands:
    """A clock that shows the time of another clock, because a database outlives many runs and their clocks."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()

    def now(self) -> float:
        return self.clock.now()


class SimulatedAccess(Access):
    """An access without a thread: each call is done when it is made. ``called`` is called after each."""

    def __init__(self, clock: Clock, called: Callable[[], None]) -> None:
        super().__init__("sqlite://", clock)
        self._called = called

    def guarded(self, call: Callable[[], T]) -> T:
        value = super().guarded(call)
        self._called()
        return value

    async def run(self, call: Callable[[], T]) -> T:
        return self.guarded(call)

    async def together(self, request: Request) -> Any:
        return self.guarded(lambda: request.handle([request.what]))[0]


class SimulatedStore(SqlStore):
    """An SQL store whose every call is done when it is made. ``begin`` makes it the store of another run.

    ``next_start`` is when a rate limit lets the next message start that waits for it.
    """

    def __init__(self) -> None:
        self._hands = _Hands()
        Role.__init__(self, SimulatedAccess(self._hands, self._look_unless_recording))

    def begin(self, clock: VirtualClock, history: History) -> None:
        self._hands.clock = clock
        self._history = history
        self._known: set[str] = set()
        self._left: dict[str, tuple[str, ...]] = {}
        self._is_open: dict[str, bool] = {}
        self._seen = 0
        self._is_recording = False
        self._parked_until: dict[str, tuple[str, float | None]] = {}
        self.running: set[str] = set()
        self.next_start: float | None = None

    def end(self) -> None:
        """Forget everything but the tables."""
        for table in (*(one.name for one in metadata.sorted_tables), "sqlite_sequence"):
            self._raw.execute(f"DELETE FROM {table}")
        self._raw.commit()

    # --- what the tables say ----------------------------------------------------------------------------------

    @property
    def parked_until(self) -> dict[str, tuple[str, float | None]]:
        """Return the workflow and the due time of each parked message, by the id of the wait."""
        self._look_at_tables()
        return self._parked_until

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query on the database connection, without SQLAlchemy."""
        found: list[tuple[Any, ...]] = self._raw.execute(query).fetchall()
        return found

    @property
    def _raw(self) -> Any:
        return self.access.writer.connection.dbapi_connection

    def _look_unless_recording(self) -> None:
        if not self._is_recording:
            self._look_at_tables()

    def _look_at_tables(self) -> None:
        """Record which workflows ended or restarted since the last look.

        Not the events but the tables say so: the end of a workflow may be recorded in passing, or be dropped.
        """
        changes = self._raw.total_changes
        if changes == self._seen:
            return
        self._seen = changes
        self._parked_until = {
            wait: (workflow, due_at)
            for wait, workflow, due_at in self.rows("SELECT wait_id, correlation_id, due_at FROM paigeant_wait")
        }
        for workflow, status in self.rows(
            "SELECT correlation_id, status FROM paigeant_workflow ORDER BY created_at, 1"
        ):
            is_open, was_open = not Status(status).is_terminal, self._is_open.get(workflow, True)
            self._is_open[workflow] = is_open
            if is_open:
                self.running.add(workflow)
                if not was_open:
                    self._history.add(Reopened(workflow=workflow))
            elif was_open:
                self.running.discard(workflow)
                how = "compensated" if status == Status.COMPENSATION_INCOMPLETE else status
                self._history.add(WorkflowOver(workflow=workflow, how=how, left=self._left.get(workflow, ())))

    def ledger(self) -> Ledger:
        return self.access.ledger

    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        """Record the events, and add the recorded ones to the history: a repeated end is accepted but not recorded."""
        self._is_recording = True
        try:
            accepted = await super().record(events, outbox, cause)
        finally:
            self._is_recording = False
            formatted, self.access.news = self.access.news, []
        if formatted or not events:
            self._learn(formatted, outbox)
        return accepted

    async def announce(self, worker: WorkerRecord) -> None:
        """The real one takes longer than a short run, as it also forgets what is a day old."""
        now = self._hands.now()
        row = {name: getattr(worker, name, 1) for name in _WORKER} | {"seen_at": now}
        row |= {name: to_json(row[name]).decode() for name in ("activities", "queues")}
        row["offers"] = _serialized_offers(worker.offers)
        self._raw.execute(_ANNOUNCE, [row[name] for name in _WORKER])
        if self.owner is not None:
            owner = (self.owner.broker, self.owner.prefix, self.owner.address, now)
            self._raw.execute(
                "INSERT OR REPLACE INTO paigeant_broker (broker, prefix, address, seen_at) VALUES (?, ?, ?, ?)", owner
            )
        self._raw.commit()

    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        """Match signals only if there are signals and parked messages; otherwise there is nothing to match."""
        has_come = bool(self.parked_until) and bool(self.rows("SELECT 1 FROM paigeant_signal LIMIT 1"))
        return await super().match(correlation_id) if has_come else ()

    async def overdue(self, grace: float, queues: Collection[str] | None = None) -> Mapping[str, int]:
        """Count overdue messages only if a message was due before the grace time."""
        before = self._hands.now() - grace
        is_late = bool(self.rows(f"SELECT 1 FROM paigeant_outbox WHERE due_at < {before!r} LIMIT 1"))
        return await super().overdue(grace, queues) if is_late else {}

    async def grant_locks(self, lease: float, key: str | None = None) -> tuple[Sequence[Held], float | None]:
        granted, pause = await super().grant_locks(lease, key)
        if key is None:
            self.next_start = None if pause is None else self._hands.now() + pause
        return granted, pause

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        """Take due messages only if a parked message is due, because workers poll every second."""
        times = [due_at for _, due_at in self.parked_until.values() if due_at is not None]
        if min(times, default=math.inf) > self._hands.now() and not self._is_fired():
            return (), min(times, default=None)
        return await super().take_due()

    def _is_fired(self) -> bool:
        return bool(self.parked_until) and bool(
            self.rows("SELECT 1 FROM paigeant_wait WHERE fired_at IS NOT NULL LIMIT 1")
        )

    def write(self, events: Sequence[Event], outgoing: Sequence[Outgoing]) -> None:
        """Record in the transaction of a settlement or of a dispatch."""

        def record() -> None:
            with self.access.writer.begin():
                self.access.ledger.write(self.access.writer, events)

        self._is_recording = True
        try:
            self.access.guarded(record)
        finally:
            self._is_recording = False
        self._learn(events, outgoing)

    def _learn(self, events: Sequence[Event], outgoing: Sequence[Outgoing]) -> None:
        successors = tuple(one.id or "" for one in outgoing)
        for event in events:
            match event:
                case WorkflowDispatched(correlation_id=workflow) if workflow not in self._known:
                    is_branch = event.branch is not None
                    self._history.add(Dispatched(workflow=workflow, parent=event.parent, is_branch=is_branch))
                    self._known.add(workflow)
                case WorkflowCompensated(correlation_id=workflow, left=left):
                    self._left[workflow] = tuple(left)
                case StepEnded():
                    self._history.add(_ended(event, successors))
                case MessageHeld(correlation_id=workflow, key=key, detail=detail) if key.startswith(APPROVAL):
                    question = str(detail["question"])
                    shown = {"asks": detail.get("asks"), "details": detail.get("details")}
                    self._history.add(Shown(workflow=workflow, question=question, shown=formatted(shown)))
                case MessageDeadLettered(kind=LetterKind.EXHAUSTED):
                    pass  # its step has ended
                case MessageDeadLettered(message_id=message, correlation_id=workflow, reason=reason):
                    self._history.add(SetAside(message=message or "", workflow=workflow, reason=reason))
        self._look_at_tables()


_spare: list[SimulatedStore] = []
"""Idle stores for reuse, because creating tables and compiling statements takes longer than most runs."""


@contextmanager
def simulated_store(clock: VirtualClock, history: History) -> Iterator[SimulatedStore]:
    """An empty store for one run."""
    store = _spare.pop() if _spare else SimulatedStore()
    store.begin(clock, history)
    try:
        yield store
    finally:
        store.end()
        _spare.append(store)


def _ended(event: StepEnded, successors: tuple[str, ...]) -> Ended:
    error = getattr(event, "error", None)
    return Ended(
        message=event.message_id,
        workflow=event.correlation_id,
        step=step_label(event.step_id, event.heading),
        how=event.type,
        successors=successors,
        error=error.type if error is not None else None,
        run=run_label(event),
    )


class _Door(Store):
    """One process's access to the store. Faults on the way raise a StoreError in the process."""

    def __init__(self, store: SimulatedStore, doer: Doer, history: History) -> None:
        self.url = store.url
        self._store = store
        self._doer = doer
        self._history = history

    async def _reach(self, point: Point | None, call: Callable[[], Any]) -> Any:
        def effect() -> Any:
            if not self._doer.reaches_store:
                raise StoreError("the store is away")
            self._store.owner = self.owner  # each call is done at once, so it is this process's until it is done
            return call()

        try:
            return await self._doer.act(point, effect)
        except ConnectionLost as error:
            raise StoreError("the connection broke") from error

    async def close(self) -> None:
        pass

    def ledger(self) -> Ledger:
        return self._store.ledger()

    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        async def recorded() -> bool:
            if any(isinstance(event, StepCompleted) for event in events):
                self._history.add(Offered(message=cause or "", successors=tuple(one.id or "" for one in outbox)))
            accepted = await self._store.record(events, outbox, cause)
            if cause is not None and not accepted:
                [first, *_] = [event for event in events if isinstance(event, StepEnded)]
                self._history.add(Declined(message=cause, worker=self._doer.name, run=run_label(first)))
            return accepted

        accepted: bool = await self._reach("note" if cause is None else "record", recorded)
        return accepted

    async def standing(self, message_id: str, correlation_id: str, late_after: float = math.inf) -> Standing:
        async def looked() -> Standing:
            found = await self._store.standing(message_id, correlation_id, late_after)
            number = len(self._history.facts) + 1
            last_look.set(number)
            done = found.done is not None
            self._history.add(Looked(message=message_id, worker=self._doer.name, done=done, number=number))
            return found

        standing: Standing = await self._reach("look", looked)
        return standing

    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        async def kept() -> bool:
            is_mine = await self._store.write_unit(turn, unit)
            if is_mine and unit.value is not None:
                place = {"workflow": turn.correlation_id, "step": turn.step_id, "key": unit.key}
                used = unit.usage
                self._history.add(UnitRecorded(**place, requests=used.requests, tool_calls=used.tool_calls))
            return is_mine

        is_mine: bool = await self._reach(None, kept)
        return is_mine

    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        """List schedules. This is not an act, because every worker does it at its start and usually finds none."""
        return await self._store.schedules(app)

    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        found: Sequence[Held] = await self._reach(None, lambda: self._store.match(correlation_id))
        return await self._took(found)

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        found, due_at = await self._reach(None, self._store.take_due)
        return await self._took(found), due_at

    async def _took(self, found: Sequence[Held]) -> Sequence[Held]:
        """Count this as a point only if messages were found, because workers poll all the time."""
        if found:
            await self._reach("take", lambda: None)
        return found


def _passed_on(name: str) -> Any:
    async def call(self: _Door, *args: Any, **options: Any) -> Any:
        return await self._reach(None, lambda: getattr(self._store, name)(*args, **options))

    return call


Door: Callable[[SimulatedStore, Doer, History], Store] = type(
    "Door", (_Door,), {name: _passed_on(name) for name in sorted(_Door.__abstractmethods__)}
)
"""A door that passes every other method to the store unchanged."""
