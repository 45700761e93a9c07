"""The tables of the queues and the statements that :mod:`paigeant.transports.sql.queue` and its parts make.

Each statement is built once, so that SQLAlchemy compiles it once. Each finds its rows by an index and changes a limited
number of them, so its cost does not depend on how many messages wait. :mod:`paigeant.transports.sql.heads` has the
statements of claims.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
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
notes = Table(
    "paigeant_note",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires_at", Double),
)

# SKIP LOCKED, which SQLite neither has nor needs, keeps workers that tidy up at the same time from waiting for each
# other crosswise.
free = messages.c.owner.is_(None)
ready = and_(
    free,
    messages.c.available_at.is_(None),
    or_(messages.c.expires_at.is_(None), messages.c.expires_at > bindparam("now")),
)
delayed = and_(free, messages.c.available_at.is_not(None))
_expiring = and_(free, messages.c.expires_at.is_not(None))
_in_queue = messages.c.queue == bindparam("name")

# --- settlements -------------------------------------------------------------------------------------------------

still_mine = (
    delete(messages)
    .where(messages.c.owner == bindparam("me"), messages.c.token == bindparam("claim"))
    .where(among(messages.c.id, "rows"))
    .returning(messages.c.id)
)
DELIVERED = tuple(
    messages.c[name] for name in ("id", "queue", "message_id", "priority", "body", "headers", "token", "deliveries")
)
one_of_mine = (
    select(*DELIVERED)
    .where(messages.c.owner == bindparam("me"), messages.c.token == bindparam("claim"))
    .where(messages.c.id == bindparam("row"))
)

# --- leases ------------------------------------------------------------------------------------------------------

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

# --- counting ----------------------------------------------------------------------------------------------------

ping = select(1)
depths_of = tuple(
    select(messages.c.queue, func.count()).where(which).group_by(messages.c.queue)
    for which in (and_(free, messages.c.available_at.is_(None)), delayed)
)
depth_of = tuple(
    select(func.count()).select_from(messages).where(_in_queue, which)
    for which in (and_(free, messages.c.available_at.is_(None)), delayed)
)

# --- housekeeping: each changes at most ``most`` rows --------------------------------------------------------------

_some = bindparam("most", type_=Integer)


def _locked(rows: Any) -> Any:
    return rows.limit(_some).with_for_update(skip_locked=True)


_dead = select(holders.c.id).where(holders.c.expires_at < bindparam("now"), holders.c.id != bindparam("me"))
dead = _dead.limit(1)
bury = delete(holders).where(holders.c.id.in_(_locked(_dead)))

_of_stray = select(messages.c.id).where(messages.c.owner == bindparam("stray"))
free_stray = update(messages).where(messages.c.id.in_(_locked(_of_stray))).values(owner=None)

_due_in = select(messages.c.id).where(_in_queue, delayed, messages.c.available_at <= bindparam("now"))
promote = (
    update(messages)
    .where(messages.c.id.in_(_locked(_due_in.order_by(messages.c.available_at))))
    .values(available_at=None)
)

_overdue_in = and_(_in_queue, _expiring, messages.c.expires_at <= bindparam("now"))
_overdue = select(messages.c.id).where(_overdue_in).order_by(messages.c.expires_at)
drop_overdue = delete(messages).where(messages.c.id.in_(_locked(_overdue)))
overdue_in = _locked(select(*DELIVERED).where(_overdue_in).order_by(messages.c.expires_at))

_waiting = select(messages.c.id).where(_in_queue, free)
purge = delete(messages).where(
    messages.c.id.in_(
        _locked(_waiting.where(messages.c.available_at.is_(None)).order_by(messages.c.priority.desc(), messages.c.id))
    )
)
purge_delayed = delete(messages).where(
    messages.c.id.in_(_locked(_waiting.where(messages.c.available_at.is_not(None)).order_by(messages.c.available_at)))
)
drop_out = delete(messages).where(
    messages.c.id.in_(select(messages.c.id).where(_in_queue, messages.c.owner.is_not(None)).limit(_some))
)


def _each(column: Column[str], which: Any, name: str) -> Any:
    """Every value of a column that the condition's index begins with, each found by one step along the index."""
    first: Any = select(func.min(column).label("value")).where(which).cte(name, recursive=True)
    following = select(func.min(column)).where(which, column > first.c.value).scalar_subquery()
    return first.union_all(select(following).where(first.c.value.is_not(None)))


_owners = _each(messages.c.owner, messages.c.owner.is_not(None), "owners")
strays = select(_owners.c.value).where(_owners.c.value.is_not(None), _owners.c.value.not_in(select(holders.c.id)))
"""Owners that no row keeps alive."""

_queues_expiring = _each(messages.c.queue, _expiring, "queues")
_first_end = (
    select(messages.c.expires_at)
    .where(_expiring, messages.c.queue == _queues_expiring.c.value)
    .order_by(messages.c.expires_at)
    .limit(1)
    .scalar_subquery()
)
overdue = select(_queues_expiring.c.value).where(_queues_expiring.c.value.is_not(None), _first_end <= bindparam("now"))
"""Queues in which a message has expired."""
