"""Locks, and who is next. Everything here runs inside somebody's transaction.

A lock is a row with its holder and the end of his lease. Who waits for one is a message that waits for the lock's key.
A lock that is granted has a holder and no worker yet.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from paigeant.lock import KEY
from paigeant.store import Held, Lock
from paigeant.stores import rows
from paigeant.stores.tables import locks, waits

_BATCH = 100
"""How many locks are granted at a time."""

_WAITS = and_(waits.c.fired_at.is_(None), waits.c.key >= KEY, waits.c.key < KEY[:-1] + chr(ord(KEY[-1]) + 1))


def take(connection: Connection, now: float, lock: Lock, lease: float) -> bool:
    """Take it, if it is free, granted to this message, or this worker's for this message already."""
    is_mine = locks.c.holder == lock.holder
    is_idle = and_(locks.c.worker.is_(None), true() if lock.granted else is_mine)
    may = or_(locks.c.until < now, is_idle, and_(is_mine, locks.c.worker == lock.worker))
    return _put(connection, lock.key, lock.holder, lock.worker, now + lease, may)


def _put(connection: Connection, key: str, holder: str, worker: str | None, until: float, may: Any) -> bool:
    """Whether the lock is this holder's now: it was nobody's, or ``may`` holds for its row."""
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(locks)
    new = {"holder": holder, "worker": worker, "until": until}
    putting = insert.values(key=key, **new).on_conflict_do_update(index_elements=[locks.c.key], set_=new, where=may)
    return connection.execute(putting.returning(locks.c.key)).first() is not None


def keep(connection: Connection, now: float, kept: Collection[Lock], lease: float) -> list[Lock]:
    """Put the ends of these leases forward; those that were still held."""
    ordered = sorted(kept, key=lambda lock: lock.key)  # two who keep some wait for each other in this order
    return [one for one in ordered if connection.execute(_mine(update(locks), one).values(until=now + lease)).rowcount]


def free(connection: Connection, now: float, lock: Lock, lease: float) -> list[Held]:
    """The next one holds it: a newcomer cannot overtake those who wait."""
    connection.execute(_mine(delete(locks), lock))
    return grant(connection, now, [lock.key], lease)


def _mine(statement: Any, lock: Lock) -> Any:
    return statement.where(locks.c.key == lock.key, locks.c.holder == lock.holder, locks.c.worker == lock.worker)


def wanted(reader: Connection, now: float, key: str | None) -> list[str]:
    """The locks that messages wait for and that nobody holds."""
    is_held = select(locks.c.key).where(locks.c.key == waits.c.key, locks.c.until >= now).exists()
    query = select(waits.c.key).where(_WAITS if key is None else and_(_WAITS, waits.c.key == key), ~is_held)
    return list(reader.execute(query.distinct().limit(_BATCH)).scalars())


def grant(connection: Connection, now: float, keys: Collection[str], lease: float) -> list[Held]:
    """Give these locks, where they are still free, to the messages that have waited for them longest."""
    granted = [_grant(connection, now, key, lease) for key in sorted(keys)]
    return [one for one in granted if one is not None]


def _grant(connection: Connection, now: float, key: str, lease: float) -> Held | None:
    first = select(waits).where(waits.c.key == key, waits.c.fired_at.is_(None)).order_by(waits.c.since, waits.c.wait_id)
    row = connection.execute(first.limit(1).with_for_update(skip_locked=True)).first()
    if row is None or not _put(connection, key, row.wait_id, None, now + lease, locks.c.until < now):
        return None
    given = {"value": {"lock": key}}
    connection.execute(update(waits).where(waits.c.wait_id == row.wait_id).values(fired_at=now, value=given))
    return rows.held(row, given)
