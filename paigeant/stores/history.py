"""How events become rows. Everything here runs inside somebody's transaction, for a whole batch of events at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache, lru_cache, partial
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, func, select, update

from paigeant.database.among import among
from paigeant.database.inserting import insert_into, insert_new
from paigeant.database.prepared import execute
from paigeant.events import (
    CompensationStarted,
    ErrorInfo,
    Event,
    MessageDeadLettered,
    MessageHeld,
    MessageResumed,
    SignalReceived,
    StepCompensated,
    StepCompleted,
    StepEnded,
    StepRestarted,
    StepStarted,
    WorkflowDispatched,
    WorkflowEnded,
)
from paigeant.join import Branch, Join
from paigeant.records import TERMINAL, Status, child_key
from paigeant.stores import joins as join_rows
from paigeant.stores.ends import end_of, told
from paigeant.stores.steering import reconcile
from paigeant.stores.tables import JsonText, branches, dead_letters, events, joins, signals, steps, waits, workflows

Row = dict[str, Any]

_ASIDE = {
    "correlation_id",
    "at",
    "output",
    "body",
    "itinerary",
    "variables",
    "parent",
    "branch",
    "standing",
    "expires_at",
    "slip",
    "ahead",
}
"""Fields an event's row leaves out: they have columns of their own, here or in the workflow or step they change."""

STARTED = "started"
"""The status of a step that is not done with its message."""


class SqlLedger:
    """Writes history on a connection it is given, so that a transport in the same database can do it in passing."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    def write(self, connection: Connection, batch: Sequence[Event]) -> None:
        """Record the events."""
        if ended := [_step_row(event) for event in batch if isinstance(event, StepEnded)]:
            execute(connection, _replace_started(connection.dialect.name), ended)
        self.note(connection, batch)

    def end(self, connection: Connection, batch: Sequence[StepEnded]) -> set[str]:
        """Record the ends of attempts; the ids of the messages that nobody had ended before.

        Two who end the same message at the same time wait for each other here, and the later one is told.
        """
        rows = {event.message_id: _step_row(event) for event in reversed(batch)}
        return _changed(connection, _end_started(connection.dialect.name), list(rows.values()))

    def note(self, connection: Connection, batch: Sequence[Event]) -> None:
        """Record everything but the ends of attempts."""
        insert = partial(insert_new, connection.dialect.name)
        if begun := [_workflow_row(event) for event in batch if isinstance(event, WorkflowDispatched)]:
            batch = _without_repetitions(batch, _changed(connection, _begin(connection.dialect.name), begun))
        # Who decides a join locks it first, and then the workflows of its branches.
        join_rows.lock(connection, [event for event in batch if isinstance(event, WorkflowEnded)])
        batch = reconcile(connection, batch)
        if not batch:
            return
        for table, rows in _inserts(batch).items():
            execute(connection, insert(table), rows)
        if started := [_step_row(event) for event in batch if isinstance(event, StepStarted | StepRestarted)]:
            execute(connection, _replace_earlier_start(connection.dialect.name), started)
        join_rows.count(connection, self.note, [event for event in batch if isinstance(event, WorkflowEnded)])
        for statement, rows in _updates(batch):
            execute(connection, statement, rows)

    def finished(self, connection: Connection, message_ids: Sequence[str]) -> Mapping[str, str]:
        """Which of these messages are done with, and by which worker."""
        rows = execute(connection, FINISHED, {"ids": message_ids})
        return {row.message_id: row.worker for row in rows}


FINISHED = select(steps.c.message_id, steps.c.worker).where(among(steps.c.message_id, "ids"), steps.c.status != STARTED)

_change = update(workflows).where(workflows.c.correlation_id == bindparam("id"))
_OPEN = _change.where(*[workflows.c.status != one.value for one in sorted(TERMINAL)])
_END = _OPEN.values(
    {name: bindparam(f"new_{name}") for name in ("status", "updated_at", "finished_at", "variables", "output", "used")}
    # What a workflow that is taken back ends with is shorter than what it failed with.
    | {"error": func.coalesce(workflows.c.error, bindparam("new_error", type_=JsonText))}
)
_TURN = _OPEN.values({name: bindparam(f"new_{name}") for name in ("status", "updated_at", "error")})
_RESUMED = delete(waits).where(waits.c.wait_id == bindparam("id"))
_CARRY = _change.values(variables=bindparam("new_variables"), updated_at=bindparam("new_updated_at"))


@lru_cache
def _replace_started(dialect: str) -> Any:
    """Insert an ended attempt, or complete the row that its start left; an ended one never changes."""
    insert = insert_into(dialect, steps)
    changed = {column.name: insert.excluded[column.name] for column in steps.columns if column.name != "message_id"}
    return insert.on_conflict_do_update(
        index_elements=[steps.c.message_id], set_=changed, where=steps.c.status == STARTED
    )


@lru_cache
def _end_started(dialect: str) -> Any:
    """The same, and which messages had not been ended before."""
    return _replace_started(dialect).returning(steps.c.message_id)


@lru_cache
def _begin(dialect: str) -> Any:
    """Insert workflows, and which of them are new."""
    return insert_new(dialect, workflows).returning(workflows.c.correlation_id)


def _changed(connection: Connection, insert: Any, rows: Sequence[Row]) -> set[str]:
    """What the insert returns; of several rows only SQLAlchemy makes one statement."""
    if not rows:
        return set()
    done = execute(connection, insert, rows[0]) if len(rows) == 1 else connection.execute(insert, list(rows))
    return set(done.scalars())


@lru_cache
def _replace_earlier_start(dialect: str) -> Any:
    """Insert a started attempt, or put it in the place of the start by a worker that died of it or lost it."""
    insert = insert_into(dialect, steps)
    changed = {name: insert.excluded[name] for name in ("worker", "deliveries", "started_at")}
    is_later = and_(steps.c.status == STARTED, steps.c.deliveries < insert.excluded.deliveries)
    return insert.on_conflict_do_update(index_elements=[steps.c.message_id], set_=changed, where=is_later)


def _without_repetitions(batch: Sequence[Event], new: set[str]) -> list[Event]:
    """The events without the beginnings of workflows that had begun before."""
    kept = []
    for event in batch:
        if isinstance(event, WorkflowDispatched):
            if event.correlation_id not in new:
                continue
            new.remove(event.correlation_id)
        kept.append(event)
    return kept


def _inserts(batch: Sequence[Event]) -> dict[Table, list[Row]]:
    rows: dict[Table, list[Row]] = {}
    for event in batch:
        match event:
            case MessageHeld():
                rows.setdefault(waits, []).append(_wait_row(event))
                if event.join is not None:
                    rows.setdefault(joins, []).append(_join_row(event, event.join))
                continue
            case WorkflowDispatched(parent=str() as parent, branch=Branch() as branch):
                rows.setdefault(branches, []).append(_branch_row(event, parent, branch))
            case MessageDeadLettered():
                rows.setdefault(dead_letters, []).append(_letter_row(event))
            case SignalReceived():
                rows.setdefault(signals, []).append(_columns(event, signals))
            case WorkflowEnded(parent=str() as parent, branch=None):
                rows.setdefault(signals, []).append(_child_row(event, parent))
        rows.setdefault(events, []).append(_event_row(event))
    return rows


def _updates(batch: Sequence[Event]) -> list[tuple[Any, list[Row]]]:
    carried: list[Row] = []
    turned: list[Row] = []
    ended: list[Row] = []
    resumed: list[Row] = []
    for event in batch:
        match event:
            case StepCompleted(variables=dict() as variables) | StepCompensated(variables=dict() as variables):
                carried.append({"id": event.correlation_id, "new_variables": variables, "new_updated_at": event.at})
            case CompensationStarted():
                turned.append(_turn_row(event))
            case WorkflowEnded():
                ended.append(_end_row(event))
            case MessageResumed(wait_id=wait_id):
                resumed.append({"id": wait_id})
    statements = ((_CARRY, carried), (_TURN, turned), (_END, ended), (_RESUMED, resumed))
    return [(statement, rows) for statement, rows in statements if rows]


def _turn_row(event: CompensationStarted) -> Row:
    return {
        "id": event.correlation_id,
        "new_status": Status.COMPENSATING.value,
        "new_updated_at": event.at,
        "new_error": asdict(event.error),
    }


def _end_row(event: WorkflowEnded) -> Row:
    status, output, error = end_of(event)
    return {
        "id": event.correlation_id,
        "new_status": status.value,
        "new_updated_at": event.at,
        "new_finished_at": event.at,
        "new_used": event.used or None,
        "new_variables": event.variables,
        "new_output": output,
        "new_error": asdict(error) if error else None,
    }


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name not in _ASIDE)


def _event_row(event: Event) -> Row:
    kind: Any = type(event)
    data = {name: getattr(event, name) for name in _names(kind)}
    row = {"correlation_id": event.correlation_id, "type": event.type, "at": event.at, "data": data}
    return row | {"expires_at": getattr(event, "expires_at", None)}


def _letter_row(event: MessageDeadLettered) -> Row:
    names = [column.name for column in dead_letters.columns if column.name not in ("id", "error", "error_type")]
    error = event.error
    told = {"error": asdict(error) if error else None, "error_type": error.type if error else ""}
    return {name: getattr(event, name) for name in names} | told


def _columns(event: Event, table: Table) -> Row:
    return {column.name: getattr(event, column.name) for column in table.columns if column.name != "id"}


def _wait_row(event: MessageHeld) -> Row:
    kept = ("wait_id", "correlation_id", "step_id", "activity", "key", "due_at", "detail", "queue", "body", "priority")
    return {name: getattr(event, name) for name in kept} | {"since": event.at}


def _join_row(event: MessageHeld, join: Join) -> Row:
    counts = {"total": join.total, "needed": join.needed, "completed": 0, "failed": 0}
    return {"correlation_id": event.correlation_id, "key": event.key, **counts}


def _branch_row(event: WorkflowDispatched, parent: str, branch: Branch) -> Row:
    place = {"correlation_id": parent, "key": branch.join, "place": branch.index}
    return place | {"workflow": event.correlation_id, "status": Status.RUNNING.value}


def _child_row(event: WorkflowEnded, parent: str) -> Row:
    """What the parent is told, if it waits for this child, now or later."""
    key = child_key(event.correlation_id)
    return {"correlation_id": parent, "key": key, "value": told(event), "by": None, "at": event.at}


def _workflow_row(event: WorkflowDispatched) -> Row:
    return {
        "correlation_id": event.correlation_id,
        "name": event.name,
        "app": event.app,
        "status": Status.RUNNING.value,
        "created_at": event.at,
        "updated_at": event.at,
        "itinerary": event.itinerary,
        "variables": event.variables,
        "parent": event.parent,
        "slip": event.slip,
        "forked_from": event.forked_from,
    }


def _step_row(event: StepStarted | StepRestarted | StepEnded) -> Row:
    error: ErrorInfo | None = getattr(event, "error", None)
    return {
        "message_id": event.message_id,
        "correlation_id": event.correlation_id,
        "step_id": event.step_id,
        "activity": event.activity,
        "attempt": event.attempt,
        "deliveries": event.deliveries,
        "status": event.status if isinstance(event, StepEnded) else STARTED,
        "worker": event.worker,
        "started_at": event.started_at if isinstance(event, StepEnded) else event.at,
        "finished_at": event.at if isinstance(event, StepEnded) else None,
        "output": getattr(event, "output", None),
        "error": asdict(error) if error else None,
        "heading": event.heading,
        "variables": getattr(event, "variables", None),
        "ahead": getattr(event, "ahead", None),
    }
