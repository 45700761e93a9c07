"""Which workflow an idempotency key stands for. Everything here runs inside somebody's transaction.

``sending_until`` is the time whoever took the key has for sending its workflow, and nothing once that is done.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select, update

from paigeant.database.inserting import insert_into
from paigeant.records import KeyState, KeyUse
from paigeant.stores import rows
from paigeant.stores.tables import keys

PATIENCE = 5.0
"""Seconds for which others wait for whoever sends the workflow of a key."""


def take(connection: Connection, use: KeyUse, now: float) -> KeyUse:
    """Take the key, if nobody has or who had it has let its time pass; what it stands for."""
    insert = insert_into(connection.dialect.name, keys)
    mine = {"correlation_id": use.correlation_id, "key": use.key, "digest": use.digest}
    taking = insert.values(**mine, sending_until=now + PATIENCE).on_conflict_do_update(
        index_elements=[keys.c.correlation_id],
        set_={"sending_until": now + PATIENCE},
        where=(keys.c.sending_until < now) & (keys.c.digest == use.digest),
    )
    is_mine = connection.execute(taking.returning(keys.c.correlation_id)).first() is not None
    row = connection.execute(select(keys).where(keys.c.correlation_id == use.correlation_id)).one()
    others = KeyState.SENT if row.sending_until is None else KeyState.SENDING
    return replace(use, digest=rows.text(row.digest), state=KeyState.TAKEN if is_mine else others)


def mark_sent(connection: Connection, correlation_id: str) -> None:
    """The first message of the key's workflow has reached the broker."""
    connection.execute(update(keys).where(keys.c.correlation_id == correlation_id).values(sending_until=None))
