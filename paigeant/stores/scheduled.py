"""Schedules as rows. Every function runs in a transaction of its caller.

A worker that finds a due schedule takes it, dispatches the workflow and sets the next time. The row changes only while
it still has the values that the worker read. If the worker dies in between, another worker repeats this after a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, exists, or_, select, update
from sqlalchemy import delete as remove

from paigeant.database.inserting import insert_into
from paigeant.records.workflow import ScheduleRecord
from paigeant.stores import rows
from paigeant.stores.tables import schedules, workers

LEFT_AFTER = 30.0
"""Seconds after which another worker may take a schedule whose taker did not set the next time."""

Definitions = Mapping[str, Mapping[str, Any]]


def register(connection: Connection, app: str, declared: Sequence[ScheduleRecord]) -> None:
    """Record the schedules in the App's code, and mark its other schedules as orphaned."""
    names = [one.name for one in declared]
    gone = and_(schedules.c.app == app, schedules.c.name.not_in(names))
    connection.execute(update(schedules).where(gone).values(orphaned=1))
    insert = insert_into(connection.dialect.name, schedules)
    for one in declared:
        row = {"app": app, "name": one.name, "definition": one.definition, "next_at": one.next_at}
        connection.execute(
            insert.values(**row, paused=int(one.paused), orphaned=0).on_conflict_do_update(
                index_elements=[schedules.c.app, schedules.c.name],
                set_={"definition": one.definition, "next_at": one.next_at, "taken_at": None},
                where=schedules.c.definition != insert.excluded.definition,
            )
        )
    here = and_(schedules.c.app == app, schedules.c.name.in_(names))
    connection.execute(update(schedules).where(here).values(orphaned=0))


def due(connection: Connection, now: float, app: str, definitions: Definitions, *, lock: bool) -> list[ScheduleRecord]:
    """Return the schedules that can be taken now. With ``lock``, only this transaction can take them."""
    is_free = or_(schedules.c.taken_at.is_(None), schedules.c.taken_at < now - LEFT_AFTER)
    query = select(schedules).where(
        schedules.c.app == app,
        schedules.c.name.in_(definitions),
        schedules.c.paused == 0,
        schedules.c.next_at <= now,
        is_free,
    )
    query = query.order_by(schedules.c.next_at)
    if lock:
        query = query.with_for_update(skip_locked=True)
    found = [rows.schedule(row) for row in connection.execute(query)]
    return [one for one in found if one.definition == definitions[one.name]]


def take(connection: Connection, now: float, app: str, definitions: Definitions) -> list[ScheduleRecord]:
    """Take the due schedules."""
    taken = due(connection, now, app, definitions, lock=True)
    names = [one.name for one in taken]
    here = and_(schedules.c.app == app, schedules.c.name.in_(names))
    connection.execute(update(schedules).where(here).values(taken_at=now))
    return taken


def move(connection: Connection, taken: ScheduleRecord, values: Mapping[str, Any]) -> bool:
    """Change the row of a taken schedule, unless its next time or its definition has changed since."""
    still = and_(
        schedules.c.app == taken.app,
        schedules.c.name == taken.name,
        schedules.c.next_at == taken.next_at,
        schedules.c.definition == taken.definition,
    )
    return connection.execute(update(schedules).where(still).values(**values, taken_at=None)).rowcount > 0


def set_paused(connection: Connection, app: str, name: str, *, paused: bool, **values: Any) -> bool:
    """Pause or resume. Returns False if there is no such schedule, or if it has this state already."""
    here = and_(schedules.c.app == app, schedules.c.name == name, schedules.c.paused == int(not paused))
    return connection.execute(update(schedules).where(here).values(paused=int(paused), **values)).rowcount > 0


def delete(connection: Connection, app: str, name: str, alive_since: float) -> bool:
    """Delete a schedule that is orphaned, or whose App has no worker seen since then. Returns whether there was one."""
    is_served = exists().where(workers.c.app == schedules.c.app, workers.c.seen_at >= alive_since)
    gone = and_(schedules.c.app == app, schedules.c.name == name, or_(schedules.c.orphaned == 1, ~is_served))
    return connection.execute(remove(schedules).where(gone)).rowcount > 0


def listed(reader: Connection, app: str | None) -> list[ScheduleRecord]:
    """List schedules by App and name."""
    query = select(schedules).order_by(schedules.c.app, schedules.c.name)
    if app is not None:
        query = query.where(schedules.c.app == app)
    return [rows.schedule(row) for row in reader.execute(query)]
