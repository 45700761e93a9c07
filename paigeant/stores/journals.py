"""Journals of agent steps. Everything here runs inside somebody's transaction.

A journal is a row with whoever may write it, and a row for each unit. Whoever writes a unit locks the journal's row
first, as whoever takes the journal over does: so the later one reads all that the earlier one wrote. A journal that is
begun anew is the next edition of it; what was used for the one before stays known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from paigeant.journal import Turn, Unit
from paigeant.stores import rows
from paigeant.stores.tables import journals, units


def take(connection: Connection, turn: Turn) -> list[Unit] | None:
    """The units of the step, whose journal this turn continues from now on; None: a later one has begun."""
    order = {"attempt": turn.attempt, "resumes": turn.resumes, "deliveries": turn.deliveries}
    columns = tuple_(*(journals.c[name] for name in order))
    taking = (
        _insert(connection)(journals)
        .values(**_place(turn), **order, holder=turn.holder, edition=1)
        .on_conflict_do_update(
            index_elements=list(journals.primary_key),
            set_={**order, "holder": turn.holder},
            where=columns <= tuple_(*order.values()),
        )
    )
    edition = connection.execute(taking.returning(journals.c.edition)).scalar()
    if edition is None:
        return None
    here = and_(units.c.correlation_id == turn.correlation_id, units.c.step_id == turn.step_id)
    found = connection.execute(select(units).where(here).order_by(units.c.at)).mappings()
    return [replace(_unit(row), current=(row["epoch"], row["edition"]) == (turn.epoch, edition)) for row in found]


def write(connection: Connection, turn: Turn, unit: Unit, now: float) -> bool:
    """Add a finished unit, unless a later turn has begun."""
    edition = _edition(connection, turn)
    if edition is None:
        return False
    row = {"key": unit.key, "name": unit.name, "digest": unit.digest, "value": unit.value, "worker": unit.worker}
    row |= {**_place(turn), "edition": edition, "usage": unit.usage.to_dict() or None, "at": now}
    connection.execute(_insert(connection)(units).on_conflict_do_nothing(), [row])
    return True


def restart(connection: Connection, turn: Turn) -> bool:
    """Begin the journal anew, unless a later turn has begun."""
    edition = _edition(connection, turn)
    if edition is None:
        return False
    connection.execute(update(journals).where(_its(turn)).values(edition=edition + 1))
    return True


def _edition(connection: Connection, turn: Turn) -> int | None:
    """The edition that this turn may write, its row locked; None: it may not."""
    query = select(journals.c.edition).where(_its(turn), journals.c.holder == turn.holder).with_for_update()
    return connection.execute(query).scalar()


def of_workflow(reader: Connection, correlation_id: str, step_id: str | None = None) -> list[Unit]:
    """All units of a workflow or of one of its steps, of every edition, the oldest first."""
    here = units.c.correlation_id == correlation_id
    if step_id is not None:
        here = and_(here, units.c.step_id == step_id)
    return [_unit(row) for row in reader.execute(select(units).where(here).order_by(units.c.at)).mappings()]


def _insert(connection: Connection) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert


def _place(turn: Turn) -> dict[str, Any]:
    return {"correlation_id": turn.correlation_id, "step_id": turn.step_id, "epoch": turn.epoch}


def _its(turn: Turn) -> Any:
    return and_(*(journals.c[name] == value for name, value in _place(turn).items()))


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
    )
