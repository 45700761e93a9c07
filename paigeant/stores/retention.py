"""Workflows that have ended, and their rows. Every function uses a connection of its caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, or_, select, tuple_

from paigeant.database.among import one_of
from paigeant.records.workflow import Family
from paigeant.stores.steering import lock
from paigeant.stores.tables import (
    branches,
    dead_letters,
    events,
    joins,
    journals,
    keys,
    signals,
    statements,
    steps,
    units,
    values,
    waits,
    workflows,
)

_EVERYTHING = (events, steps, signals, joins, branches, values, keys, journals, units, statements, workflows)


def ended(
    reader: Connection, before: float, statuses: Collection[str], after: Family | None, limit: int
) -> list[Family]:
    """See :meth:`paigeant.store.Retention.ended`."""
    when, ids = workflows.c.finished_at, workflows.c.correlation_id
    query = select(ids, when).where(when < before, workflows.c.parent.is_(None), workflows.c.forked_from.is_(None))
    if statuses:
        query = query.where(workflows.c.status.in_(statuses))
    if after is not None:
        query = query.where(tuple_(when, ids) > tuple_(after.ended_at, after.root))
    roots = {row.correlation_id: row.finished_at for row in reader.execute(query.order_by(when, ids).limit(limit))}
    families = _families(reader, roots, before)
    return [Family(root=root, ended_at=at, members=families.get(root, ())) for root, at in roots.items()]


def _families(reader: Connection, roots: Collection[str], before: float) -> dict[str, tuple[str, ...]]:
    """Return the families of these roots that have no workflow which must stay."""
    root_of = {root: root for root in roots}
    stay, newest = set[str](), [*roots]
    while newest:
        found = [row for row in reader.execute(_begun_by(newest)) if row.correlation_id not in root_of]
        for row in found:
            root_of[row.correlation_id] = root = root_of.get(row.parent) or root_of[row.forked_from]
            if row.finished_at is None or row.finished_at >= before:
                stay.add(root)
        newest = [row.correlation_id for row in found]
    for table in (dead_letters, waits):
        needed = select(table.c.correlation_id).where(one_of(table.c.correlation_id, root_of))
        stay |= {root_of[one] for one in reader.execute(needed).scalars()}
    members = defaultdict[str, list[str]](list)
    for one, root in root_of.items():
        members[root].append(one)
    return {root: tuple(ids) for root, ids in members.items() if root not in stay}


def _begun_by(ids: Collection[str]) -> Any:
    columns = (workflows.c.correlation_id, workflows.c.parent, workflows.c.forked_from, workflows.c.finished_at)
    return select(*columns).where(or_(one_of(workflows.c.parent, ids), one_of(workflows.c.forked_from, ids)))


def forget(connection: Connection, families: Sequence[Family], before: float) -> int:
    """See :meth:`paigeant.store.Retention.forget`."""
    lock(connection, [one for family in families for one in family.members])
    roots = one_of(workflows.c.correlation_id, [one.root for one in families])
    over = select(workflows.c.correlation_id).where(roots, workflows.c.finished_at < before)
    found = _families(connection, connection.execute(over).scalars().all(), before)
    gone = [one for members in found.values() for one in members]
    for table in _EVERYTHING:
        connection.execute(delete(table).where(one_of(table.c.correlation_id, gone)))
    return len(gone)
