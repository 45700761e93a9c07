"""Messages that wait in the store, and what comes for them. Everything here runs inside somebody's transaction.

What comes is written down first and matched afterwards, and so is what waits: whichever is committed later finds the
other. A match takes the signal and gives its value to the message in one transaction, so each is used once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from paigeant.events import SignalReceived
from paigeant.join import KEY
from paigeant.records import Held
from paigeant.stores import joins, rows
from paigeant.stores.steering import Note
from paigeant.stores.tables import signals, waits

BATCH = 500
"""How many messages are taken at a time."""

UNSENT_AFTER = 5.0
"""Seconds after which a message that has its value and did not go on is taken over from whoever gave it."""

_PAIR = and_(signals.c.correlation_id == waits.c.correlation_id, signals.c.key == waits.c.key)
_IS_WAITING = waits.c.fired_at.is_(None)


def match(connection: Connection, now: float, correlation_id: str | None) -> list[Held]:
    """Give signals to the messages that wait for them, the earliest first."""
    columns = (waits, signals.c.id.label("signal_id"), signals.c.value.label("signal_value"))
    pairs = _pairs(columns, correlation_id).order_by(signals.c.id, waits.c.since).limit(BATCH)
    pairs = pairs.with_for_update(skip_locked=True)
    used: set[int] = set()
    served: dict[str, Held] = {}
    for row in connection.execute(pairs).all():
        if row.signal_id in used or row.wait_id in served:
            continue
        used.add(row.signal_id)
        given = {"value": row.signal_value}
        connection.execute(update(waits).where(waits.c.wait_id == row.wait_id).values(fired_at=now, value=given))
        served[row.wait_id] = rows.held(row, given)
    if used:
        connection.execute(delete(signals).where(signals.c.id.in_(used)))
    return list(served.values())


def answer(connection: Connection, note: Note, given: SignalReceived) -> bool:
    """See :meth:`paigeant.store.Store.answer`. Two who answer the same take turns at the row that waits."""
    of, key = given.correlation_id, given.key
    waiting = select(waits.c.wait_id).where(waits.c.correlation_id == of, waits.c.key == key, _IS_WAITING)
    if connection.execute(waiting.with_for_update()).first() is None:
        return False
    answered = select(signals.c.id).where(signals.c.correlation_id == of, signals.c.key == key).limit(1)
    if connection.execute(answered).first() is not None:
        return False
    note(connection, [given])
    return True


def has_match(reader: Connection, correlation_id: str | None) -> bool:
    """Whether :func:`match` would find something."""
    return reader.execute(_pairs((waits.c.wait_id,), correlation_id).limit(1)).first() is not None


def _pairs(columns: Sequence[Any], correlation_id: str | None) -> Any:
    query = select(*columns).join_from(waits, signals, _PAIR).where(_IS_WAITING)
    return query if correlation_id is None else query.where(waits.c.correlation_id == correlation_id)


def next_due(reader: Connection, now: float) -> float | None:
    """When the next message is due; now, if one is, or if one was taken and left."""
    if reader.execute(select(waits.c.wait_id).where(_left(now)).limit(1)).first() is not None:
        return now
    due_at = reader.execute(select(func.min(waits.c.due_at)).where(_IS_WAITING)).scalar()
    return rows.time(due_at)


def take_due(connection: Connection, note: Note, now: float) -> list[Held]:
    """Take what is due, and what somebody took and left."""
    due = and_(_IS_WAITING, waits.c.due_at <= now)
    chosen: list[str] = []
    for condition in (due, _left(now)):
        query = select(waits.c.wait_id).where(condition).order_by(waits.c.due_at).limit(BATCH)
        chosen += connection.execute(query.with_for_update(skip_locked=True)).scalars().all()
    taken: Sequence[Any] = ()
    if chosen:
        taking = update(waits).where(waits.c.wait_id.in_(chosen)).values(fired_at=now).returning(waits)
        taken = connection.execute(taking).all()
    return [rows.held(row, _given(connection, note, row, now)) for row in taken]


def _given(connection: Connection, note: Note, row: Any, now: float) -> Any:
    """What a message gets whose time has come: nothing, except for one that waited for branches."""
    if row.value is not None or not rows.text(row.key).startswith(KEY):
        return row.value
    given = {"value": joins.overdue(connection, note, row.correlation_id, row.key, now)}
    connection.execute(update(waits).where(waits.c.wait_id == row.wait_id).values(value=given))
    return given


def _left(now: float) -> Any:
    return waits.c.fired_at < now - UNSENT_AFTER


def held(connection: Connection, correlation_id: str | None, key: str, limit: int) -> list[Held]:
    """Waiting messages, the oldest first."""
    query = select(waits).where(_IS_WAITING).order_by(waits.c.since).limit(limit)
    if correlation_id is not None:
        query = query.where(waits.c.correlation_id == correlation_id)
    if key:
        query = query.where(waits.c.key.startswith(key, autoescape=True))
    return [rows.held(row, row.value) for row in connection.execute(query)]
