"""The store in a SQL database: SQLite or PostgreSQL, by the same statements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, collate, delete, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from paigeant.clock import Clock
from paigeant.database import Database, retrying, unreachable_as
from paigeant.errors import StoreError, StoreRefused
from paigeant.events import Cancellation, Event, StepEnded
from paigeant.io_thread import IOThread, OncePerTurn, answer
from paigeant.store import (
    WORKER_ANNOUNCES_EVERY,
    DeadLetter,
    EventRecord,
    Held,
    KeyUse,
    Lock,
    ScheduleRecord,
    Standing,
    Status,
    Steered,
    Store,
    WorkerRecord,
    WorkflowRecord,
)
from paigeant.stores import keys, locks, rows, scheduled, steering, waiting
from paigeant.stores.history import SqlLedger, insert_new
from paigeant.stores.tables import dead_letters, events, outbox, steps, workers, workflows
from paigeant.stores.watch import Wait, Watch
from paigeant.transport import Ledger, Outgoing
from paigeant.urls import masked

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds that a plain function waits for an answer."""

_SILENCE = 4 * WORKER_ANNOUNCES_EVERY

# Built once, so that SQLAlchemy compiles them once and need not even look whether it has.
_DONE_WITH = delete(outbox).where(outbox.c.message_id.in_(bindparam("ids", expanding=True)))
_FOLLOWING = select(outbox).where(outbox.c.cause_id.in_(bindparam("ids", expanding=True)))
_STEERED = select(workflows.c.correlation_id, workflows.c.status, workflows.c.cancel).where(
    workflows.c.correlation_id.in_(bindparam("ids", expanding=True)),
    or_(workflows.c.status != Status.RUNNING.value, workflows.c.cancel.is_not(None)),
)


class SqlStore(Store):
    """History, inbox and outbox in one database. One thread owns its connections; writes that meet share a commit."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.url = url
        self._database = Database(url, clock)
        self._ledger = SqlLedger(url)
        self._watch = Watch(self._database)
        self._thread = IOThread("paigeant-store", self._look, self._watch.fileno)
        self._flushing = OncePerTurn(lambda: self._thread.post(self._flush))
        self._waiting: SimpleQueue[tuple[_Write | _Question | _Doubt, asyncio.Future[Any]]] = SimpleQueue()
        self._migrated = False

    # --- life ------------------------------------------------------------------------------------------------

    @cached_property
    def _writer(self) -> Connection:
        return self._database.writer()

    @cached_property
    def _reader(self) -> Connection:
        return self._database.reader()

    async def connect(self) -> None:
        if not self._migrated:
            await self._run(lambda: None)

    async def close(self) -> None:
        await self._thread.run(self._end)
        await asyncio.to_thread(self._thread.stop)
        self._database.dispose()
        self._migrated = False  # what was in memory is gone

    def ledger(self) -> Ledger | None:
        return None if self._database.in_memory else self._ledger

    def _end(self) -> None:
        self._flush()
        self._disconnect()

    def _disconnect(self) -> None:
        self._watch.forget()
        for name in ("_writer", "_reader"):
            connection = self.__dict__.pop(name, None)
            if connection is not None:
                connection.close()

    async def _run(self, call: Callable[[], T]) -> T:
        return await self._thread.run(lambda: self._guarded(call))

    def _guarded(self, call: Callable[[], T]) -> T:
        """Run the call in the thread; over a connection that turns out to be broken, once more over a new one."""
        with unreachable_as(StoreError, f"cannot use the store {masked(self.url)}"):
            try:
                return self._connected(call)
            except (DataError, IntegrityError) as error:
                raise StoreRefused(f"the store {masked(self.url)} cannot take this: {error.orig}") from error
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return self._connected(call)

    def _connected(self, call: Callable[[], T]) -> T:
        try:
            if not self._migrated:
                self._database.migrate("stores")
                self._migrated = True
            return call()
        except Exception:
            self._disconnect()
            raise

    # --- writing ---------------------------------------------------------------------------------------------

    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        accepted: bool = await self._together(_Write(events, outbox, cause))
        return accepted

    async def successors(self, message_id: str) -> Sequence[Outgoing] | None:
        found: Sequence[Outgoing] | None = await self._together(_Question(message_id))
        return found

    async def _together(self, request: _Write | _Question | _Doubt) -> Any:
        """What is asked at the same time is answered by the same few statements."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put((request, future))
        self._flushing.ask()
        return await future

    def _flush(self) -> None:
        """Everything that waits; a later call for the same batch finds nothing to do."""
        batch = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        self._answer([(one, future) for one, future in batch if isinstance(one, _Doubt)], self._standings)
        self._answer([(one, future) for one, future in batch if isinstance(one, _Question)], self._successors)
        self._answer([(one, future) for one, future in batch if isinstance(one, _Write)], self._write)

    def _answer(self, batch: Sequence[tuple[T, asyncio.Future[Any]]], handle: Callable[[list[T]], list[Any]]) -> None:
        if not batch:
            return
        requests = [request for request, _ in batch]
        try:
            values = self._guarded(lambda: retrying(lambda: handle(requests)))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            if isinstance(error, StoreRefused) and len(batch) > 1:
                for one in batch:  # what cannot be written must not hold up the others
                    self._answer([one], handle)
                return
            answer((future, None, error) for _, future in batch)
        else:
            answer((future, value, None) for (_, future), value in zip(batch, values, strict=True))

    def _write(self, writes: Sequence[_Write]) -> list[bool]:
        """All of it in one transaction. Whoever records the end of a message first is accepted, the others are not."""
        accepted = self._write_together(writes)
        told = [event for write, ok in zip(writes, accepted, strict=True) if ok for event in write.events]
        self._watch.tell(lambda: self._reader, told)
        return accepted

    def _write_together(self, writes: Sequence[_Write]) -> list[bool]:
        with self._writer.begin():
            first = self._ledger.end(self._writer, [write.ends[0] for write in writes if write.ends])
            accepted = [_take_turn(write, first) for write in writes]
            standing = [write for write, ok in zip(writes, accepted, strict=True) if ok]
            self._ledger.end(self._writer, [event for write in standing for event in write.ends[1:]])
            self._ledger.note(self._writer, [event for write in standing for event in write.events])
            self._post([(one, write.cause) for write in standing for one in write.outbox])
            if finished := [write.cause for write in standing if write.cause]:
                self._writer.execute(_DONE_WITH, {"ids": finished})
            return accepted

    def _post(self, outgoing: Sequence[tuple[Outgoing, str | None]]) -> None:
        now = self._database.now()
        posted = [
            {
                "message_id": one.id,
                "cause_id": cause,
                "queue": one.queue,
                "body": one.body,
                "headers": dict(one.headers),
                "priority": one.priority,
                "due_at": now + one.delay,
            }
            for one, cause in outgoing
        ]
        if posted:
            self._writer.execute(insert_new(self._writer.dialect.name)(outbox), posted)

    def _successors(self, questions: Sequence[_Question]) -> list[Sequence[Outgoing] | None]:
        done = self._ledger.finished(self._reader, [question.message_id for question in questions])
        followed: dict[str, list[Outgoing]] = {message_id: [] for message_id in done}
        if done:
            now = self._database.now()
            for row in self._reader.execute(_FOLLOWING, {"ids": list(done)}):
                followed[row.cause_id].append(rows.outgoing(row, now))
        return [followed.get(question.message_id) for question in questions]

    async def standing(self, message_id: str, correlation_id: str) -> Standing:
        found: Standing = await self._together(_Doubt(message_id, correlation_id))
        return found

    def _standings(self, doubts: Sequence[_Doubt]) -> list[Standing]:
        done = self._successors([_Question(doubt.message_id) for doubt in doubts])
        found = self._reader.execute(_STEERED, {"ids": [doubt.correlation_id for doubt in doubts]})
        steered = {
            row.correlation_id: Standing(status=rows.status_of(row.status), cancellation=rows.cancellation(row.cancel))
            for row in found
        }
        return [
            replace(steered.get(doubt.correlation_id, Standing()), done=one)
            for doubt, one in zip(doubts, done, strict=True)
        ]

    def output(self, message_id: str) -> Any:
        query = select(steps.c.status, steps.c.output).where(steps.c.message_id == message_id)
        row = self._thread.wait_for(lambda: self._guarded(lambda: self._reader.execute(query).first()), _PATIENCE)
        if row is None or row.status != "completed":
            raise StoreError(f"the output that message {message_id} left in the store {masked(self.url)} is not there")
        return row.output

    # --- idempotency keys --------------------------------------------------------------------------------------

    async def take_key(self, use: KeyUse) -> KeyUse:
        return await self._in_transaction(lambda writer, now: keys.take(writer, use, now))

    async def mark_sent(self, correlation_id: str) -> None:
        await self._in_transaction(lambda writer, _: keys.mark_sent(writer, correlation_id))

    # --- locks -------------------------------------------------------------------------------------------------

    async def take_lock(self, lock: Lock, lease: float) -> bool:
        return await self._in_transaction(lambda writer, now: locks.take(writer, now, lock, lease))

    async def keep_locks(self, kept: Collection[Lock], lease: float) -> Collection[Lock]:
        return await self._in_transaction(lambda writer, now: locks.keep(writer, now, kept, lease))

    async def free_lock(self, lock: Lock, lease: float) -> Sequence[Held]:
        return await self._in_transaction(lambda writer, now: locks.free(writer, now, lock, lease))

    async def grant_locks(self, lease: float, key: str | None = None) -> Sequence[Held]:
        now = self._database.now()
        if not (wanted := await self._run(lambda: locks.wanted(self._reader, now, key))):  # a look needs no lock
            return ()
        return await self._in_transaction(lambda writer, now: locks.grant(writer, now, wanted, lease))

    # --- steering --------------------------------------------------------------------------------------------

    async def cancel(self, correlation_id: str, cancellation: Cancellation) -> Steered | None:
        def call(writer: Connection, now: float) -> Steered | None:
            return steering.cancel(writer, self._ledger.note, correlation_id, replace(cancellation, at=now))

        return await self._steer(call)

    async def pause(self, correlation_id: str, by: str | None = None) -> Steered | None:
        note = self._ledger.note
        return await self._steer(lambda writer, now: steering.pause(writer, note, correlation_id, by, now))

    async def resume(self, correlation_id: str, by: str | None = None) -> Steered | None:
        note = self._ledger.note
        return await self._steer(lambda writer, now: steering.resume(writer, note, correlation_id, by, now))

    async def _steer(self, call: Callable[[Connection, float], Steered | None]) -> Steered | None:
        found = await self._in_transaction(call)
        if found is not None:
            await self._run(lambda: self._watch.tell(lambda: self._reader, found.recorded))
        return found

    async def cancellations(self, correlation_ids: Collection[str]) -> Mapping[str, Cancellation]:
        return await self._run(lambda: steering.cancellations(self._reader, correlation_ids))

    # --- what waits ------------------------------------------------------------------------------------------

    async def match(self, correlation_id: str | None = None) -> Sequence[Held]:
        if not await self._run(lambda: waiting.has_match(self._reader, correlation_id)):  # a look needs no lock
            return ()
        return await self._in_transaction(lambda writer, now: waiting.match(writer, now, correlation_id))

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        now = self._database.now()
        due_at = await self._run(lambda: waiting.next_due(self._reader, now))
        if due_at is None or due_at > now:
            return (), due_at
        return await self._in_transaction(lambda writer, now: waiting.take_due(writer, self._ledger.note, now)), now

    async def held(self, correlation_id: str | None = None, key: str = "", limit: int = 100) -> Sequence[Held]:
        return await self._run(lambda: waiting.held(self._reader, correlation_id, key, limit))

    async def _in_transaction(self, call: Callable[[Connection, float], T]) -> T:
        def called() -> T:
            with self._writer.begin():
                return call(self._writer, self._database.now())

        return await self._run(lambda: retrying(called))

    async def waiting_queues(self) -> Sequence[str]:
        query = select(outbox.c.queue).distinct().order_by(outbox.c.queue)
        return await self._run(lambda: self._reader.execute(query).scalars().all())

    async def take_overdue(self, queues: Sequence[str], grace: float) -> Sequence[Outgoing]:
        return await self._run(lambda: retrying(lambda: self._take_overdue(queues, grace)))

    def _take_overdue(self, queues: Sequence[str], grace: float) -> Sequence[Outgoing]:
        now = self._database.now()
        is_run = (
            exists()
            .where(steps.c.message_id == outbox.c.message_id, steps.c.status == "started")
            .where(workers.c.id == steps.c.worker, workers.c.seen_at >= now - _SILENCE)
        )
        overdue = update(outbox).where(outbox.c.queue.in_(queues), outbox.c.due_at < now - grace, ~is_run)
        with self._writer.begin():
            taken = self._writer.execute(overdue.values(due_at=now).returning(outbox)).all()
        return [rows.outgoing(row, now) for row in taken]

    # --- schedules -------------------------------------------------------------------------------------------

    async def register_schedules(self, app: str, declared: Sequence[ScheduleRecord]) -> None:
        await self._in_transaction(lambda writer, _: scheduled.register(writer, app, declared))

    async def take_schedules(
        self, app: str, definitions: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Sequence[ScheduleRecord], float]:
        now = self._database.now()
        if not await self._run(lambda: scheduled.due(self._reader, now, app, definitions, lock=False)):
            return (), now
        return await self._in_transaction(lambda writer, at: (scheduled.take(writer, at, app, definitions), at))

    async def move_schedule(
        self,
        taken: ScheduleRecord,
        next_at: float | None,
        last_at: float | None = None,
        last_id: str | None = None,
        error: str | None = None,
    ) -> bool:
        done = {"last_at": last_at, "last_id": last_id, "error": error} if last_at is not None else {}
        return await self._in_transaction(lambda writer, _: scheduled.move(writer, taken, {"next_at": next_at, **done}))

    async def pause_schedule(self, app: str, name: str) -> bool:
        return await self._in_transaction(lambda writer, _: scheduled.turn(writer, app, name, paused=True))

    async def resume_schedule(self, app: str, name: str, next_at: float | None) -> bool:
        values = {"next_at": next_at, "taken_at": None}
        return await self._in_transaction(lambda writer, _: scheduled.turn(writer, app, name, paused=False, **values))

    async def delete_schedule(self, app: str, name: str) -> bool:
        return await self._in_transaction(lambda writer, now: scheduled.delete(writer, app, name, now - _SILENCE))

    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        return await self._run(lambda: scheduled.listed(self._reader, app))

    # --- reading ---------------------------------------------------------------------------------------------

    async def workflow(self, correlation_id: str) -> WorkflowRecord | None:
        return await self._run(lambda: self._workflow(correlation_id))

    def _workflow(self, correlation_id: str) -> WorkflowRecord | None:
        row = self._reader.execute(select(workflows).where(workflows.c.correlation_id == correlation_id)).first()
        if row is None:
            return None
        ran = select(steps).where(steps.c.correlation_id == correlation_id)
        ran = ran.order_by(steps.c.started_at, steps.c.attempt)
        attempts = [rows.step(one) for one in self._reader.execute(ran)]
        return replace(rows.workflow(row), steps=(*attempts, *rows.ahead(row, attempts)))

    async def find(self, prefix: str) -> Sequence[str]:
        ids: Any = workflows.c.correlation_id
        if not self._database.is_sqlite:
            ids = collate(ids, "C")  # other orders do not keep the ids with one prefix together
        query = select(ids).where(ids >= prefix, ids < prefix + "\U0010ffff").order_by(ids).limit(10)
        return await self._run(lambda: self._reader.execute(query).scalars().all())

    async def workflows(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        app: str | None = None,
        parent: str | None = None,
        limit: int = 20,
    ) -> Sequence[WorkflowRecord]:
        wanted = {workflows.c.status: status, workflows.c.name: name, workflows.c.app: app, workflows.c.parent: parent}
        # No workflow's id is empty: an empty parent is none.
        conditions = [column == (value or None) for column, value in wanted.items() if value is not None]
        query = select(workflows).where(*conditions).order_by(workflows.c.created_at.desc()).limit(limit)
        return await self._run(lambda: [rows.workflow(row) for row in self._reader.execute(query)])

    async def counts(self) -> dict[str, int]:
        query = select(workflows.c.status, func.count()).group_by(workflows.c.status)
        return await self._run(lambda: {rows.text(row[0], "unknown"): row[1] for row in self._reader.execute(query)})

    async def events(self, correlation_id: str, after: int = 0, limit: int = 1000) -> Sequence[EventRecord]:
        query = select(events).where(events.c.correlation_id == correlation_id, events.c.id > after)
        query = query.order_by(events.c.id).limit(limit)
        return await self._run(lambda: [rows.event(row) for row in self._reader.execute(query)])

    async def await_end(self, correlation_id: str) -> None:
        await self._wait_for(correlation_id, None)

    async def await_event(self, correlation_id: str, after: int) -> None:
        await self._wait_for(correlation_id, after)

    async def _wait_for(self, correlation_id: str, after: int | None) -> None:
        wait = Wait(correlation_id, asyncio.get_running_loop().create_future(), after)
        try:
            await self._run(lambda: self._watch.add(wait))
            await wait.future
        finally:
            wait.future.cancel()  # whoever has gone is no longer looked after

    def _look(self) -> float | None:
        """Between two calls, the thread looks for those who wait; how long it may then sleep."""
        if not self._watch:
            return None
        try:
            self._guarded(lambda: self._watch.look(self._reader))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._watch.fail(error)
        return self._watch.pause

    async def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        query = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        return await self._run(lambda: [rows.dead_letter(row) for row in self._reader.execute(query)])

    # --- workers ---------------------------------------------------------------------------------------------

    async def announce(self, worker: WorkerRecord) -> None:
        await self._run(lambda: retrying(lambda: self._announce(worker)))

    def _announce(self, worker: WorkerRecord) -> None:
        now = self._database.now()
        row = {column.name: getattr(worker, column.name) for column in workers.columns} | {"seen_at": now}
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(workers).values(row)
        with self._writer.begin():
            self._writer.execute(delete(workers).where(workers.c.seen_at < now - 24 * 3600))
            self._writer.execute(insert.on_conflict_do_update(index_elements=[workers.c.id], set_=row))

    async def withdraw(self, worker_id: str) -> None:
        await self._run(lambda: retrying(lambda: self._withdraw(worker_id)))

    def _withdraw(self, worker_id: str) -> None:
        with self._writer.begin():
            self._writer.execute(delete(workers).where(workers.c.id == worker_id))

    async def workers(self) -> Sequence[WorkerRecord]:
        return await self._run(self._workers)

    def _workers(self) -> Sequence[WorkerRecord]:
        found = self._reader.execute(select(workers).order_by(workers.c.started_at.desc())).all()
        alive_since = self._database.now() - _SILENCE
        return [rows.worker(row, alive_since) for row in found]


@dataclass(frozen=True, slots=True)
class _Write:
    """A call of :meth:`SqlStore.record` waiting for its transaction."""

    events: Sequence[Event]
    outbox: Sequence[Outgoing]
    cause: str | None

    @property
    def ends(self) -> list[StepEnded]:
        """The attempts that ended: that of the message that was delivered, then those that followed it in place."""
        return [event for event in self.events if isinstance(event, StepEnded)]


@dataclass(frozen=True, slots=True)
class _Question:
    """A call of :meth:`SqlStore.successors` waiting for its answer."""

    message_id: str


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A call of :meth:`SqlStore.standing` waiting for its answer."""

    message_id: str
    correlation_id: str


def _take_turn(write: _Write, first: set[str]) -> bool:
    """Whether the write stands: it ends no message, or is the first to end it, in this batch too."""
    if not write.ends:
        return True
    message_id = write.ends[0].message_id
    stands = message_id in first
    first.discard(message_id)
    return stands
