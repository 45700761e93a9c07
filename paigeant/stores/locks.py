"""Locks, and who is next. Everything here runs inside somebody's transaction.

A lock has a row for each holder, with the end of his lease; a rate limit has one, whose holder is time. Who waits for a
lock is a message that waits for its key, and says what else it wants to take. It takes all or nothing, so nobody holds
what he cannot use, and nobody who holds something waits. :mod:`paigeant.limits.limit` decides, here is what it is told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, collate, delete, func, or_, select, text, union, update

from paigeant.database.inserting import insert_into
from paigeant.limits import limit
from paigeant.limits.limit import TIME, Lock, Place, Taking, wanted_of
from paigeant.limits.names import KEYS
from paigeant.records import Held
from paigeant.stores import rows
from paigeant.stores.tables import locks, waits

_BATCH = 100
"""How many locks are looked at at a time."""

_FORGOTTEN_AFTER = 24 * 3600

_MUTEX = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 7302914431))")
"""One at a time decides about a lock. In SQLite one at a time writes."""

_IS_WAITING = waits.c.fired_at.is_(None)


def take(connection: Connection, now: float, wanted: Sequence[Lock], lease: float) -> Lock | None:
    """Take all of them; or none, and the first that cannot be taken."""
    _only_one(connection, wanted)
    takings = {lock.key: _ask(connection, lock, now, _is_waited_for(connection, lock.key)) for lock in _ordered(wanted)}
    return _put_all(connection, wanted, takings, now, lease)


def _ordered(some: Collection[Lock]) -> list[Lock]:
    """Two who want some of the same wait for each other in this order."""
    return sorted(some, key=lambda lock: (lock.key, lock.holder))


def _only_one(connection: Connection, wanted: Sequence[Lock]) -> None:
    """Nobody else decides about these until the transaction ends."""
    if connection.dialect.name == "postgresql":
        for lock in _ordered(wanted):
            connection.execute(_MUTEX, {"key": lock.key})


def _ask(connection: Connection, lock: Lock, now: float, others_wait: bool) -> Taking | None:
    query = select(locks).where(locks.c.key == lock.key).order_by(locks.c.holder)
    found = connection.execute(query.with_for_update()).all()  # nobody puts his end forward meanwhile
    places = [Place(row.holder, row.worker, rows.time(row.until) or 0.0) for row in found]
    return limit.take(lock, places, now, others_wait=others_wait)


def _is_waited_for(connection: Connection, key: str) -> bool:
    query = select(waits.c.wait_id).where(waits.c.key == key, _IS_WAITING).limit(1)
    return connection.execute(query).first() is not None


def _put_all(
    connection: Connection, wanted: Sequence[Lock], takings: Mapping[str, Taking | None], now: float, lease: float
) -> Lock | None:
    """Take all of them, or nothing, and say which is lacking."""
    for lock in wanted:
        if takings[lock.key] is None:
            return lock
    for lock in wanted:
        _put(connection, lock, takings[lock.key] or Taking(), now, lease)
    return None


def _put(connection: Connection, lock: Lock, taking: Taking, now: float, lease: float) -> None:
    gone = [one.holder for one in taking.gone]
    if gone:
        connection.execute(delete(locks).where(locks.c.key == lock.key, locks.c.holder.in_(gone)))
    if lock.limit.period is None:
        _write(connection, lock, lock.holder, now + lease, lock.limit.places)
    elif taking.next_start is not None:
        _write(connection, lock, TIME, taking.next_start, 1)


def _write(connection: Connection, lock: Lock, holder: str, until: float, places: int) -> None:
    insert = insert_into(connection.dialect.name, locks)
    new = {"worker": lock.worker, "until": until, "places": places}
    putting = insert.values(key=lock.key, holder=holder, **new)
    connection.execute(putting.on_conflict_do_update(index_elements=[locks.c.key, locks.c.holder], set_=new))


def keep(connection: Connection, now: float, kept: Collection[Lock], lease: float) -> list[Lock]:
    """Put the ends of these leases forward; those that were still held. Nobody holds a rate limit or loses it."""
    return [one for one in _ordered(kept) if one.limit.period is not None or _kept(connection, one, now + lease)]


def _kept(connection: Connection, lock: Lock, until: float) -> bool:
    mine = (locks.c.key == lock.key, locks.c.holder == lock.holder, locks.c.worker == lock.worker)
    return connection.execute(update(locks).where(*mine).values(until=until)).rowcount > 0


def free(connection: Connection, freed: Collection[Lock]) -> None:
    """Whoever had these, or was granted them, has them no more."""
    for one in _ordered(freed):
        is_free_to = or_(locks.c.worker == one.worker, locks.c.worker.is_(None))
        connection.execute(delete(locks).where(locks.c.key == one.key, locks.c.holder == one.holder, is_free_to))


def forget(connection: Connection, now: float) -> None:
    """Remove what nobody has held for a day: dead holders of locks that nobody wants, rates that nobody uses."""
    connection.execute(delete(locks).where(locks.c.until < now - _FORGOTTEN_AFTER))


# --- whose turn it is -------------------------------------------------------------------------------------------------


def wanted(reader: Connection, now: float, key: str | None) -> tuple[list[str], float | None]:
    """The locks that messages wait for and that have a place, and the seconds until time gives another one back."""
    keys = _awaited(reader, key).subquery()  # each once, for many may wait for it
    held = select(locks.c.key).where(locks.c.key == keys.c.key, locks.c.until > now).group_by(locks.c.key)
    is_full = held.having(func.count() >= func.max(locks.c.places)).exists()
    free = reader.execute(select(keys.c.key).where(~is_full).limit(_BATCH)).scalars().all()
    coming = select(func.min(locks.c.until)).join_from(locks, keys, locks.c.key == keys.c.key)
    next_at = rows.time(reader.execute(coming.where(locks.c.holder == TIME, locks.c.until > now)).scalar())
    return list(free), None if next_at is None else next_at - now


def _awaited(reader: Connection, key: str | None) -> Any:
    """The keys of locks that messages wait for, or this one if any does."""
    waiting = select(waits.c.key).where(_IS_WAITING)
    if key is not None:
        return waiting.where(waits.c.key == key).limit(1)
    column: Any = waits.c.key if reader.dialect.name == "sqlite" else collate(waits.c.key, "C")
    return union(*(waiting.where(column >= kind, column < kind + "\U0010ffff") for kind in KEYS))


def grant(connection: Connection, now: float, key: str, lease: float) -> tuple[Held | None, bool]:
    """Give the lock to the message that has waited for it longest; and whether the next one may be served now, too.

    A message that lacks something else waits for that from then on, and is as old there as it was here.
    """
    first = connection.execute(_first(key)).first()
    if first is None:
        return None, False
    wanted = wanted_of(key, first.wait_id, first.detail)
    _only_one(connection, wanted)
    row = connection.execute(_first(key).with_for_update(skip_locked=True)).first()
    if row is None or row.wait_id != first.wait_id:  # somebody was quicker
        return None, row is not None
    takings = {lock.key: _ask(connection, lock, now, others_wait=False) for lock in _ordered(wanted)}
    if takings[key] is None:
        return None, False
    this = update(waits).where(waits.c.wait_id == row.wait_id)
    if (lacking := _put_all(connection, wanted, takings, now, lease)) is not None:
        connection.execute(this.values(key=lacking.key))
        return None, True
    given = {"value": {"granted": row.wait_id, "until": now + lease, "keys": [lock.key for lock in wanted]}}
    connection.execute(this.values(fired_at=now, value=given))
    return rows.held(row, given), any(lock.limit.burst > 1 for lock in wanted if lock.key == key)


def _first(key: str) -> Select[Any]:
    waiting = select(waits).where(waits.c.key == key, _IS_WAITING)
    return waiting.order_by(waits.c.since, waits.c.wait_id).limit(1)
