"""Messages that are recorded before they are published. Every function runs in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, or_, select, update

from paigeant.database.inserting import insert_new
from paigeant.database.prepared import execute
from paigeant.records.workflow import RESENT, SAID_WITHIN, Owner
from paigeant.stores import present, rows
from paigeant.stores.history import STARTED
from paigeant.stores.owners import columns, is_mine
from paigeant.stores.tables import holding, outbox, steps, workers
from paigeant.transport import HANDED_ON, Outgoing


def post(
    connection: Connection, now: float, outgoing: Sequence[tuple[Outgoing, str | None]], owner: Owner | None
) -> None:
    """Insert messages, each with the id of the message that caused it."""
    posted = [
        {
            "message_id": one.id,
            "cause_id": cause,
            "queue": one.queue,
            "body": one.body,
            "headers": dict(one.headers),
            "priority": one.priority,
            "due_at": now + one.delay,
            **columns(owner),
        }
        for one, cause in outgoing
    ]
    if posted:
        execute(connection, insert_new(connection.dialect.name, outbox), posted)


def overdue(
    connection: Connection, now: float, grace: float, names: Collection[str] | None, owner: Owner | None
) -> Mapping[str, int]:
    """Count, for each queue, the overdue messages that no living worker holds.

    Each count has a limit, so that a long queue stays cheap.
    """
    if names is None:
        names = connection.execute(select(outbox.c.queue).distinct().order_by(outbox.c.queue)).scalars().all()
    counts = {}
    for name in names:
        some = select(outbox.c.message_id).where(_is_overdue(now, name, grace, owner)).limit(MOST_COUNTED)
        counts[name] = connection.execute(select(func.count()).select_from(some.subquery())).scalar() or 0
    return {name: count for name, count in counts.items() if count}


def take_overdue(
    connection: Connection, now: float, name: str, grace: float, limit: int, owner: Owner | None
) -> Sequence[Outgoing]:
    """Return some overdue messages, the oldest first. Each becomes overdue again later than the time before.

    Their headers say that they are sent again, and how often they are known to have been delivered.
    """
    known = select(steps.c.deliveries).where(steps.c.message_id == outbox.c.message_id).scalar_subquery()
    query = select(outbox, known.label("deliveries")).where(_is_overdue(now, name, grace, owner))
    query = query.order_by(outbox.c.due_at).limit(limit).with_for_update(skip_locked=True, of=outbox)
    found = connection.execute(query).all()
    if found:
        connection.execute(_RESENT, [{"id": row.message_id, "at": now + grace * _pause(row)} for row in found])
    return [_again(row, now) for row in found]


MOST_COUNTED = 10_000
_MOST_DOUBLED = 5

_RESENT = (
    update(outbox)
    .where(outbox.c.message_id == bindparam("id"))
    .values(resend_at=bindparam("at"), resent=outbox.c.resent + 1)
)


def _pause(row: Any) -> int:
    return int(2 ** min(max(rows.whole(row.resent), 0) + 1, _MOST_DOUBLED))


def _again(row: Any, now: float) -> Outgoing:
    known = max(rows.whole(row.deliveries), rows.whole(row.resent))
    one = rows.outgoing(row, now)
    kept = {name: value for name, value in one.headers.items() if name != HANDED_ON}
    return replace(one, headers={**kept, RESENT: str(known)})


def _is_overdue(now: float, name: str, grace: float, owner: Owner | None) -> Any:
    is_again = or_(outbox.c.resend_at.is_(None), outbox.c.resend_at < now)
    return and_(outbox.c.queue == name, outbox.c.due_at < now - grace, is_again, _is_left(now, owner))


def _is_left(now: float, owner: Owner | None) -> Any:
    """The condition that no living worker holds the message, and that this App may publish it."""
    is_held = exists().where(holding.c.message_id == outbox.c.message_id, present.is_alive(now, holding.c.worker))
    may_be_held = or_(workers.c.says_what_it_holds == 0, steps.c.started_at >= now - SAID_WITHIN)
    is_run = (
        exists()
        .where(steps.c.message_id == outbox.c.message_id, steps.c.status == STARTED)
        .where(workers.c.id == steps.c.worker, workers.c.seen_at >= now - present.SILENCE, may_be_held)
    )
    return and_(is_mine(outbox, owner, now), ~is_held, ~is_run)


def purge(connection: Connection, now: float, name: str, owner: Owner | None) -> int:
    """Delete the messages of a queue that no worker holds. Returns how many were deleted."""
    return connection.execute(delete(outbox).where(outbox.c.queue == name, _is_left(now, owner))).rowcount


def unpost(connection: Connection, message_id: str, body: bytes) -> None:
    """Delete a message that became a dead letter, unless the bytes are others."""
    connection.execute(delete(outbox).where(outbox.c.message_id == message_id, outbox.c.body == body))


def postpone(connection: Connection, now: float, one: Outgoing) -> None:
    """Set the due time of the message to its delay from now, and replace its headers."""
    changed = update(outbox).where(outbox.c.message_id == one.id)
    connection.execute(changed.values(due_at=now + one.delay, headers=dict(one.headers)))
