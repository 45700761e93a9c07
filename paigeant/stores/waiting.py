"""Messages that wait in the store, and what comes for them. Everything here runs inside somebody's transaction.

What comes is written down first and matched afterwards, and so is what waits: whichever is committed later finds the
other. A match takes the signal and gives its value to the message in one transaction, so each is used once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from paigeant.store import Held
from paigeant.stores.tables import signals, waits

BATCH = 500
"""How many messages are taken at a time."""

UNSENT_AFTER = 5.0
"""Seconds after which a message that has its value and did not go on is taken over from whoever gave it."""

_PAIR = and_(signals.c.correlation_id == waits.c.correlation_id, signals.c.key == waits.c.key)
_IS_WAITING = waits.c.fired_at.is_(None)


def match(connection: Connection, now: float, correlation_id: str | None) -> list[Held]:
    """Give signals to the messages that wait for them, the earliest first."""
    pairs = (
        select(waits, signals.c.id.label("signal_id"), signals.c.value.label("signal_value"))
        .join(signals, _PAIR)
        .where(_IS_WAITING)
        .order_by(signals.c.id, waits.c.since)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    if correlation_id is not None:
        pairs = pairs.where(waits.c.correlation_id == correlation_id)
    used: set[int] = set()
    served: dict[str, Held] = {}
    for row in connection.execute(pairs).all():
        if row.signal_id in used or row.wait_id in served:
            continue
        used.add(row.signal_id)
        given = {"value": row.signal_value}
        connection.execute(update(waits).where(waits.c.wait_id == row.wait_id).values(fired_at=now, value=given))
        served[row.wait_id] = _held(row, given)
    if used:
        connection.execute(delete(signals).where(signals.c.id.in_(used)))
    return list(served.values())


def next_due(reader: Connection, now: float) -> float | None:
    """When the next message is due; now, if one is, or if one was taken and left."""
    if reader.execute(select(waits.c.wait_id).where(_left(now)).limit(1)).first() is not None:
        return now
    due_at: float | None = reader.execute(select(func.min(waits.c.due_at)).where(_IS_WAITING)).scalar()
    return due_at


def take_due(connection: Connection, now: float) -> list[Held]:
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
    return [_held(row, row.value) for row in taken]


def _left(now: float) -> Any:
    return waits.c.fired_at < now - UNSENT_AFTER


def held(connection: Connection, correlation_id: str | None, key: str, limit: int) -> list[Held]:
    """Waiting messages, the oldest first."""
    query = select(waits).where(_IS_WAITING).order_by(waits.c.since).limit(limit)
    if correlation_id is not None:
        query = query.where(waits.c.correlation_id == correlation_id)
    if key:
        query = query.where(waits.c.key.startswith(key, autoescape=True))
    return [_held(row, row.value) for row in connection.execute(query)]


def _held(row: Any, value: Any) -> Held:
    return Held(
        wait_id=row.wait_id,
        correlation_id=row.correlation_id,
        step_id=row.step_id,
        activity=row.activity,
        key=row.key,
        due_at=row.due_at,
        detail=row.detail,
        queue=row.queue,
        body=row.body,
        priority=row.priority,
        since=row.since,
        value=value,
    )
