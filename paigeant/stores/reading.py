"""Queries about workflows. Every function uses a connection of its caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from sqlalchemy import Connection, Row, and_, collate, func, or_, select

from paigeant.records.workflow import Course, DoneStep, EventRecord, StepRecord, WorkflowRecord
from paigeant.stores import journals, rows
from paigeant.stores.history import INTRODUCED
from paigeant.stores.planned import planned_in, with_planned
from paigeant.stores.tables import events, steps, workflows
from paigeant.wire.usage import Usage, total

_AT_ONCE = 500
"""How many workflows one statement reads."""

_GONE_ON = or_(steps.c.status == "completed", and_(steps.c.status == "failed", steps.c.ahead.is_not(None)))
"""Which steps were followed by others: those that completed, and those that were replaced by their ``otherwise``."""

_IS_DISPATCHED = or_(workflows.c.introduced.is_(None), workflows.c.introduced != INTRODUCED)

_BRIEF = [column for column in workflows.columns if column.name not in ("itinerary", "slip")]


def workflow(connection: Connection, correlation_id: str) -> WorkflowRecord | None:
    """Return a workflow with its steps: the attempts that ran, and the planned steps without an attempt."""
    row = connection.execute(select(workflows).where(workflows.c.correlation_id == correlation_id)).first()
    if row is None:
        return None
    ran = select(steps).where(steps.c.correlation_id == correlation_id)
    ran = ran.order_by(steps.c.started_at, steps.c.attempt)
    tried = connection.execute(ran).all()
    attempts = _with_usage(connection, correlation_id, [rows.step(one) for one in tried])
    found, used = rows.workflow(row), total(step.used for step in attempts)
    changes = [(one.step_id, planned_in(one.ahead)) for one in tried if isinstance(one.ahead, list)]
    steps_of_plan = with_planned(attempts, planned_in(row.itinerary), changes, found.status)
    return replace(found, steps=tuple(steps_of_plan), used=found.used or used)


def end_of_step(connection: Connection, message_id: str) -> Any:
    """The row of the step that a message started: workflow, status and output. None if there is no such row."""
    columns = (steps.c.correlation_id, steps.c.status, steps.c.output)
    return connection.execute(select(*columns).where(steps.c.message_id == message_id)).first()


def brief(connection: Connection, correlation_id: str) -> WorkflowRecord | None:
    """Return a workflow without its steps, or None."""
    row = connection.execute(select(*_BRIEF).where(workflows.c.correlation_id == correlation_id)).first()
    return None if row is None else rows.workflow(row)


def _with_usage(connection: Connection, correlation_id: str, attempts: list[StepRecord]) -> list[StepRecord]:
    """Return the attempts. The latest attempt of each step has the usage of its units."""
    of_step = defaultdict[str, list[Usage]](list)
    for unit in journals.of_workflow(connection, correlation_id):
        of_step[unit.step_id].append(unit.usage)
    latest = {step.id: at for at, step in enumerate(attempts) if step.heading == "forward"}
    for step_id, at in latest.items():
        attempts[at] = replace(attempts[at], used=total(of_step[step_id]))
    return attempts


def planned_end(connection: Connection, correlation_id: str) -> str | None:
    """Return the activity of the last step at dispatch, if that step completed last."""
    plan = select(workflows.c.itinerary).where(workflows.c.correlation_id == correlation_id)
    planned = planned_in(connection.execute(plan).scalar())
    done = select(steps.c.step_id).where(steps.c.correlation_id == correlation_id, steps.c.status == "completed")
    last = connection.execute(done.order_by(steps.c.started_at.desc(), steps.c.attempt.desc()).limit(1)).scalar()
    return planned[last].name if planned and last == next(reversed(planned)) else None


def beginning_with(connection: Connection, prefix: str) -> Sequence[str]:
    """Return some ids of workflows that begin with the prefix."""
    ids: Any = workflows.c.correlation_id
    if connection.dialect.name != "sqlite":
        ids = collate(ids, "C")  # other orders do not keep the ids with one prefix together
    query = select(ids).where(ids >= prefix, ids < prefix + "\U0010ffff").order_by(ids).limit(10)
    return connection.execute(query).scalars().all()


def latest(connection: Connection, wanted: Mapping[str, str | None], limit: int) -> Sequence[WorkflowRecord]:
    """List workflows with these values, without their steps, the latest first.

    None stands for any value, the empty text for no value.
    """
    conditions = [workflows.c[name] == (value or None) for name, value in wanted.items() if value is not None]
    query = select(*_BRIEF).where(*conditions).order_by(workflows.c.created_at.desc()).limit(limit)
    return [rows.workflow(row) for row in connection.execute(query)]


def counts(connection: Connection) -> dict[str, int]:
    """Count the workflows of each status."""
    query = select(workflows.c.status, func.count()).group_by(workflows.c.status)
    return {rows.text(row[0], "unknown"): row[1] for row in connection.execute(query)}


def events_of(connection: Connection, correlation_id: str, after: int, limit: int) -> Sequence[EventRecord]:
    """Return the events of a workflow after that offset."""
    query = select(events).where(events.c.correlation_id == correlation_id, events.c.id > after)
    return [rows.event(row) for row in connection.execute(query.order_by(events.c.id).limit(limit))]


def passing(connection: Connection, correlation_id: str) -> int:
    """Count the events of a workflow that expire."""
    query = select(func.count()).where(events.c.correlation_id == correlation_id, events.c.expires_at.is_not(None))
    return connection.execute(query).scalar_one()


def courses(connection: Connection, correlation_ids: Collection[str]) -> Mapping[str, Course]:
    """Return the slip at dispatch of these workflows, and the steps that completed since."""
    found: dict[str, Course] = {}
    for some in _portions(correlation_ids):
        done: defaultdict[str, list[DoneStep]] = defaultdict(list)
        ran = select(steps).where(steps.c.correlation_id.in_(some), _GONE_ON)
        for one in connection.execute(ran.order_by(steps.c.started_at)):
            done[rows.text(one.correlation_id)].append(rows.done_step(one))
        kept = select(*_BRIEF, workflows.c.slip).where(workflows.c.correlation_id.in_(some))
        for row in connection.execute(kept):
            id_ = rows.text(row.correlation_id)
            found[id_] = Course(workflow=rows.workflow(cast(Row[Any], row)), slip=_slip(row), done=done[id_])
    return found


def plans(
    connection: Connection, correlation_ids: Collection[str]
) -> Mapping[str, tuple[str, Mapping[str, Any] | None]]:
    """Return the name and the slip at dispatch of these workflows, if their dispatch is recorded."""
    found: dict[str, tuple[str, Mapping[str, Any] | None]] = {}
    for some in _portions(correlation_ids):
        kept = select(workflows.c.correlation_id, workflows.c.name, workflows.c.slip)
        for row in connection.execute(kept.where(workflows.c.correlation_id.in_(some), _IS_DISPATCHED)):
            found[rows.text(row.correlation_id)] = (rows.text(row.name), _slip(row))
    return found


def _portions(ids: Collection[str]) -> Iterator[Sequence[str]]:
    every = list(ids)
    for start in range(0, len(every), _AT_ONCE):
        yield every[start : start + _AT_ONCE]


def _slip(row: Any) -> dict[str, Any] | None:
    return row.slip if isinstance(row.slip, dict) else None
