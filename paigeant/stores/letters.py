"""Dead letters as rows. A dead letter is deleted in the transaction that records what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select, update

from paigeant.events import Event
from paigeant.records.workflow import DeadLetter, Letters, Move, Status
from paigeant.stores import rows
from paigeant.stores.steering import Note, lock
from paigeant.stores.tables import dead_letters, workflows

_BY_FIELD = {
    "kind": dead_letters.c.kind,
    "queue": dead_letters.c.queue,
    "activity": dead_letters.c.activity,
    "error": dead_letters.c.error_type,
    "code": dead_letters.c.code,
}


def listed(reader: Connection, which: Letters, limit: int, below: int | None) -> list[DeadLetter]:
    """List dead letters, the latest first."""
    query = select(dead_letters).where(*_meant(which)).order_by(dead_letters.c.id.desc()).limit(limit)
    if below is not None:
        query = query.where(dead_letters.c.id < below)
    return [rows.dead_letter(row) for row in reader.execute(query)]


def one(reader: Connection, id: int) -> DeadLetter | None:  # noqa: A002 - the column's name
    """Return the dead letter with this id, or None."""
    row = reader.execute(select(dead_letters).where(dead_letters.c.id == id)).first()
    return rows.dead_letter(row) if row is not None else None


def count(reader: Connection, which: Letters) -> int:
    """Count dead letters."""
    return reader.execute(select(func.count()).select_from(dead_letters).where(*_meant(which))).scalar() or 0


def _meant(which: Letters) -> list[Any]:
    wanted = {column: getattr(which, name) for name, column in _BY_FIELD.items()}
    conditions: list[Any] = [column == str(value) for column, value in wanted.items() if value is not None]
    if which.workflow is not None:
        conditions.append(or_(*(dead_letters.c[name] == which.workflow for name in ("correlation_id", "claimed"))))
    if which.reason is not None:
        conditions.append(dead_letters.c.reason.contains(which.reason, autoescape=True))
    if which.since is not None:
        conditions.append(dead_letters.c.at >= which.since)
    if which.before is not None:
        conditions.append(dead_letters.c.at < which.before)
    return conditions


def take(connection: Connection, note: Note, id: int, move: Move | None, record: Sequence[Event], now: float) -> bool:  # noqa: A002
    """See :meth:`paigeant.store.Letters.take_dead_letter`. This locks the workflow's row first."""
    if move is not None and not _stands(connection, move):
        return False
    taken = delete(dead_letters).where(dead_letters.c.id == id).returning(dead_letters.c.id)
    if connection.execute(taken).first() is None:
        return False
    if move is not None and move.after is not None and move.after is not move.before:
        connection.execute(_reopened(move, move.after, now))
    note(connection, record)
    return True


def _stands(connection: Connection, move: Move) -> bool:
    row = lock(connection, [move.correlation_id]).get(move.correlation_id)
    return (rows.status_of(row.status) if row is not None else None) is move.before


def _reopened(move: Move, after: Status, now: float) -> Any:
    """Mark the workflow as open again. If it resumes forward, its error and its output are removed."""
    changes: dict[str, Any] = {"status": after.value, "updated_at": now, "finished_at": None, "cancel": None}
    if after is not Status.COMPENSATING:
        changes |= {"error": None, "output": None}
    return update(workflows).where(workflows.c.correlation_id == move.correlation_id).values(changes)


def edit(connection: Connection, note: Note, id: int, before: bytes, after: bytes, record: Sequence[Event]) -> bool:  # noqa: A002
    """See :meth:`paigeant.store.Letters.edit_dead_letter`."""
    same = (dead_letters.c.id == id, dead_letters.c.body == before)
    changed = update(dead_letters).where(*same).values(body=after).returning(dead_letters.c.id)
    if connection.execute(changed).first() is None:
        return False
    note(connection, record)
    return True
