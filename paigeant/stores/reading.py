"""What the store can tell about workflows. Everything here runs on somebody's connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, collate, func, select

from paigeant.records import Course, EventRecord, StepRecord, WorkflowRecord
from paigeant.stores import journals, rows
from paigeant.stores.tables import events, steps, workflows
from paigeant.usage import Usage, total


def workflow(connection: Connection, correlation_id: str) -> WorkflowRecord | None:
    """A workflow with its steps: the attempts that ran, then what is ahead."""
    row = connection.execute(select(workflows).where(workflows.c.correlation_id == correlation_id)).first()
    if row is None:
        return None
    ran = select(steps).where(steps.c.correlation_id == correlation_id)
    ran = ran.order_by(steps.c.started_at, steps.c.attempt)
    attempts = _with_usage(connection, correlation_id, [rows.step(one) for one in connection.execute(ran)])
    found, used = rows.workflow(row), total(step.used for step in attempts)
    return replace(found, steps=(*attempts, *rows.ahead(row, attempts)), used=found.used or used)


def _with_usage(connection: Connection, correlation_id: str, attempts: list[StepRecord]) -> list[StepRecord]:
    """The attempts, the latest of each step with what its units used."""
    of_step = defaultdict[str, list[Usage]](list)
    for unit in journals.of_workflow(connection, correlation_id):
        of_step[unit.step_id].append(unit.usage)
    latest = {step.id: at for at, step in enumerate(attempts) if step.heading == "forward"}
    for step_id, at in latest.items():
        attempts[at] = replace(attempts[at], used=total(of_step[step_id]))
    return attempts


def beginning_with(connection: Connection, prefix: str) -> Sequence[str]:
    """Some ids of workflows that begin so."""
    ids: Any = workflows.c.correlation_id
    if connection.dialect.name != "sqlite":
        ids = collate(ids, "C")  # other orders do not keep the ids with one prefix together
    query = select(ids).where(ids >= prefix, ids < prefix + "\U0010ffff").order_by(ids).limit(10)
    return connection.execute(query).scalars().all()


def latest(connection: Connection, wanted: Mapping[str, str | None], limit: int) -> Sequence[WorkflowRecord]:
    """Workflows with these values, without their steps, the latest first. None: whatever it is; an empty one: none."""
    conditions = [workflows.c[name] == (value or None) for name, value in wanted.items() if value is not None]
    brief = [column for column in workflows.columns if column.name not in ("itinerary", "slip")]
    query = select(*brief).where(*conditions).order_by(workflows.c.created_at.desc()).limit(limit)
    return [rows.workflow(row) for row in connection.execute(query)]


def counts(connection: Connection) -> dict[str, int]:
    """How many workflows there are of each status."""
    query = select(workflows.c.status, func.count()).group_by(workflows.c.status)
    return {rows.text(row[0], "unknown"): row[1] for row in connection.execute(query)}


def events_of(connection: Connection, correlation_id: str, after: int, limit: int) -> Sequence[EventRecord]:
    """What happened in a workflow after that offset."""
    query = select(events).where(events.c.correlation_id == correlation_id, events.c.id > after)
    return [rows.event(row) for row in connection.execute(query.order_by(events.c.id).limit(limit))]


def passing(connection: Connection, correlation_id: str) -> int:
    """How many events of a workflow there are that expire."""
    query = select(func.count()).where(events.c.correlation_id == correlation_id, events.c.expires_at.is_not(None))
    return connection.execute(query).scalar_one()


def course(connection: Connection, correlation_id: str) -> Course | None:
    """The way a workflow went: its slip at dispatch, and the steps that completed since."""
    kept = select(workflows.c.slip).where(workflows.c.correlation_id == correlation_id)
    if (row := connection.execute(kept).first()) is None:
        return None
    ran = select(steps).where(steps.c.correlation_id == correlation_id, steps.c.status == "completed")
    done = [rows.done_step(one) for one in connection.execute(ran.order_by(steps.c.started_at))]
    return Course(slip=row.slip if isinstance(row.slip, dict) else None, done=done)
