"""The statements that find and claim the ready messages at the heads of queues.

A statement walks along each queue's index, as far as messages are wanted: a single ``queue IN (...)`` would sort the
whole backlog each time. On PostgreSQL the queues are a parameter, so that one statement serves all, and the walk can
begin where the ready messages begin (see :mod:`paigeant.transports.sql.floors`). SQLite has no ``LATERAL``, and deletes
what is gone from its index at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Text,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    select,
    true,
    type_coerce,
    union_all,
    update,
)

from paigeant.database.among import many
from paigeant.transports.sql import statements as sql

messages = sql.messages

MOST_QUEUES = 100
"""How many queues one statement of SQLite claims from; SQLite joins at most 500 selects."""


def _one_more(column: Column[int], end: int) -> Any:
    """Counts; from what somebody else wrote it starts again, for an overflow would be an error of every claim."""
    return case((column < end - 1, column + 1), else_=1)


def _claimed(ready: Any) -> Any:
    """Take these messages and return them as delivered."""
    return (
        update(messages)
        .where(messages.c.id.in_(ready))
        .values(
            owner=bindparam("me"),
            token=_one_more(messages.c.token, 2**63),
            deliveries=_one_more(messages.c.deliveries, 2**31),
        )
        .returning(*sql.DELIVERED)
    )


def _most_urgent(heads: Any, limit: Any) -> Any:
    return select(heads.c.id).order_by(heads.c.priority.desc(), heads.c.id).limit(limit)


def _first_due_of(queue: Any) -> Any:
    """When the first delayed message of a queue is due."""
    found = select(messages.c.available_at).where(messages.c.queue == queue, sql.delayed)
    return found.order_by(messages.c.available_at).limit(1)


# --- SQLite ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def claim_in(names: tuple[str, ...]) -> Any:
    """Take the oldest ready messages of these queues, the most urgent first."""
    return _claimed(_ready_in(names, bindparam("wanted")))


@lru_cache(maxsize=64)
def look_in(names: tuple[str, ...]) -> Any:
    """When the next delayed message of these queues is due, and whether any waits in them."""
    dues = union_all(*(select(_first_due_of(name).scalar_subquery().label("due")) for name in names)).subquery()
    return select(select(func.min(dues.c.due)).scalar_subquery(), _ready_in(names, literal(1)).exists())


def _ready_in(names: Sequence[str], limit: Any) -> Any:
    head = select(messages.c.id, messages.c.priority).where(sql.ready)
    head = head.order_by(messages.c.priority.desc(), messages.c.id).limit(limit)
    heads = [head.where(messages.c.queue == name).subquery() for name in names]
    return _most_urgent(union_all(*(select(one.c.id, one.c.priority) for one in heads)).subquery(), limit)


def _among(dialect: str) -> Any:
    """The queues in the parameter ``names`` as rows."""
    names: Any = many("names", Text())
    found: Any = func.json_each(names) if dialect == "sqlite" else func.unnest(names)
    if dialect == "sqlite":
        return found.table_valued(Column("value", Text), name="one")
    return found.table_valued(Column("value", Text), name="one").render_derived()


@lru_cache(maxsize=2)
def dues(dialect: str) -> Any:
    """Each of the queues in ``names``, and when its first delayed message is due; none of those without any."""
    one = _among(dialect)
    due: Any = type_coerce(_first_due_of(one.c.value).scalar_subquery(), messages.c.available_at.type)
    found = select(one.c.value.label("name"), due.label("due")).subquery()
    return select(found.c.name, found.c.due).where(found.c.due.is_not(None))


@lru_cache(maxsize=2)
def waiting(dialect: str) -> Any:
    """The queues in ``names`` in which a message is ready, in the order of their most urgent messages."""
    one = _among(dialect)
    first = select(messages.c.id).where(sql.ready, messages.c.queue == one.c.value)
    first = first.order_by(messages.c.priority.desc(), messages.c.id).limit(1)
    found = select(one.c.value.label("name"), first.scalar_subquery().label("id")).subquery()
    ready = select(found.c.name).join(messages, messages.c.id == found.c.id)
    return ready.order_by(messages.c.priority.desc(), messages.c.id)


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def _rows(name: str, **columns: Any) -> Any:
    """Parameters that are arrays of one length, as the columns of a table."""
    arrays = [cast(bindparam(f"{name}_{one}", type_=ARRAY(type_)), ARRAY(type_)) for one, type_ in columns.items()]
    table: Any = func.unnest(*arrays)
    return table.table_valued(*(Column(one, type_) for one, type_ in columns.items()), name=name).render_derived()


def _ready_from_floors(limit: Any, *, lock: bool) -> Any:
    """Ready messages of the priorities whose beginning is known, and of all priorities between those."""
    floor = _rows("floor", queue=Text(), priority=BigInteger(), id=BigInteger())
    gap = _rows("gap", queue=Text(), above=BigInteger(), below=BigInteger())
    found = select(messages.c.id, messages.c.priority).where(sql.ready).limit(limit)
    if lock:
        found = found.with_for_update(skip_locked=True)
    known = found.where(
        messages.c.queue == floor.c.queue, messages.c.priority == floor.c.priority, messages.c.id >= floor.c.id
    ).order_by(messages.c.id)
    other = found.where(
        messages.c.queue == gap.c.queue, messages.c.priority > gap.c.above, messages.c.priority < gap.c.below
    ).order_by(messages.c.priority.desc(), messages.c.id)
    parts = []
    for rows, head in ((floor, known), (gap, other)):
        ours = head.correlate(rows).lateral()
        parts.append(select(ours.c.id, ours.c.priority).select_from(rows.join(ours, true())))
    return _most_urgent(union_all(*parts).subquery(), limit)


@lru_cache(maxsize=1)
def claim_from_floors() -> Any:
    """Take the oldest ready messages, the most urgent first."""
    # MATERIALIZED: PostgreSQL could run a plain subquery more than once, and lock and claim more rows than wanted.
    ready: Any = _ready_from_floors(bindparam("wanted"), lock=True).cte("ready")
    return _claimed(select(ready.prefix_with("MATERIALIZED").c.id))


@lru_cache(maxsize=1)
def look_from_floors() -> Any:
    """When the next delayed message of the queues in ``names`` is due, and whether any message is ready."""
    one = _among("postgresql")
    due = _first_due_of(one.c.value).lateral()
    first = select(func.min(due.c.available_at)).select_from(one.join(due, true())).scalar_subquery()
    return select(first, exists(_ready_from_floors(literal(1), lock=False)))
