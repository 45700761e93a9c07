"""Which workflows may read each other's outputs and large values, by what the store has recorded about them.

A workflow reads what belongs to itself, to the workflows that dispatched it, and to those of which it is a fork. It
also reads what its own branches and children left, and those of the workflows of which it is a fork: their steps are
in its log, to be compensated. A workflow that only a message has introduced has no relatives.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from paigeant.database.among import one_of
from paigeant.stores import rows
from paigeant.stores.tables import workflows

_MOST = 10_000
"""Number of generations after which a search ends. Recorded workflows cannot form a circle, but rows can."""


def readable(reader: Connection, correlation_id: str, owners: Collection[str]) -> set[str]:
    """Return those of the owners whose outputs and values this workflow may read."""
    origins = _upwards(reader, {correlation_id}, ("forked_from",))
    allowed = _upwards(reader, origins, ("parent", "forked_from"))
    return {one for one in owners if one in allowed or not origins.isdisjoint(_upwards(reader, {one}, ("parent",)))}


def _upwards(reader: Connection, ids: Collection[str], edges: Collection[str]) -> set[str]:
    """Return these workflows, and all that are reached from them over these columns."""
    found, newest = {*ids}, {*ids}
    for _ in range(_MOST):
        if not newest:
            break
        columns = [workflows.c[name] for name in edges]
        query = select(*columns).where(one_of(workflows.c.correlation_id, newest))
        above = {rows.text(value) for row in reader.execute(query) for value in row} - {""}
        newest = above - found
        found |= newest
    return found
