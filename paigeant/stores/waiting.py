"""Messages that wait in the store, and the signals for them. Every function runs in a transaction of its caller.

A signal is recorded first and matched afterwards, and so is a waiting message: the one that is committed later finds
the other. A match deletes the signal and writes its value to the message in one transaction, so each is used once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from paigeant.database.among import among
from paigeant.database.prepared import execute
from paigeant.events import SignalReceived
from paigeant.records.workflow import Held, Owner
from paigeant.stores import joins, rows
from paigeant.stores.owners import is_mine
from paigeant.stores.steering import Note
from paigeant.stores.tables import signals, waits
from paigeant.wire.join import KEY

BATCH = 500
"""How many messages are taken at a time."""

UNSENT_AFTER = 5.0
"""Seconds after which another worker may take a message that has its value and did not resume."""

# Concatenated, so that no database looks for the signal of each message that waits: signals are few.
_PAIR = and_(waits.c.correlation_id == signals.c.correlation_id + "", waits.c.key == signals.c.key + "")
_IS_WAITING = waits.c.fired_at.is_(None)


def match(connection: Connection, now: float, correlation_id: str | None, owner: Owner | None) -> list[Held]:
    """Match signals with the messages that wait for them, the earliest first."""
    columns = (
        waits,
        signals.c.id.label("signal_id"),
        signals.c.value.label("signal_value"),
        signals.c.proof.label("signal_proof"),
    )
    pairs = (
        _pairs(columns, correlation_id, is_mine(waits, owner, now)).order_by(signals.c.id, waits.c.since).limit(BATCH)
    )
    pairs = pairs.with_for_update(skip_locked=True)
    used: set[int] = set()
    served: dict[str, Held] = {}
    for row in connection.execute(pairs).all():
        if row.signal_id in used or row.wait_id in served:
            continue
        used.add(row.signal_id)
        given = {"value": row.signal_value}
        fired = update(waits).where(waits.c.wait_id == row.wait_id)
        connection.execute(fired.values(fired_at=now, value=given, proof=row.signal_proof))
        served[row.wait_id] = rows.parked_row(row, given, row.signal_proof)
    if used:
        connection.execute(delete(signals).where(signals.c.id.in_(used)))
    return list(served.values())


def answer(connection: Connection, note: Note, given: SignalReceived) -> bool:
    """See :meth:`paigeant.store.Waits.answer`. Two callers that answer the same message take turns at its row."""
    of, key = given.correlation_id, given.key
    waiting = select(waits.c.wait_id).where(waits.c.correlation_id == of, waits.c.key == key, _IS_WAITING)
    if connection.execute(waiting.with_for_update()).first() is None:
        return False
    answered = select(signals.c.id).where(signals.c.correlation_id == of, signals.c.key == key).limit(1)
    if connection.execute(answered).first() is not None:
        return False
    note(connection, [given])
    return True


def anything(reader: Connection) -> bool:
    """Return whether any message waits. Idle workers ask this every second, and it saves them the longer query."""
    return reader.execute(_ANYTHING).first() is not None


_ANYTHING = select(waits.c.wait_id).order_by(waits.c.wait_id).limit(1)


def has_match(reader: Connection, now: float, correlation_id: str | None, owner: Owner | None) -> bool:
    """Return whether :func:`match` would find a pair."""
    if not anything(reader):
        return False
    pairs = _pairs((waits.c.wait_id,), correlation_id, is_mine(waits, owner, now))
    return reader.execute(pairs.limit(1)).first() is not None


def have_come(reader: Connection, correlation_ids: Sequence[str]) -> list[bool]:
    """Return, for each of these workflows, whether a signal has arrived."""
    come = set(execute(reader, _COME, {"ids": list(correlation_ids)}).scalars())
    return [one in come for one in correlation_ids]


_COME = select(signals.c.correlation_id).where(among(signals.c.correlation_id, "ids"))


def _pairs(columns: Sequence[Any], correlation_id: str | None, is_ours: Any) -> Any:
    query = select(*columns).join_from(waits, signals, _PAIR).where(_IS_WAITING, is_ours)
    if correlation_id is None:
        return query
    return query.where(waits.c.correlation_id == correlation_id, signals.c.correlation_id == correlation_id)


def next_due(reader: Connection, now: float, owner: Owner | None) -> float | None:
    """Return when the next message is due. Returns ``now`` if one is due, or if its taker has died."""
    if not anything(reader):
        return None
    ours = is_mine(waits, owner, now)
    if reader.execute(select(waits.c.wait_id).where(_left(now), ours).limit(1)).first() is not None:
        return now
    due_at = reader.execute(select(func.min(waits.c.due_at)).where(_IS_WAITING, ours)).scalar()
    return rows.time(due_at)


def take_due(connection: Connection, note: Note, now: float, owner: Owner | None) -> list[Held]:
    """Take the due messages, and those whose taker has died."""
    ours, due = is_mine(waits, owner, now), and_(_IS_WAITING, waits.c.due_at <= now)
    chosen: dict[str, bool] = {}
    for condition, is_left in ((due, False), (_left(now), True)):
        query = select(waits.c.wait_id).where(condition, ours).order_by(waits.c.due_at).limit(BATCH)
        found = connection.execute(query.with_for_update(skip_locked=True)).scalars().all()
        chosen |= dict.fromkeys(found, is_left)
    taken: Sequence[Any] = ()
    if chosen:
        taking = update(waits).where(waits.c.wait_id.in_(chosen)).values(fired_at=now).returning(waits)
        taken = connection.execute(taking).all()
    return [
        replace(rows.parked_row(row, _given(connection, note, row, now)), left=chosen[row.wait_id]) for row in taken
    ]


def _given(connection: Connection, note: Note, row: Any, now: float) -> Any:
    """Return what a due message receives: nothing, except for a message that waited for branches."""
    if row.value is not None or not rows.text(row.key).startswith(KEY):
        return row.value
    given = {"value": joins.overdue(connection, note, row.correlation_id, row.key, now)}
    connection.execute(update(waits).where(waits.c.wait_id == row.wait_id).values(value=given))
    return given


def _left(now: float) -> Any:
    return waits.c.fired_at < now - UNSENT_AFTER


def parked(connection: Connection, correlation_id: str | None, key: str, limit: int) -> list[Held]:
    """List waiting messages, the oldest first."""
    query = select(waits).where(_IS_WAITING).order_by(waits.c.since).limit(limit)
    if correlation_id is not None:
        query = query.where(waits.c.correlation_id == correlation_id)
    if key:
        query = query.where(waits.c.key.startswith(key, autoescape=True))
    return [rows.parked_row(row, row.value) for row in connection.execute(query)]
