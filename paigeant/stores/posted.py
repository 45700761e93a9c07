"""The outbox: messages recorded before a broker has them. Everything here runs inside somebody's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, exists, select, update

from paigeant.database.inserting import insert_new
from paigeant.database.prepared import execute
from paigeant.stores import rows
from paigeant.stores.history import STARTED
from paigeant.stores.present import SILENCE
from paigeant.stores.tables import outbox, steps, workers
from paigeant.transport import Outgoing


def post(connection: Connection, now: float, outgoing: Sequence[tuple[Outgoing, str | None]]) -> None:
    """Write down messages, each with the id of the message whose end it follows."""
    posted = [
        {
            "message_id": one.id,
            "cause_id": cause,
            "queue": one.queue,
            "body": one.body,
            "headers": dict(one.headers),
            "priority": one.priority,
            "due_at": now + one.delay,
        }
        for one, cause in outgoing
    ]
    if posted:
        execute(connection, insert_new(connection.dialect.name, outbox), posted)


def queues(connection: Connection) -> Sequence[str]:
    """For which queues there are messages."""
    return connection.execute(select(outbox.c.queue).distinct().order_by(outbox.c.queue)).scalars().all()


def take_overdue(connection: Connection, now: float, names: Sequence[str], grace: float) -> Sequence[Outgoing]:
    """Messages that should have been done with by now, and that no living worker runs; they are due again from now."""
    is_run = (
        exists()
        .where(steps.c.message_id == outbox.c.message_id, steps.c.status == STARTED)
        .where(workers.c.id == steps.c.worker, workers.c.seen_at >= now - SILENCE)
    )
    overdue = update(outbox).where(outbox.c.queue.in_(names), outbox.c.due_at < now - grace, ~is_run)
    taken = connection.execute(overdue.values(due_at=now).returning(outbox)).all()
    return [rows.outgoing(row, now) for row in taken]
