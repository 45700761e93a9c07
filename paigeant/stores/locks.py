"""Locks, and the messages that wait for them. Every function runs in a transaction of its caller.

A lock has one row for each holder, with the end of its lease. A rate limit has one row, whose holder is time. A message
that waits for a lock waits for its key, and names the other locks it needs. It acquires all or none, so no message
holds a lock that it cannot use yet, and no message that holds a lock waits. :mod:`paigeant.decisions.limit` decides;
this module reads and writes the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, collate, delete, func, or_, select, text, tuple_, union, update

from paigeant.database.inserting import insert_into
from paigeant.decisions import limit
from paigeant.decisions.limit import TIME, Lock, Place, Taking, wanted_of
from paigeant.decisions.lock_names import KEYS
from paigeant.records.workflow import Held, Owner
from paigeant.stores import rows
from paigeant.stores.owners import is_mine
from paigeant.stores.tables import locks, waits
from paigeant.stores.waiting import anything

_BATCH = 100
"""How many free locks one query returns."""

_FORGOTTEN_AFTER = 24 * 3600
_FORGETTING = 1000
"""How many rows are deleted at a time."""

_MUTEX = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 7302914431))")
"""Lets one transaction at a time decide about a lock. SQLite lets one transaction write at a time anyway."""

_IS_WAITING = waits.c.fired_at.is_(None)


def take(connection: Connection, now: float, wanted: Sequence[Lock], lease: float) -> Lock | None:
    """Acquire all locks or none. Returns None, or the first lock that is not free."""
    _only_one(connection, wanted)
    takings = {lock.key: _ask(connection, lock, now, _is_waited_for(connection, lock.key)) for lock in _ordered(wanted)}
    return _put_all(connection, wanted, takings, now, lease)


def _ordered(some: Collection[Lock]) -> list[Lock]:
    """Return the locks in the order in which every transaction locks them."""
    return sorted(some, key=lambda lock: (lock.key, lock.holder))


def _only_one(connection: Connection, wanted: Sequence[Lock]) -> None:
    """Keep other transactions from deciding about these locks until this one ends."""
    if connection.dialect.name == "postgresql":
        for lock in _ordered(wanted):
            connection.execute(_MUTEX, {"key": lock.key})


def _ask(connection: Connection, lock: Lock, now: float, others_wait: bool) -> Taking | None:
    query = select(locks).where(locks.c.key == lock.key).order_by(locks.c.holder)
    found = connection.execute(query.with_for_update()).all()  # so that no lease is renewed meanwhile
    places = [Place(row.holder, row.worker, rows.time(row.until) or 0.0) for row in found]
    return limit.take(lock, places, now, others_wait=others_wait)


def _is_waited_for(connection: Connection, key: str) -> bool:
    query = select(waits.c.wait_id).where(waits.c.key == key, _IS_WAITING).limit(1)
    return connection.execute(query).first() is not None


def _put_all(
    connection: Connection, wanted: Sequence[Lock], takings: Mapping[str, Taking | None], now: float, lease: float
) -> Lock | None:
    """Acquire all locks or none. Returns the first that is not free."""
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
    """Renew these leases. Returns the locks that were still held; a rate limit always counts as held."""
    return [one for one in _ordered(kept) if one.limit.period is not None or _renewed(connection, one, now + lease)]


def _renewed(connection: Connection, lock: Lock, until: float) -> bool:
    mine = (locks.c.key == lock.key, locks.c.holder == lock.holder, locks.c.worker == lock.worker)
    return connection.execute(update(locks).where(*mine).values(until=until)).rowcount > 0


def free(connection: Connection, freed: Collection[Lock]) -> None:
    """Release these locks, whether they were held or only granted."""
    for one in _ordered(freed):
        is_free_to = or_(locks.c.worker == one.worker, locks.c.worker.is_(None))
        connection.execute(delete(locks).where(locks.c.key == one.key, locks.c.holder == one.holder, is_free_to))


def forget(connection: Connection, now: float) -> None:
    """Delete rows that expired a day ago: dead holders of unused locks, and unused rate limits."""
    rest = (locks.c.key, locks.c.holder)
    some = select(*rest).where(locks.c.until < now - _FORGOTTEN_AFTER).order_by(locks.c.until).limit(_FORGETTING)
    connection.execute(delete(locks).where(tuple_(*rest).in_(some)))


# --- granting -------------------------------------------------------------------------------------------------


def wanted(reader: Connection, now: float, key: str | None, owner: Owner | None) -> tuple[list[str], float | None]:
    """Return the free locks that messages wait for, and the seconds until a rate limit becomes free."""
    if not anything(reader):
        return [], None
    keys = _awaited(reader, key, is_mine(waits, owner, now)).subquery()  # each once, for many may wait for it
    held = select(locks.c.key).where(locks.c.key == keys.c.key, locks.c.until > now).group_by(locks.c.key)
    is_full = held.having(func.count() >= func.max(locks.c.places)).exists()
    free = reader.execute(select(keys.c.key).where(~is_full).limit(_BATCH)).scalars().all()
    coming = select(func.min(locks.c.until)).join_from(locks, keys, locks.c.key == keys.c.key)
    next_at = rows.time(reader.execute(coming.where(locks.c.holder == TIME, locks.c.until > now)).scalar())
    return list(free), None if next_at is None else next_at - now


def _awaited(reader: Connection, key: str | None, is_ours: Any) -> Any:
    """The query for the keys of locks that messages wait for, or for this key if any message waits for it."""
    waiting = select(waits.c.key).where(_IS_WAITING, is_ours)
    if key is not None:
        return waiting.where(waits.c.key == key).limit(1)
    column: Any = waits.c.key if reader.dialect.name == "sqlite" else collate(waits.c.key, "C")
    return union(*(waiting.where(column >= kind, column < kind + "\U0010ffff") for kind in KEYS))


def grant(connection: Connection, now: float, key: str, lease: float, owner: Owner | None) -> tuple[Held | None, bool]:
    """Grant the lock to the message that has waited longest. Also returns whether to try the next message at once.

    A message that lacks another lock waits for that one from then on, and keeps its place by age.
    """
    mine = is_mine(waits, owner, now)
    first = connection.execute(_first(key, mine)).first()
    if first is None:
        return None, False
    wanted = wanted_of(key, first.wait_id, first.detail)
    _only_one(connection, wanted)
    row = connection.execute(_first(key, mine).with_for_update(skip_locked=True)).first()
    if row is None or row.wait_id != first.wait_id:  # another worker was faster
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
    return rows.parked_row(row, given), any(lock.limit.burst > 1 for lock in wanted if lock.key == key)


def _first(key: str, is_ours: Any) -> Select[Any]:
    waiting = select(waits).where(waits.c.key == key, _IS_WAITING, is_ours)
    return waiting.order_by(waits.c.since, waits.c.wait_id).limit(1)
