"""Schedules: what an App dispatches again and again, served by every worker of it, each time once.

Of the workers that see a schedule due one takes it, dispatches under an id that follows from App, schedule and time,
and moves it on. If that worker dies in between, another one does the same again: the same id twice is one workflow.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import structlog

from paigeant.clock import Clock
from paigeant.errors import (
    ConfigurationError,
    PaigeantError,
    ScheduleInUse,
    ScheduleNotFound,
    StoreError,
    StoreRefused,
    StoreRequired,
    TransportError,
)
from paigeant.ids import derive_schedule_id
from paigeant.records import ScheduleRecord
from paigeant.schedules.timetable import Timetable
from paigeant.store import Store
from paigeant.workflow import Workflow

log = structlog.stdlib.get_logger("paigeant.scheduling")

LOOK = 1.0
"""Seconds between two looks for what is due."""

PATIENCE = 20.0
"""Seconds that the function of a schedule may take to say what is to be dispatched."""

Dispatch = Callable[..., Workflow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule in an App's code: ``function`` says what to dispatch, ``takes_time`` whether it is told the time."""

    name: str
    timetable: Timetable
    function: Callable[..., Any]
    takes_time: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False

    async def steps(self, at: float) -> tuple[Any, ...]:
        """What to dispatch for this time; a plain function runs in a thread. Nothing: this time nothing is."""
        given = (datetime.fromtimestamp(at, self.timetable.zone),) if self.takes_time else ()
        if inspect.iscoroutinefunction(self.function):
            made = await self.function(*given)
        else:
            made = await asyncio.to_thread(self.function, *given)
        if made is None:
            return ()
        return tuple(made) if isinstance(made, list | tuple) else (made,)


def takes_time(function: Callable[..., Any]) -> bool:
    """Whether the function of a schedule wants to know the time it is due.

    Raises:
        ConfigurationError: it wants something else.
    """
    parameters = inspect.signature(function).parameters
    if len(parameters) > 1:
        raise ConfigurationError(
            f"the schedule {function.__name__!r} takes {len(parameters)} parameters",
            hint="none, or one: the datetime it is due",
        )
    return bool(parameters)


@dataclass(frozen=True, slots=True)
class Schedules:
    """The schedules of one App: those of its code, ``declared``, and those of its store."""

    app: str
    declared: Mapping[str, Schedule]
    store: Store | None
    dispatch: Dispatch
    clock: Clock

    # --- by operators ----------------------------------------------------------------------------------------

    async def list(self) -> Sequence[ScheduleRecord]:
        """The schedules of the App that its workers have registered, by name."""
        return await self._required_store().schedules(self.app)

    async def pause(self, name: str) -> None:
        """Let a schedule rest until :meth:`resume`. What it has dispatched goes on.

        Raises:
            ScheduleNotFound: no worker has registered a schedule of this name.
        """
        await pause(self._required_store(), await self._found(name))

    async def resume(self, name: str) -> None:
        """Let a paused schedule go on with the next time that is to come.

        Raises:
            ScheduleNotFound: no worker has registered a schedule of this name.
        """
        await resume(self._required_store(), await self._found(name), self.clock.now())

    async def delete(self, name: str) -> None:
        """Forget a schedule that the code has no more.

        Raises:
            ScheduleNotFound: no worker has registered a schedule of this name.
            ScheduleInUse: living workers have it in their code.
        """
        await delete(self._required_store(), await self._found(name))

    async def run(self, name: str) -> Workflow | None:
        """Dispatch now what the schedule would, also when it is paused; None if it has nothing to dispatch.

        Raises:
            ScheduleNotFound: the App's code has no schedule of this name.
        """
        schedule = self.declared.get(name)
        if schedule is None:
            raise not_found(name, self.declared, f"App {self.app!r} has no schedule {name!r} in its code")
        steps = await schedule.steps(self.clock.now())
        return await self.dispatch(*steps, variables=schedule.variables, name=name) if steps else None

    async def _found(self, name: str) -> ScheduleRecord:
        known = {one.name: one for one in await self.list()}
        if name not in known:
            raise not_found(name, known, f"no worker of App {self.app!r} has registered a schedule {name!r}")
        return known[name]

    # --- by workers ------------------------------------------------------------------------------------------

    async def register(self) -> None:
        """Write down in the store what the code has, as workers do at their start; what it has no more is orphaned.

        Raises:
            StoreRequired: there are schedules, and no store.
        """
        now = self.clock.now()
        rows = [
            ScheduleRecord(
                app=self.app,
                name=one.name,
                definition=one.timetable.definition,
                next_at=one.timetable.next_after(now),
                paused=one.paused,
            )
            for one in self.declared.values()
        ]
        if rows or (self.store is not None and await self.store.schedules(self.app)):
            await self._required_store().register_schedules(self.app, rows)

    async def serve(self) -> None:
        """Dispatch what is due, for ever."""
        while self.declared:
            try:
                while await self.sweep():
                    pass
            except PaigeantError as error:
                log.warning("could not serve schedules", error=str(error))
            await asyncio.sleep(LOOK)

    async def sweep(self) -> int:
        """Dispatch what is due; of how many schedules something was.

        Raises:
            StoreError, TransportError: what was taken and not dispatched is taken again after a while.
        """
        definitions = {name: one.timetable.definition for name, one in self.declared.items()}
        store = self._required_store()
        taken, now = await store.take_schedules(self.app, definitions)
        for one in taken:
            await self._fire(store, one, now)
        return len(taken)

    async def _fire(self, store: Store, taken: ScheduleRecord, now: float) -> None:
        schedule = self.declared[taken.name]
        due = schedule.timetable.due(max(taken.next_at or now, 0.0), now)
        done: dict[str, Any] = {}
        for at in due.times:
            done = {"last_at": at, **await self._dispatched(schedule, at)}
        await store.move_schedule(taken, due.next_at, **done)

    async def _dispatched(self, schedule: Schedule, at: float) -> dict[str, Any]:
        """Dispatch for this time; the workflow's id, or the error if the code of the schedule is at fault."""
        workflow_id = derive_schedule_id(self.app, schedule.name, at)
        try:
            async with asyncio.timeout(PATIENCE):
                steps = await schedule.steps(at)
            if not steps:
                return {}
            await self.dispatch(*steps, variables=schedule.variables, name=schedule.name, id=workflow_id)
        except Exception as error:
            if isinstance(error, TransportError | StoreError) and not isinstance(error, StoreRefused):
                raise
            log.error("a schedule failed", schedule=schedule.name, error_type=type(error).__name__)
            return {"error": f"{type(error).__name__}: {error}".rstrip(": ")}
        return {"last_id": workflow_id}

    def _required_store(self) -> Store:
        if self.store is None:
            raise StoreRequired(
                "schedules are kept in a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self.store


async def pause(store: Store, schedule: ScheduleRecord) -> None:
    """Let a schedule rest; one that does so already stays as it is."""
    await store.pause_schedule(schedule.app, schedule.name)


async def resume(store: Store, schedule: ScheduleRecord, now: float) -> None:
    """Let a paused schedule go on with the next time after now; another one stays as it is."""
    next_at = Timetable.defined(schedule.definition).next_after(now)
    await store.resume_schedule(schedule.app, schedule.name, next_at)


async def delete(store: Store, schedule: ScheduleRecord) -> None:
    """Forget a schedule that no living worker has in its code.

    Raises:
        ScheduleInUse: there are such workers.
    """
    if not await store.delete_schedule(schedule.app, schedule.name):
        raise ScheduleInUse(
            f"workers of App {schedule.app!r} have the schedule {schedule.name!r} in their code",
            hint=f"take it out of the code and restart them, or let it rest: paigeant schedule pause {schedule.name}",
        )


def not_found(name: str, known: Collection[str], what: str) -> ScheduleNotFound:
    """The error for a name that is none of these."""
    near = get_close_matches(name, known, n=1)
    there = f"there is {', '.join(sorted(known))}" if known else "a worker registers those of its App when it starts"
    return ScheduleNotFound(what, hint=f"did you mean {near[0]!r}?" if near else there)
