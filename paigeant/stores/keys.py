"""Which workflow an idempotency key stands for. Every function runs in a transaction of its caller.

The caller that took a key has until ``sending_until`` to send its workflow. The column is empty once that is done.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select, update

from paigeant.database.inserting import insert_into
from paigeant.records.workflow import KeyState, KeyUse
from paigeant.stores import rows
from paigeant.stores.tables import keys

PATIENCE = 5.0
"""Seconds that the caller that took a key has for sending its workflow."""


def take(connection: Connection, use: KeyUse, now: float) -> KeyUse:
    """Take the key if it is free, or if the time of its taker is over. Returns what it stands for."""
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
    """Note that the first message of the key's workflow has reached the broker."""
    connection.execute(update(keys).where(keys.c.correlation_id == correlation_id).values(sending_until=None))
