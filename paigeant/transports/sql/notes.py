"""Notes in a table: facts with a time to live that every process of the database can read."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from paigeant.database.inserting import insert_into
from paigeant.transports.sql.statements import notes

_MOST_FORGOTTEN = 1000
"""Expired notes that one new note deletes."""


def note(writer: Connection, key: str, seconds: float, now: float) -> None:
    """Store the fact for so many seconds from now, and delete some expired ones."""
    old = select(notes.c.id).where(notes.c.expires_at <= now).limit(_MOST_FORGOTTEN)
    writer.execute(delete(notes).where(notes.c.id.in_(old.with_for_update(skip_locked=True))))
    upsert = insert_into(writer.dialect.name, notes).values(id=key, expires_at=now + seconds)
    writer.execute(
        upsert.on_conflict_do_update(index_elements=[notes.c.id], set_={"expires_at": upsert.excluded.expires_at})
    )


def noted(reader: Connection, key: str, now: float) -> bool:
    """Return whether the fact is stored and has not expired."""
    return reader.execute(select(notes.c.id).where(notes.c.id == key, notes.c.expires_at > now)).first() is not None
