"""The store of a simulation: the real one, in memory and without a thread; and a door to it for each process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy import text

from paigeant.clock import Clock, SystemClock
from paigeant.errors import StoreError
from paigeant.events import (
    Event,
    LetterKind,
    MessageDeadLettered,
    MessageHeld,
    MessageResumed,
    StepCompleted,
    StepEnded,
    WorkflowDispatched,
    WorkflowEnded,
)
from paigeant.records import Held, ScheduleRecord, Standing
from paigeant.slip import Heading
from paigeant.store import Store
from paigeant.stores.advance import _Deed, _Doubt, _Question, _Write
from paigeant.stores.sql import SqlStore
from paigeant.stores.tables import metadata
from paigeant.testing.broker import ConnectionLost, Doer
from paigeant.testing.faults import Point
from paigeant.testing.history import Dispatched, Ended, History, Looked, Offered, SetAside, WorkflowOver
from paigeant.testing.virtual import VirtualClock
from paigeant.transport import Ledger, Outgoing

T = TypeVar("T")

last_look: ContextVar[int] = ContextVar("paigeant_last_look", default=0)
"""The number of the look at the store that the run of a delivery began with."""


class _Hands:
    """A clock that shows what another one does: a database outlives many runs and their clocks."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()

    def now(self) -> float:
        return self.clock.now()


class SimulatedStore(SqlStore):
    """An SQL store whose every call is done when it is made. ``begin`` makes it the store of another run.

    ``held_until`` is what waits: the workflow and the time, by the id of the wait. ``next_turn`` is when a rate limit
    lets the next one start that waits for it.
    """

    def __init__(self) -> None:
        self._hands = _Hands()
        super().__init__("sqlite://", self._hands)

    def begin(self, clock: VirtualClock, history: History) -> None:
        self._hands.clock = clock
        self._history = history
        self._known: set[str] = set()
        self.running: set[str] = set()
        self.held_until: dict[str, tuple[str, float | None]] = {}
        self.next_turn: float | None = None

    def end(self) -> None:
        """Forget everything but the tables."""
        with self._writer.begin():
            for table in metadata.sorted_tables:
                self._writer.execute(table.delete())
            self._writer.execute(text("DELETE FROM sqlite_sequence"))

    def ledger(self) -> Ledger:
        return self._ledger

    async def _run(self, call: Callable[[], T]) -> T:
        return self._guarded(call)

    async def _together(self, request: _Write | _Question | _Doubt | _Deed) -> Any:
        match request:
            case _Write():
                return self._guarded(lambda: self._write([request]))[0]
            case _Question():
                return self._guarded(lambda: self._successors([request]))[0]
            case _Doubt():
                return self._guarded(lambda: self._standings([request]))[0]
            case _Deed():
                return self._guarded(lambda: self._do([request]))[0]

    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        accepted = await super().record(events, outbox, cause)
        if accepted:
            self._learn(events, outbox)
        return accepted

    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        return await super().match(correlation_id) if self.held_until else ()

    async def grant_locks(self, lease: float, key: str | None = None) -> tuple[Sequence[Held], float | None]:
        granted, pause = await super().grant_locks(lease, key)
        if key is None:
            self.next_turn = None if pause is None else self._hands.now() + pause
        return granted, pause

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        """Workers look each second; where nothing waits, there is nothing to look for."""
        return await super().take_due() if self.held_until else ((), None)

    def write(self, events: Sequence[Event], outgoing: Sequence[Outgoing]) -> None:
        """Record in the transaction of a settlement or of a dispatch."""

        def written() -> None:
            with self._writer.begin():
                self._ledger.write(self._writer, events)

        self._guarded(written)
        self._learn(events, outgoing)

    def _learn(self, events: Sequence[Event], outgoing: Sequence[Outgoing]) -> None:
        successors = tuple(one.id or "" for one in outgoing)
        for event in events:
            match event:
                case WorkflowDispatched(correlation_id=workflow) if workflow not in self._known:
                    self._history.add(Dispatched(workflow=workflow))
                    self._known.add(workflow)
                    self.running.add(workflow)
                case WorkflowEnded(correlation_id=workflow):
                    self.running.discard(workflow)
                    self._history.add(WorkflowOver(workflow=workflow, how=event.type.removeprefix("workflow_")))
                case StepEnded():
                    self._history.add(_ended(event, successors))
                case MessageHeld(wait_id=wait, correlation_id=workflow, due_at=due_at):
                    self.held_until[wait] = workflow, due_at
                case MessageResumed(wait_id=wait):
                    self.held_until.pop(wait, None)
                case MessageDeadLettered(kind=LetterKind.EXHAUSTED):
                    pass  # its step has ended
                case MessageDeadLettered(message_id=message, correlation_id=workflow, reason=reason):
                    self._history.add(SetAside(message=message or "", workflow=workflow, reason=reason))


_spare: list[SimulatedStore] = []
"""Stores that no run uses: to make the tables and to compile the statements takes longer than most runs."""


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


def step_label(step: str, heading: str) -> str:
    """A step's id; a step and the taking back of it are two."""
    return step if heading == Heading.FORWARD else f"{step} ({heading})"


def _ended(event: StepEnded, successors: tuple[str, ...]) -> Ended:
    error = getattr(event, "error", None)
    return Ended(
        message=event.message_id,
        workflow=event.correlation_id,
        step=step_label(event.step_id, event.heading),
        how=event.type,
        successors=successors,
        error=error.type if error is not None else None,
    )


class _Door(Store):
    """How one process reaches the store; what goes wrong on the way is a StoreError to it."""

    def __init__(self, store: SimulatedStore, doer: Doer, history: History) -> None:
        self.url = store.url
        self._store = store
        self._doer = doer
        self._history = history

    async def _reach(self, point: Point | None, call: Callable[[], Any]) -> Any:
        def effect() -> Any:
            if not self._doer.reaches_store:
                raise StoreError("the store is away")
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
            return await self._store.record(events, outbox, cause)

        accepted: bool = await self._reach("note" if cause is None else "record", recorded)
        return accepted

    async def standing(self, message_id: str, correlation_id: str) -> Standing:
        async def looked() -> Standing:
            found = await self._store.standing(message_id, correlation_id)
            number = len(self._history.facts) + 1
            last_look.set(number)
            done = found.done is not None
            self._history.add(Looked(message=message_id, worker=self._doer.name, done=done, number=number))
            return found

        standing: Standing = await self._reach("look", looked)
        return standing

    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        """Every worker looks at its start, and mostly there are none: that is no act."""
        return await self._store.schedules(app)

    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        found: Sequence[Held] = await self._reach(None, lambda: self._store.match(correlation_id))
        return await self._took(found)

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        found, due_at = await self._reach(None, self._store.take_due)
        return await self._took(found), due_at

    async def _took(self, found: Sequence[Held]) -> Sequence[Held]:
        """A point only when there was something: workers look all the time."""
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
"""A door through which every other method of a store is passed on as it is."""
