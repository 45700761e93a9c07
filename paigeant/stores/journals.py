"""Journals of agent steps. Every function runs in a transaction of its caller.

A journal is one row that names its writer, and one row for each unit. A transaction that writes a unit, or that takes
the journal over, locks the journal's row first: so the later one reads all units of the earlier one. An emptied journal
is the next edition of it; the usage of the earlier edition stays recorded.

Each epoch of a step has its own journal, which continues those of earlier epochs. From then on those are read-only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, and_, or_, select, tuple_, update

from paigeant.database.among import among
from paigeant.database.inserting import insert_into, insert_new
from paigeant.records.journal import Turn, Unit
from paigeant.records.workflow import TERMINAL
from paigeant.stores import rows
from paigeant.stores.tables import journals, units, workflows

_WRITABLE = (
    select(*journals.primary_key, journals.c.holder, journals.c.edition)
    .where(among(journals.c.correlation_id, "workflows"), among(journals.c.holder, "holders"))
    .order_by(*journals.primary_key)
    .with_for_update()
)


def take(connection: Connection, turns: Sequence[Turn], now: float) -> list[list[Unit] | None]:
    """Make each turn the writer of its journal. Returns the units of its step, or None if a later turn has begun."""
    del now
    taken = {turn: _take(connection, turn) for turn in _in_order(turns)}
    return [taken[turn] for turn in turns]


def _in_order(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns in the order in which every group locks its journals."""
    return sorted(turns, key=lambda turn: turn.place)


def _take(connection: Connection, turn: Turn) -> list[Unit] | None:
    if not _begin(connection, turn):
        return None
    editions = _editions(connection, turn.correlation_id, turn.step_id)
    if turn.after is not None and editions == {0: 1}:
        _copy(connection, turn, turn.after)
    here = _of_step(units, turn.correlation_id, turn.step_id)
    found = connection.execute(select(units).where(here).order_by(units.c.epoch, units.c.at)).mappings()
    return [replace(_unit(row), current=editions.get(row["epoch"]) == row["edition"]) for row in found]


def _begin(connection: Connection, turn: Turn) -> bool:
    """Make the turn the writer of its journal. Returns False if a later turn has begun."""
    order = {"attempt": turn.attempt, "resumes": turn.resumes, "deliveries": turn.deliveries}
    columns = tuple_(*(journals.c[name] for name in order))
    taking = (
        insert_into(connection.dialect.name, journals)
        .values(**_place(turn), **order, holder=turn.holder, edition=1)
        .on_conflict_do_update(
            index_elements=list(journals.primary_key),
            set_={**order, "holder": turn.holder},
            where=columns <= tuple_(*order.values()),
        )
    )
    if connection.execute(taking.returning(journals.c.edition)).scalar() is None:
        return False
    before = and_(_of_step(journals, turn.correlation_id, turn.step_id), journals.c.epoch < turn.epoch)
    connection.execute(update(journals).where(before).values(holder=""))
    return max(_editions(connection, turn.correlation_id, turn.step_id)) == turn.epoch


def _copy(connection: Connection, turn: Turn, after: str) -> None:
    """Copy the units of another workflow's step, without their usage, which counts there."""
    editions = _editions(connection, after, turn.step_id)
    found = connection.execute(select(units).where(_of_step(units, after, turn.step_id)).order_by(units.c.epoch))
    rows = [dict(row) for row in found.mappings() if editions.get(row["epoch"]) == row["edition"]]
    if rows:
        own = {"correlation_id": turn.correlation_id, "epoch": 0, "edition": 1, "usage": None}
        connection.execute(insert_new(connection.dialect.name, units), [row | own for row in rows])


def _editions(connection: Connection, correlation_id: str, step_id: str) -> dict[int, int]:
    """Return the current edition of each epoch."""
    here = _of_step(journals, correlation_id, step_id)
    found = connection.execute(select(journals.c.epoch, journals.c.edition).where(here)).all()
    return {row.epoch: row.edition for row in found}


def write(connection: Connection, entries: Sequence[tuple[Turn, Unit]], now: float) -> list[bool]:
    """Insert finished units, except those whose turn is no longer the latest. Two statements insert all of them."""
    editions = _writable(connection, [turn for turn, _ in entries])
    new = [_row(turn, unit, editions[turn], now) for turn, unit in entries if turn in editions]
    if new:
        connection.execute(insert_new(connection.dialect.name, units), new)
    return [turn in editions for turn, _ in entries]


def _row(turn: Turn, unit: Unit, edition: int, now: float) -> dict[str, Any]:
    row = {
        "key": unit.key,
        "name": unit.name,
        "digest": unit.digest,
        "value": unit.value,
        "worker": unit.worker,
        "proof": unit.proof,
    }
    return row | {**_place(turn), "edition": edition, "usage": unit.usage.to_dict() or None, "at": now}


def restart(connection: Connection, turns: Sequence[Turn], now: float) -> list[bool]:
    """Empty journals, except those whose turn is no longer the latest."""
    del now
    done = {turn: _restart(connection, turn) for turn in _in_order(turns)}
    return [done[turn] for turn in turns]


def _restart(connection: Connection, turn: Turn) -> bool:
    """Empty the journal, unless a later turn has begun."""
    if not _writable(connection, [turn]):
        return False
    _anew(connection, _of_step(journals, turn.correlation_id, turn.step_id))
    return True


def forget(connection: Connection, correlation_id: str, step_id: str) -> None:
    """Empty the journals of a step, and those of its workflow's ended branches, which may be dispatched again."""
    over = and_(workflows.c.parent == correlation_id, workflows.c.status.in_(sorted(TERMINAL)))
    of_branches = journals.c.correlation_id.in_(select(workflows.c.correlation_id).where(over))
    _anew(connection, or_(_of_step(journals, correlation_id, step_id), of_branches))


def _anew(connection: Connection, these: Any) -> None:
    connection.execute(update(journals).where(these).values(edition=journals.c.edition + 1))


def _writable(connection: Connection, turns: Sequence[Turn]) -> dict[Turn, int]:
    """Lock the journals of those turns that may still write. Returns their editions."""
    asked = {"workflows": list({turn.correlation_id for turn in turns}), "holders": list({one.holder for one in turns})}
    found = connection.execute(_WRITABLE, asked)
    editions = {(row.correlation_id, row.step_id, row.epoch, row.holder): row.edition for row in found}
    keys = {turn: (turn.correlation_id, turn.step_id, turn.epoch, turn.holder) for turn in turns}
    return {turn: editions[key] for turn, key in keys.items() if key in editions}


def of_workflow(reader: Connection, correlation_id: str, step_id: str | None = None) -> list[Unit]:
    """Return all units of a workflow or of one step, of every edition, the oldest first."""
    here = _of_step(units, correlation_id, step_id)
    return [_unit(row) for row in reader.execute(select(units).where(here).order_by(units.c.at)).mappings()]


def _place(turn: Turn) -> dict[str, Any]:
    return {"correlation_id": turn.correlation_id, "step_id": turn.step_id, "epoch": turn.epoch}


def _of_step(table: Table, correlation_id: str, step_id: str | None) -> Any:
    """The condition for the rows of a step or, without a step, of its workflow."""
    of_workflow = table.c.correlation_id == correlation_id
    return of_workflow if step_id is None else and_(of_workflow, table.c.step_id == step_id)


def _unit(row: RowMapping) -> Unit:
    return Unit(
        key=row["key"],
        name=row["name"],
        digest=row["digest"],
        value=row["value"],
        usage=rows.usage(row["usage"]),
        worker=row["worker"],
        step_id=row["step_id"],
        at=row["at"],
        proof=row["proof"],
    )
