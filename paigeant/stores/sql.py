"""The store in a SQL database: SQLite or PostgreSQL, by the same statements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from paigeant.claim_check import Kept, Parcel
from paigeant.errors import ValueMissing
from paigeant.events import Cancellation, Event, SignalReceived
from paigeant.journal import Turn, Unit
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
    Steered,
    WorkerRecord,
    WorkflowRecord,
)
from paigeant.store import Store
from paigeant.stores import (
    journals,
    keys,
    letters,
    locks,
    posted,
    present,
    reading,
    retention,
    scheduled,
    steering,
    values,
    waiting,
)
from paigeant.stores.access import PATIENCE
from paigeant.stores.advance import Advance
from paigeant.stores.present import SILENCE
from paigeant.stores.tables import steps
from paigeant.transport import Ledger, Outgoing
from paigeant.urls import masked

_TURNS = 20
"""How many messages at a time are given their turn at a lock, or found to lack another one."""


class SqlStore(Advance, Store):
    """History, inbox and outbox in one database."""

    def ledger(self) -> Ledger | None:
        return None if self._database.in_memory else self._ledger

    # --- the outbox ------------------------------------------------------------------------------------------

    async def waiting_queues(self) -> Sequence[str]:
        return await self._run(lambda: posted.queues(self._reader))

    async def take_overdue(self, queues: Sequence[str], grace: float) -> Sequence[Outgoing]:
        return await self._in_transaction(lambda writer, now: posted.take_overdue(writer, now, queues, grace))

    # --- large values ------------------------------------------------------------------------------------------

    async def keep(self, parcels: Sequence[Parcel]) -> None:
        await self._in_transaction(lambda writer, now: values.keep(writer, now, parcels))

    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        return await self._run(lambda: values.fetch(self._reader, kept))

    async def drop(self, workflows: Collection[str]) -> int:
        return await self._in_transaction(lambda writer, _: values.drop(writer, workflows))

    # --- what is over ------------------------------------------------------------------------------------------

    async def ended(
        self, before: float, statuses: Collection[str] = (), after: Family | None = None, limit: int = 100
    ) -> Sequence[Family]:
        return await self._run(lambda: retention.ended(self._reader, before, statuses, after, limit))

    async def forget(self, families: Sequence[Family], before: float) -> int:
        return await self._in_transaction(lambda writer, _: retention.forget(writer, families, before))

    # --- idempotency keys --------------------------------------------------------------------------------------

    async def take_key(self, use: KeyUse) -> KeyUse:
        return await self._in_transaction(lambda writer, now: keys.take(writer, use, now))

    async def mark_sent(self, correlation_id: str) -> None:
        await self._in_transaction(lambda writer, _: keys.mark_sent(writer, correlation_id))

    # --- journals of agent steps -------------------------------------------------------------------------------

    async def take_journal(self, turn: Turn) -> Sequence[Unit] | None:
        return await self._in_group(journals.take, turn)

    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        return await self._in_group(journals.write, (turn, unit))

    async def restart_journal(self, turn: Turn) -> bool:
        return await self._in_group(journals.restart, turn)

    async def forget_journal(self, correlation_id: str, step_id: str) -> None:
        await self._in_transaction(lambda writer, _: journals.forget(writer, correlation_id, step_id))

    async def units(self, correlation_id: str, step_id: str | None = None) -> Sequence[Unit]:
        return await self._run(lambda: journals.of_workflow(self._reader, correlation_id, step_id))

    # --- locks -------------------------------------------------------------------------------------------------

    async def take_locks(self, wanted: Sequence[Lock], lease: float) -> str | None:
        lacking = await self._in_transaction(lambda writer, now: locks.take(writer, now, wanted, lease))
        return lacking.key if lacking else None

    async def keep_locks(self, kept: Collection[Lock], lease: float) -> Collection[Lock]:
        return await self._in_transaction(lambda writer, now: locks.keep(writer, now, kept, lease))

    async def free_locks(self, freed: Collection[Lock]) -> None:
        await self._in_transaction(lambda writer, _: locks.free(writer, freed))

    async def grant_locks(self, lease: float, key: str | None = None) -> tuple[Sequence[Held], float | None]:
        granted: list[Held] = []
        free, pause = await self._wanted_locks(key)  # a look needs no lock
        for one in free:
            granted += await self._grant(one, lease)
        if granted:
            _, pause = await self._wanted_locks(key)
        return granted, pause

    async def _wanted_locks(self, key: str | None) -> tuple[list[str], float | None]:
        return await self._run(lambda: locks.wanted(self._reader, self._database.now(), key))

    async def _grant(self, key: str, lease: float) -> list[Held]:
        """A transaction for each, so that each may want other locks besides."""
        granted = []
        for _ in range(_TURNS):
            held, more = await self._in_transaction(lambda writer, now: locks.grant(writer, now, key, lease))
            if held is not None:
                granted.append(held)
            if not more:
                break
        return granted

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

    async def answer(self, given: SignalReceived) -> bool:
        note = self._ledger.note
        is_first = await self._in_transaction(lambda writer, _: waiting.answer(writer, note, given))
        if is_first:
            await self._run(lambda: self._watch.tell(lambda: self._reader, [given]))
        return is_first

    async def take_due(self) -> tuple[Sequence[Held], float | None]:
        now = self._database.now()
        due_at = await self._run(lambda: waiting.next_due(self._reader, now))
        if due_at is None or due_at > now:
            return (), due_at
        return await self._in_transaction(lambda writer, now: waiting.take_due(writer, self._ledger.note, now)), now

    async def held(self, correlation_id: str | None = None, key: str = "", limit: int = 100) -> Sequence[Held]:
        return await self._run(lambda: waiting.held(self._reader, correlation_id, key, limit))

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
        return await self._in_transaction(lambda writer, now: scheduled.delete(writer, app, name, now - SILENCE))

    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        return await self._run(lambda: scheduled.listed(self._reader, app))

    # --- reading ---------------------------------------------------------------------------------------------

    def output(self, message_id: str) -> Any:
        query = select(steps.c.status, steps.c.output).where(steps.c.message_id == message_id)
        row = self._thread.wait_for(lambda: self._guarded(lambda: self._reader.execute(query).first()), PATIENCE)
        if row is None or row.status != "completed":
            raise ValueMissing(
                f"the output that message {message_id} left in the store {masked(self.url)} is not there"
            )
        return row.output

    async def workflow(self, correlation_id: str) -> WorkflowRecord | None:
        return await self._run(lambda: reading.workflow(self._reader, correlation_id))

    async def find(self, prefix: str) -> Sequence[str]:
        return await self._run(lambda: reading.beginning_with(self._reader, prefix))

    async def workflows(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        app: str | None = None,
        parent: str | None = None,
        limit: int = 20,
    ) -> Sequence[WorkflowRecord]:
        wanted = {"status": status, "name": name, "app": app, "parent": parent}
        return await self._run(lambda: reading.latest(self._reader, wanted, limit))

    async def counts(self) -> dict[str, int]:
        return await self._run(lambda: reading.counts(self._reader))

    async def events(self, correlation_id: str, after: int = 0, limit: int = 1000) -> Sequence[EventRecord]:
        return await self._run(lambda: reading.events_of(self._reader, correlation_id, after, limit))

    async def passing(self, correlation_id: str) -> int:
        return await self._run(lambda: reading.passing(self._reader, correlation_id))

    async def await_end(self, correlation_id: str) -> None:
        await self._wait_for(correlation_id, None)

    async def await_event(self, correlation_id: str, after: int) -> None:
        await self._wait_for(correlation_id, after)

    async def course(self, correlation_id: str) -> Course | None:
        return await self._run(lambda: reading.course(self._reader, correlation_id))

    # --- dead letters ------------------------------------------------------------------------------------------

    async def dead_letters(
        self, limit: int = 100, which: Letters = ALL_LETTERS, below: int | None = None
    ) -> Sequence[DeadLetter]:
        return await self._run(lambda: letters.listed(self._reader, which, limit, below))

    async def dead_letter(self, id: int) -> DeadLetter | None:  # noqa: A002 - the field's name
        return await self._run(lambda: letters.one(self._reader, id))

    async def count_dead_letters(self, which: Letters = ALL_LETTERS) -> int:
        return await self._run(lambda: letters.count(self._reader, which))

    async def take_dead_letter(self, id: int, move: Move | None, record: Sequence[Event]) -> bool:  # noqa: A002
        write = self._ledger.write
        taken = await self._in_transaction(lambda writer, now: letters.take(writer, write, id, move, record, now))
        if taken:
            await self._run(lambda: self._watch.tell(lambda: self._reader, record))
        return taken

    async def edit_dead_letter(self, id: int, before: bytes, after: bytes, record: Sequence[Event]) -> bool:  # noqa: A002
        note = self._ledger.note
        return await self._in_transaction(lambda writer, _: letters.edit(writer, note, id, before, after, record))

    # --- workers ---------------------------------------------------------------------------------------------

    async def announce(self, worker: WorkerRecord) -> None:
        def announced(writer: Connection, now: float) -> None:
            present.announce(writer, now, worker)
            locks.forget(writer, now)

        await self._in_transaction(announced)

    async def withdraw(self, worker_id: str) -> None:
        await self._in_transaction(lambda writer, _: present.withdraw(writer, worker_id))

    async def workers(self) -> Sequence[WorkerRecord]:
        return await self._run(lambda: present.listed(self._reader, self._database.now()))
