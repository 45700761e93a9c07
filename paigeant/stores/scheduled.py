"""Schedules as rows. Everything here runs inside somebody's transaction.

A worker that finds a schedule due takes it, dispatches, and moves it on; the row changes only as long as it still says
what the worker read. A worker that dies in between leaves it taken, and after a while another one does the same again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, exists, or_, select, update
from sqlalchemy import delete as remove

from paigeant.database.inserting import insert_into
from paigeant.records import ScheduleRecord
from paigeant.stores import rows
from paigeant.stores.tables import schedules, workers

LEFT_AFTER = 30.0
"""Seconds after which a schedule that was taken and not moved on is taken over."""

Definitions = Mapping[str, Mapping[str, Any]]


def register(connection: Connection, app: str, declared: Sequence[ScheduleRecord]) -> None:
    """Write down what the code of the App has; what it has no more is orphaned."""
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
    """What may be taken now; with ``lock``, by this transaction only."""
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
    """Take what is due."""
    taken = due(connection, now, app, definitions, lock=True)
    names = [one.name for one in taken]
    here = and_(schedules.c.app == app, schedules.c.name.in_(names))
    connection.execute(update(schedules).where(here).values(taken_at=now))
    return taken


def move(connection: Connection, taken: ScheduleRecord, values: Mapping[str, Any]) -> bool:
    """Change the row of a schedule that was taken, if it still has the time for which it was."""
    still = and_(
        schedules.c.app == taken.app,
        schedules.c.name == taken.name,
        schedules.c.next_at == taken.next_at,
        schedules.c.definition == taken.definition,
    )
    return connection.execute(update(schedules).where(still).values(**values, taken_at=None)).rowcount > 0


def turn(connection: Connection, app: str, name: str, *, paused: bool, **values: Any) -> bool:
    """Pause or resume; False: there is no such schedule, or it stands so already."""
    here = and_(schedules.c.app == app, schedules.c.name == name, schedules.c.paused == int(not paused))
    return connection.execute(update(schedules).where(here).values(paused=int(paused), **values)).rowcount > 0


def delete(connection: Connection, app: str, name: str, alive_since: float) -> bool:
    """Delete one that is orphaned, or whose App has no worker that was heard of since then; False: there is none."""
    is_served = exists().where(workers.c.app == schedules.c.app, workers.c.seen_at >= alive_since)
    gone = and_(schedules.c.app == app, schedules.c.name == name, or_(schedules.c.orphaned == 1, ~is_served))
    return connection.execute(remove(schedules).where(gone)).rowcount > 0


def listed(reader: Connection, app: str | None) -> list[ScheduleRecord]:
    """Schedules by App and name."""
    query = select(schedules).order_by(schedules.c.app, schedules.c.name)
    if app is not None:
        query = query.where(schedules.c.app == app)
    return [rows.schedule(row) for row in reader.execute(query)]
