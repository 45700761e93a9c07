"""The tables of the queues and the statements of a hop, which :mod:`paigeant.transports.sql_queue` makes.

Each statement is built once, so that SQLAlchemy compiles it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)

from paigeant.database.among import among

metadata = MetaData()

messages = Table(
    "paigeant_message",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("queue", Text),
    Column("message_id", Text),
    Column("priority", Integer),
    Column("enqueued_at", Double),
    Column("available_at", Double),
    Column("expires_at", Double),
    Column("owner", Text),
    Column("token", BigInteger),
    Column("deliveries", Integer),
    Column("headers", Text),
    Column("body", LargeBinary),
)
holders = Table(
    "paigeant_holder",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires_at", Double),
)

_MOST_HEADS = 100
_PART = 500
"""Overdue messages passed on at a time."""

# SKIP LOCKED, which SQLite neither has nor needs, keeps workers that tidy up at the same time from waiting for each
# other crosswise.
free = messages.c.owner.is_(None)
_ready = and_(
    free,
    messages.c.available_at.is_(None),
    or_(messages.c.expires_at.is_(None), messages.c.expires_at > bindparam("now")),
)
still_mine = (
    delete(messages)
    .where(messages.c.owner == bindparam("me"), messages.c.token == bindparam("claim"))
    .where(among(messages.c.id, "rows"))
    .returning(messages.c.id)
)
mine = select(messages.c.id, messages.c.token).where(messages.c.owner == bindparam("me"))
_given_back = {"owner": None, "deliveries": messages.c.deliveries - 1}
give_back = (
    update(messages)
    .where(messages.c.owner == bindparam("me"))
    .where(messages.c.id == bindparam("row"), messages.c.token == bindparam("claim"))
    .values(**_given_back, available_at=bindparam("due"))
)
give_all_back = update(messages).where(messages.c.owner == bindparam("me")).values(**_given_back)
renew = update(holders).where(holders.c.id == bindparam("me")).values(expires_at=bindparam("until"))
resign = delete(holders).where(holders.c.id == bindparam("me"))

_dead = select(holders.c.id).where(holders.c.expires_at < bindparam("now"))
bury = delete(holders).where(holders.c.id.in_(_dead.with_for_update(skip_locked=True)))
stray = select(messages.c.owner).where(messages.c.owner.is_not(None), messages.c.owner.not_in(select(holders.c.id)))
_of_strays = select(messages.c.id).where(messages.c.owner.in_(bindparam("strays", expanding=True)))
free_strays = update(messages).where(messages.c.id.in_(_of_strays.with_for_update(skip_locked=True))).values(owner=None)
_due = select(messages.c.id).where(messages.c.available_at <= bindparam("now"))
promote = update(messages).where(messages.c.id.in_(_due.with_for_update(skip_locked=True))).values(available_at=None)
next_due = select(func.min(messages.c.available_at)).where(messages.c.available_at.is_not(None))

_DELIVERED = tuple(
    messages.c[name] for name in ("id", "queue", "message_id", "priority", "body", "headers", "token", "deliveries")
)
one_of_mine = (
    select(*_DELIVERED)
    .where(messages.c.owner == bindparam("me"), messages.c.token == bindparam("claim"))
    .where(messages.c.id == bindparam("row"))
)
_is_overdue = and_(messages.c.expires_at <= bindparam("now"), free)
_overdue = select(messages.c.id).where(_is_overdue, messages.c.queue.not_in(bindparam("passing_on", expanding=True)))
drop_overdue = delete(messages).where(messages.c.id.in_(_overdue.with_for_update(skip_locked=True)))
overdue_in = (
    select(*_DELIVERED)
    .where(_is_overdue, messages.c.queue == bindparam("name"))
    .limit(_PART)
    .with_for_update(skip_locked=True)
)
untidy = select(or_(exists(_dead), exists(stray), select(messages.c.id).where(_is_overdue).exists()))


@lru_cache(maxsize=64)
def claim_from(names: tuple[str, ...]) -> Any:
    """Take the oldest ready messages of these queues, the most urgent first, and return them as delivered."""
    # MATERIALIZED: PostgreSQL could run a plain subquery more than once, and lock and claim more rows than wanted.
    ready: Any = _ready_in(names, bindparam("wanted"), lock=True).cte("ready")
    ready = ready.prefix_with("MATERIALIZED", dialect="postgresql")
    return (
        update(messages)
        .where(messages.c.id.in_(select(ready.c.id)))
        .values(
            owner=bindparam("me"),
            token=_one_more(messages.c.token, 2**63),
            deliveries=_one_more(messages.c.deliveries, 2**31),
        )
        .returning(*_DELIVERED)
    )


def _one_more(column: Column[int], end: int) -> Any:
    """Counts; from what somebody else wrote it starts again, for an overflow would be an error of every claim."""
    return case((column < end - 1, column + 1), else_=1)


@lru_cache(maxsize=64)
def look(names: tuple[str, ...]) -> Any:
    """When the next delayed message is due, and whether any waits in these queues."""
    return select(next_due.scalar_subquery(), _ready_in(names, literal(1)).exists())


def _ready_in(names: Sequence[str], limit: Any, *, lock: bool = False) -> Any:
    """Ids of the oldest ready messages of these queues, the most urgent first.

    One short walk along the index for each queue: a single ``queue IN (...)`` would sort the whole backlog each time.
    """
    head = select(messages.c.id, messages.c.priority).where(_ready)
    head = head.order_by(messages.c.priority.desc(), messages.c.id).limit(limit)
    if lock:
        head = head.with_for_update(skip_locked=True)
    heads = [head.where(which).subquery() for which in _one_by_one(names)]
    ready = union_all(*(select(head.c.id, head.c.priority) for head in heads)).subquery()
    return select(ready.c.id).order_by(ready.c.priority.desc(), ready.c.id).limit(limit)


def _one_by_one(names: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    """A condition for each queue; for very many queues a condition for several (SQLite joins at most 500 selects)."""
    size = -(-len(names) // _MOST_HEADS)
    for start in range(0, len(names), size):
        part = names[start : start + size]
        yield messages.c.queue == part[0] if len(part) == 1 else messages.c.queue.in_(map(literal, part))
