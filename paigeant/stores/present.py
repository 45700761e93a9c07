"""Workers as rows: who is there. Everything here runs inside somebody's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, delete, select

from paigeant.database.inserting import insert_into
from paigeant.records import WORKER_ANNOUNCES_EVERY, WorkerRecord
from paigeant.stores import rows
from paigeant.stores.tables import events, workers

SILENCE = 4 * WORKER_ANNOUNCES_EVERY
"""Seconds after its last announcement from which a worker counts as gone."""

_FORGOTTEN_AFTER = 24 * 3600

_EXPIRING = 5000
"""How many events are forgotten at once, so that nobody waits long for it."""


def announce(connection: Connection, now: float, worker: WorkerRecord) -> None:
    """It is alive; those that have not been for a day are forgotten, and so are events that have expired."""
    row = {column.name: getattr(worker, column.name) for column in workers.columns}
    row |= {"seen_at": now, "offers": [asdict(offer) for offer in worker.offers]}
    insert = insert_into(connection.dialect.name, workers).values(row)
    connection.execute(delete(workers).where(workers.c.seen_at < now - _FORGOTTEN_AFTER))
    connection.execute(insert.on_conflict_do_update(index_elements=[workers.c.id], set_=row))
    expired = select(events.c.id).where(events.c.expires_at < now).order_by(events.c.expires_at).limit(_EXPIRING)
    connection.execute(delete(events).where(events.c.id.in_(expired)))


def withdraw(connection: Connection, worker_id: str) -> None:
    """It has stopped."""
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def listed(connection: Connection, now: float) -> Sequence[WorkerRecord]:
    """Those that were there in the last day, the latest first."""
    found = connection.execute(select(workers).order_by(workers.c.started_at.desc())).all()
    return [rows.worker(row, now - SILENCE) for row in found]
