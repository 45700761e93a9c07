"""Schedules: workflows that an App dispatches periodically. All its workers serve them, and each time is served once.

One of the workers that see a due schedule claims it, dispatches under an id derived from App, schedule and time, and
sets the next time. If that worker dies in between, another one does the same: the same id twice is one workflow.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from paigeant import store as roles
from paigeant.errors import (
    ConfigurationError,
    ScheduleInUse,
    ScheduleNotFound,
    StoreError,
    StoreRefused,
    StoreRequired,
    TransportError,
)
from paigeant.records.workflow import ScheduleRecord
from paigeant.runtime.clock import Clock
from paigeant.runtime.nearest import did_you_mean
from paigeant.runtime.outage import Outage
from paigeant.schedules.timetable import Timetable
from paigeant.wire.ids import derive_schedule_id
from paigeant.workflow import Workflow

log = structlog.stdlib.get_logger("paigeant.scheduling")

LOOK = 1.0
"""Seconds between two polls for due schedules."""

PATIENCE = 20.0
"""Seconds that the function of a schedule may take to return what to dispatch."""

Dispatch = Callable[..., Workflow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule in an App's code. ``function`` returns what to dispatch; ``takes_time``: it receives the due time."""

    name: str
    timetable: Timetable
    function: Callable[..., Any]
    takes_time: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False

    async def steps(self, at: float) -> tuple[Any, ...]:
        """Return what to dispatch for this time; empty for nothing. A plain function runs in a thread."""
        given = (datetime.fromtimestamp(at, self.timetable.zone),) if self.takes_time else ()
        if inspect.iscoroutinefunction(self.function):
            made = await self.function(*given)
        else:
            made = await asyncio.to_thread(self.function, *given)
        if made is None:
            return ()
        return tuple(made) if isinstance(made, list | tuple) else (made,)


def takes_time(function: Callable[..., Any]) -> bool:
    """Whether the function of a schedule has a parameter for the time it is due.

    Raises:
        ConfigurationError: the function has other parameters.
    """
    parameters = inspect.signature(function).parameters
    if len(parameters) > 1:
        raise ConfigurationError(
            f"the schedule {function.__name__!r} takes {len(parameters)} parameters",
            hint="it may take one parameter: the datetime it is due",
        )
    return bool(parameters)


@dataclass(frozen=True, slots=True)
class Schedules:
    """The schedules of one App: those in its code, ``declared``, and those in its store."""

    app: str
    declared: Mapping[str, Schedule]
    store: roles.Schedules | None
    dispatch: Dispatch
    clock: Clock

    # --- by operators ----------------------------------------------------------------------------------------

    async def list(self) -> Sequence[ScheduleRecord]:
        """Return the schedules of the App that its workers have registered, by name."""
        return await self._required_store().schedules(self.app)

    async def pause(self, name: str) -> None:
        """Pause a schedule until :meth:`resume`. Workflows that it has dispatched continue.

        Raises:
            ScheduleNotFound: no worker has registered a schedule of this name.
        """
        await pause(self._required_store(), await self._found(name))

    async def resume(self, name: str) -> None:
        """Resume a paused schedule at its next future time.

        Raises:
            ScheduleNotFound: no worker has registered a schedule of this name.
        """
        await resume(self._required_store(), await self._found(name), self.clock.now())

    async def delete(self, name: str) -> None:
        """Delete a schedule that the code no longer has.

        Raises:
            ScheduleNotFound: no worker has registered a schedule of this name.
            ScheduleInUse: live workers have it in their code.
        """
        await delete(self._required_store(), await self._found(name))

    async def run(self, name: str) -> Workflow | None:
        """Dispatch the schedule's workflow now, even if the schedule is paused; None if there is nothing to dispatch.

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
        """Record the code's schedules in the store, as each worker does when it starts. Others become orphaned.

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
        """Dispatch due schedules, for ever."""
        outage = Outage(log, "serve schedules")
        while self.declared:
            with outage.noted():
                while await self.sweep():
                    pass
            await asyncio.sleep(LOOK)

    async def sweep(self) -> int:
        """Dispatch due schedules. Return how many schedules dispatched something.

        Raises:
            StoreError, TransportError: a schedule that was claimed and not dispatched is claimed again after a while.
        """
        definitions = {name: one.timetable.definition for name, one in self.declared.items()}
        store = self._required_store()
        taken, now = await store.take_schedules(self.app, definitions)
        for one in taken:
            await self._fire(store, one, now)
        return len(taken)

    async def _fire(self, store: roles.Schedules, taken: ScheduleRecord, now: float) -> None:
        schedule = self.declared[taken.name]
        due = schedule.timetable.due(max(taken.next_at or now, 0.0), now)
        done: dict[str, Any] = {}
        for at in due.times:
            done = {"last_at": at, **await self._dispatched(schedule, at)}
        await store.move_schedule(taken, due.next_at, **done)

    async def _dispatched(self, schedule: Schedule, at: float) -> dict[str, Any]:
        """Dispatch for this time. Return the workflow's id, or the error if the schedule's code failed."""
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

    def _required_store(self) -> roles.Schedules:
        if self.store is None:
            raise StoreRequired(
                "schedules are kept in a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self.store


async def pause(store: roles.Schedules, schedule: ScheduleRecord) -> None:
    """Pause a schedule; a paused one stays paused."""
    await store.pause_schedule(schedule.app, schedule.name)


async def resume(store: roles.Schedules, schedule: ScheduleRecord, now: float) -> None:
    """Resume a paused schedule at its first time after ``now``; another schedule does not change."""
    next_at = Timetable.defined(schedule.definition).next_after(now)
    await store.resume_schedule(schedule.app, schedule.name, next_at)


async def delete(store: roles.Schedules, schedule: ScheduleRecord) -> None:
    """Delete a schedule that no live worker has in its code.

    Raises:
        ScheduleInUse: live workers have it in their code.
    """
    if not await store.delete_schedule(schedule.app, schedule.name):
        raise ScheduleInUse(
            f"workers of App {schedule.app!r} have the schedule {schedule.name!r} in their code",
            hint=f"remove it from the code and restart them, or pause it: paigeant schedule pause {schedule.name}",
        )


def not_found(name: str, known: Collection[str], what: str) -> ScheduleNotFound:
    """Return the error for a name that is not among the known names."""
    there = f"there is {', '.join(sorted(known))}" if known else "a worker registers those of its App when it starts"
    return ScheduleNotFound(what, hint=did_you_mean(name, known, there))
