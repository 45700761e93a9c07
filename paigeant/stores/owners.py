"""Owners of waiting messages: which Apps may publish them. Every function runs in a transaction of its caller.

Apps may share a store and not a broker. A row names the broker of the App that wrote it, and only Apps on that broker
publish its message. A broker that moved has another address, so an App with the same prefix takes over the rows of one
that no worker has announced for ``MOVED_AFTER`` seconds. Earlier releases name no broker in their rows.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, exists, func, or_, select, true

from paigeant.database.inserting import insert_into
from paigeant.records.workflow import Owner
from paigeant.stores import rows
from paigeant.stores.tables import brokers

MOVED_AFTER = 600.0
"""Seconds without a worker on a broker, after which an App of the same prefix may publish its messages."""


def is_mine(table: Any, owner: Owner | None, now: float) -> Any:
    """The condition that this App may publish the row's message. Without an owner, it always may."""
    if owner is None:
        return true()
    seen = brokers.c.seen_at >= now - MOVED_AFTER
    is_left = and_(
        table.c.prefix == owner.prefix,
        ~exists().where(brokers.c.broker == table.c.broker, seen),
        exists().where(brokers.c.broker == owner.broker, brokers.c.prefix == owner.prefix, seen),
        (table.c.since if "since" in table.c else table.c.due_at) < now - MOVED_AFTER,
    )
    return or_(table.c.broker == owner.broker, is_left, and_(table.c.broker.is_(None), _serves(table, owner)))


def _serves(table: Any, owner: Owner) -> Any:
    """The condition that the queue begins with the App's prefix, or with the prefix of no known App."""
    begins = func.substr(table.c.queue, 1, func.length(brokers.c.prefix) + 1) == brokers.c.prefix + "."
    ours = func.substr(table.c.queue, 1, len(owner.prefix) + 1) == f"{owner.prefix}."
    return or_(ours, ~exists().where(begins))


def columns(owner: Owner | None) -> dict[str, str | None]:
    """The columns that name the owner of a row."""
    return {"prefix": owner.prefix if owner else None, "broker": owner.broker if owner else None}


def announce(connection: Connection, now: float, owner: Owner) -> None:
    """Record that a worker of this App uses this broker."""
    row = {**columns(owner), "address": owner.address, "seen_at": now}
    insert = insert_into(connection.dialect.name, brokers).values(row)
    connection.execute(insert.on_conflict_do_update(index_elements=[brokers.c.broker, brokers.c.prefix], set_=row))


def listed(connection: Connection) -> list[Owner]:
    """List the brokers that workers have announced, the latest first."""
    found = connection.execute(select(brokers).order_by(brokers.c.seen_at.desc()))
    return [Owner(rows.text(row.prefix), rows.text(row.broker), rows.text(row.address)) for row in found]
