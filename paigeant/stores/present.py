"""Workers and the messages they hold, as rows. Every function runs in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, exists, or_, select

from paigeant.database.inserting import insert_into, insert_new
from paigeant.database.prepared import execute
from paigeant.records.workflow import WORKER_ANNOUNCES_EVERY, WorkerRecord
from paigeant.stores import rows
from paigeant.stores.tables import events, holding, workers

SILENCE = 4 * WORKER_ANNOUNCES_EVERY
"""Seconds after its last announcement from which a worker counts as gone."""

_SAYS = workers.c.says_what_it_holds
"""0 for a worker of an older release, which does not name the messages it holds."""

_FORGOTTEN_AFTER = 24 * 3600

_EXPIRING = 5000
"""How many expired events are deleted at once, so that no other write waits long."""


def announce(connection: Connection, now: float, worker: WorkerRecord) -> None:
    """Record that the worker is alive. Delete workers that were silent for a day, and expired events."""
    row = {column.name: getattr(worker, column.name) for column in workers.columns if column is not _SAYS}
    row |= {"seen_at": now, "offers": [asdict(offer) for offer in worker.offers], _SAYS.name: 1}
    insert = insert_into(connection.dialect.name, workers).values(row)
    forgotten = select(workers.c.id).where(workers.c.seen_at < now - _FORGOTTEN_AFTER)
    connection.execute(delete(holding).where(holding.c.worker.in_(forgotten)))
    connection.execute(delete(workers).where(workers.c.seen_at < now - _FORGOTTEN_AFTER))
    connection.execute(insert.on_conflict_do_update(index_elements=[workers.c.id], set_=row))
    expired = select(events.c.id).where(events.c.expires_at < now).order_by(events.c.expires_at).limit(_EXPIRING)
    connection.execute(delete(events).where(events.c.id.in_(expired)))


def withdraw(connection: Connection, worker_id: str) -> None:
    """Delete a worker that has stopped, and what it holds."""
    connection.execute(delete(holding).where(holding.c.worker == worker_id))
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def is_alive(now: float, worker: Any) -> Any:
    """The condition that the worker with this id is alive."""
    return exists().where(workers.c.id == worker, workers.c.seen_at >= now - SILENCE)


def holds(connection: Connection, worker_id: str, message_ids: Collection[str]) -> None:
    """Record that a worker holds exactly these messages. What another worker holds stays unchanged."""
    mine = delete(holding).where(holding.c.worker == worker_id)
    connection.execute(mine.where(holding.c.message_id.not_in(message_ids)) if message_ids else mine)
    _hold(connection, dict.fromkeys(message_ids, worker_id))


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker is about to run a message. ``take_over``: the broker has taken it from its earlier holder."""

    worker: str
    message_id: str
    take_over: bool


def claim(connection: Connection, claims: Sequence[Claim], now: float) -> Sequence[bool]:
    """Claim each message that no other living worker holds. Returns, for each claim, whether it succeeded."""
    ids = sorted({one.message_id for one in claims})
    taken_over = sorted({one.message_id for one in claims if one.take_over})
    gone = or_(holding.c.message_id.in_(taken_over), ~is_alive(now, holding.c.worker))
    connection.execute(delete(holding).where(holding.c.message_id.in_(ids), gone))
    _hold(connection, {one.message_id: one.worker for one in reversed(claims)})
    found = connection.execute(select(holding).where(holding.c.message_id.in_(ids)))
    holders = {row.message_id: row.worker for row in found}
    return [holders.get(one.message_id) == one.worker for one in claims]


def _hold(connection: Connection, holders: Mapping[str, str]) -> None:
    """Insert in one order, so that two transactions at the same time do not wait for each other in a circle."""
    rows = [{"message_id": message_id, "worker": holders[message_id]} for message_id in sorted(holders)]
    if rows:
        execute(connection, insert_new(connection.dialect.name, holding), rows)


def listed(connection: Connection, now: float) -> Sequence[WorkerRecord]:
    """List the workers seen in the last day, the latest first."""
    found = connection.execute(select(workers).order_by(workers.c.started_at.desc())).all()
    return [rows.worker(row, now - SILENCE) for row in found]
