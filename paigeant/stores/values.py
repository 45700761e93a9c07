"""Large values as rows. Every function uses a connection of its caller."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, select

from paigeant.database.among import one_of
from paigeant.database.inserting import insert_new
from paigeant.stores import rows
from paigeant.stores.tables import values
from paigeant.wire.claim_check import Kept, Parcel


def keep(connection: Connection, now: float, parcels: Sequence[Parcel]) -> None:
    """Insert these values. A value that exists stays unchanged."""
    insert = insert_new(connection.dialect.name, values)
    for parcel in parcels:  # one at a time: they are large
        about = {"correlation_id": parcel.kept.of, "digest": parcel.kept.digest}
        connection.execute(insert, about | {"data": parcel.data, "at": now})


def fetch(reader: Connection, kept: Collection[Kept]) -> dict[Kept, bytes]:
    """Return those of these values that exist."""
    found: dict[Kept, bytes] = {}
    for one in kept:
        query = select(values.c.data).where(values.c.correlation_id == one.of, values.c.digest == one.digest)
        if (row := reader.execute(query).first()) is not None:
            found[one] = rows.octets(row.data)
    return found


def drop(connection: Connection, workflows: Collection[str]) -> int:
    """Delete the values of these workflows. Returns how many were deleted."""
    return connection.execute(delete(values).where(one_of(values.c.correlation_id, workflows))).rowcount
