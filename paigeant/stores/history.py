"""How events become rows. Every function runs in a transaction of its caller, for a whole batch of events at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import cache, lru_cache, partial
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, func, or_, select, update

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
    WorkflowCompleted,
    WorkflowDispatched,
    WorkflowEnded,
)
from paigeant.records.trust import END, ProofFailed
from paigeant.records.workflow import TERMINAL, Status
from paigeant.stores import joins as join_rows
from paigeant.stores.ends import end_of, told
from paigeant.stores.steering import reconcile, refute
from paigeant.stores.tables import (
    JsonText,
    branches,
    dead_letters,
    events,
    joins,
    signals,
    statements,
    steps,
    waits,
    workflows,
)
from paigeant.wire.canonical import digest
from paigeant.wire.join import Branch, Join
from paigeant.wire.message import child_key

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
    "proof",
    "slip",
    "ahead",
    "changes",
    "instead",
}
"""Fields that are not in the data of an event's row: they have their own columns, there or in another table."""

INTRODUCED, DISPATCHED_LATER = 1, 2
"""Values of the column ``introduced``: a message brought this workflow; it was dispatched after that.

The column is empty for a workflow whose dispatch was recorded first.
"""

STARTED = "started"
"""The status of a step that has not finished its message."""


class SqlLedger:
    """Writes history on the connection of its caller, so that a transport in the same database can do so as well."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    def write(self, connection: Connection, batch: Sequence[Event]) -> None:
        """Record the events."""
        if ended := [_step_row(event) for event in batch if isinstance(event, StepEnded)]:
            execute(connection, _replace_started(connection.dialect.name), ended)
        self.note(connection, batch)

    def end(self, connection: Connection, batch: Sequence[StepEnded]) -> set[str]:
        """Record the ends of attempts. Returns the ids of those messages that had not ended, nor started again, before.

        Two transactions that end the same message wait for each other here; the id is not returned to the later one.
        """
        rows = {event.message_id: _step_row(event) for event in reversed(batch)}
        return _changed(connection, _end_started(connection.dialect.name), list(rows.values()))

    def recorded(self, connection: Connection, ends: Sequence[StepEnded]) -> bool:
        """Return whether all these ends are recorded, and for this very run.

        They are when an earlier try wrote them and its answer got lost. The same worker, delivery and times mean the
        same run: the ends of any other run, even by a worker of the same name, are not these.
        """
        found = connection.execute(_ENDS, {"ids": [end.message_id for end in ends]})
        recorded = {row.message_id: tuple(row)[1:] for row in found}
        return all(recorded.get(end.message_id) == _run_of(end) for end in ends)

    def note(self, connection: Connection, batch: Sequence[Event]) -> None:
        """Record all events but the ends of attempts."""
        insert = partial(insert_new, connection.dialect.name)
        if begun := [_workflow_row(event) for event in batch if isinstance(event, WorkflowDispatched)]:
            all_of_it, batch = batch, _without_repetitions(batch, _begun(connection, begun))
            kept = set(map(id, batch))
            _keep_plans(connection, [one for one in all_of_it if id(one) not in kept])
        refute(connection, batch)
        # Every transaction locks a join first, and then the workflows of its branches.
        join_rows.lock(connection, [event for event in batch if isinstance(event, WorkflowEnded)])
        batch = reconcile(connection, batch)
        if not batch:
            return
        for table, rows in _inserts(batch).items():
            execute(connection, insert(table), rows)
        _drop_unheard(connection, batch)
        if started := [_step_row(event) for event in batch if isinstance(event, StepStarted | StepRestarted)]:
            execute(connection, _replace_earlier_start(connection.dialect.name), started)
        join_rows.count(connection, self.note, [event for event in batch if isinstance(event, WorkflowEnded)])
        for statement, rows in _updates(batch):
            execute(connection, statement, rows)

    def finished(self, connection: Connection, message_ids: Sequence[str]) -> list[str]:
        """Return those of these messages that are finished."""
        return list(execute(connection, FINISHED, {"ids": message_ids}).scalars())


FINISHED = select(steps.c.message_id).where(among(steps.c.message_id, "ids"), steps.c.status != STARTED)

_ENDS = select(
    *(steps.c[name] for name in ("message_id", "status", "worker", "deliveries", "started_at", "finished_at"))
).where(among(steps.c.message_id, "ids"))


def _run_of(end: StepEnded) -> tuple[Any, ...]:
    """The values that only the run with this end has, in the order of ``_ENDS``."""
    return end.status, end.worker, end.deliveries, end.started_at, end.at


_change = update(workflows).where(workflows.c.correlation_id == bindparam("id"))
_OPEN = _change.where(*[workflows.c.status != one.value for one in sorted(TERMINAL)])
_END = _OPEN.values(
    {name: bindparam(f"new_{name}") for name in ("status", "updated_at", "finished_at", "variables", "output", "used")}
    # The error of the failure says more than the error that the compensation ends with.
    | {"error": func.coalesce(workflows.c.error, bindparam("new_error", type_=JsonText))}
)
_REVERSE = _OPEN.values({name: bindparam(f"new_{name}") for name in ("status", "updated_at", "error")})
_REFUTE = _change.where(workflows.c.status == bindparam("said")).values(
    status=bindparam("new_status"), finished_at=None, output=None
)
_RESUMED = delete(waits).where(waits.c.wait_id == bindparam("id"))
_CARRY = _change.values(variables=bindparam("new_variables"), updated_at=bindparam("new_updated_at"))


@lru_cache
def _replace_started(dialect: str) -> Any:
    """Insert an ended attempt, or complete the row of its start. The row of an ended attempt never changes."""
    return _ended(dialect, lambda new: steps.c.status == STARTED)


@lru_cache
def _end_started(dialect: str) -> Any:
    """The same, and return the messages that ended now, except those whose later delivery another worker started."""
    return _ended(dialect, lambda new: and_(steps.c.status == STARTED, _is_of_latest(new))).returning(
        steps.c.message_id
    )


def _is_of_latest(new: Any) -> Any:
    return or_(steps.c.worker == new.worker, steps.c.deliveries <= new.deliveries)


def _ended(dialect: str, where: Callable[[Any], Any]) -> Any:
    insert = insert_into(dialect, steps)
    changed = {column.name: insert.excluded[column.name] for column in steps.columns if column.name != "message_id"}
    return insert.on_conflict_do_update(index_elements=[steps.c.message_id], set_=changed, where=where(insert.excluded))


def _begun(connection: Connection, begun: Sequence[Row]) -> set[str]:
    """Insert workflows and return the ids of the new ones.

    A dispatch replaces a workflow that only a message has introduced under its id, with the steps that ran under it:
    ids can be computed in advance, and who takes one in advance must not stop the workflow to come.
    """
    found = {row.correlation_id: row.introduced for row in _done(connection, _begin(connection.dialect.name), begun)}
    if replaced := [one for one, introduced in found.items() if introduced == DISPATCHED_LATER]:
        for forget in _FORGET:
            execute(connection, forget, {"ids": replaced})
    return set(found)


_FORGET = [delete(table).where(among(table.c.correlation_id, "ids")) for table in (steps, statements)]


@lru_cache
def _begin(dialect: str) -> Any:
    """Insert workflows and return the new ones, and those that were only introduced with another plan."""
    insert = insert_into(dialect, workflows)
    new = insert.excluded
    changed = {name: new[name] for name in _OF_A_DISPATCH}
    is_other = or_(new.parent.is_not(None), workflows.c.slip.is_distinct_from(new.slip))
    is_taken = and_(workflows.c.introduced == INTRODUCED, new.introduced.is_(None), is_other)
    insert = insert.on_conflict_do_update(
        index_elements=[workflows.c.correlation_id],
        set_={**_EMPTIED, **changed, "introduced": DISPATCHED_LATER},
        where=is_taken,
    )
    return insert.returning(workflows.c.correlation_id, workflows.c.introduced)


_OF_A_DISPATCH = (
    "name",
    "app",
    "status",
    "created_at",
    "updated_at",
    "itinerary",
    "variables",
    "parent",
    "slip",
    "forked_from",
    "user_claimed",
)
"""The columns that a dispatch fills."""

_EMPTIED = dict.fromkeys(("finished_at", "output", "error", "cancel", "used"))
"""What a workflow has not when it is dispatched."""


def _done(connection: Connection, insert: Any, rows: Sequence[Row]) -> Any:
    """Execute the insert and return its rows. Only SQLAlchemy makes one statement of several rows."""
    return execute(connection, insert, rows[0]) if len(rows) == 1 else connection.execute(insert, list(rows))


def _changed(connection: Connection, insert: Any, rows: Sequence[Row]) -> set[str]:
    """Execute the insert and return its ids."""
    return set(_done(connection, insert, rows).scalars()) if rows else set()


@lru_cache
def _replace_earlier_start(dialect: str) -> Any:
    """Insert a started attempt, or replace an earlier start by a worker that died or lost its lease."""
    insert = insert_into(dialect, steps)
    changed = {name: insert.excluded[name] for name in ("worker", "deliveries", "started_at")}
    is_later = and_(steps.c.status == STARTED, steps.c.deliveries <= insert.excluded.deliveries)
    return insert.on_conflict_do_update(index_elements=[steps.c.message_id], set_=changed, where=is_later)


def _without_repetitions(batch: Sequence[Event], new: set[str]) -> list[Event]:
    """Return the events without repeated dispatches."""
    kept = []
    for event in batch:
        if isinstance(event, WorkflowDispatched):
            if event.correlation_id not in new:
                continue
            new.remove(event.correlation_id)
        kept.append(event)
    return kept


def _keep_plans(connection: Connection, repeated: Sequence[Event]) -> None:
    """Insert the plans of repeated dispatches: the message of any of them may be the one that runs."""
    if rows := [_statement_row(event, event.proof) for event in repeated if event.proof is not None]:
        execute(connection, insert_new(connection.dialect.name, statements), rows)


def _inserts(batch: Sequence[Event]) -> dict[Table, list[Row]]:
    rows: dict[Table, list[Row]] = {}
    for event in batch:
        if event.proof is not None:
            rows.setdefault(statements, []).append(_statement_row(event, event.proof))
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


def _drop_unheard(connection: Connection, batch: Sequence[Event]) -> None:
    """Delete the signals of completed workflows, because no message waits for them any more.

    The signals of a failed workflow stay, because an operator may retry its step.
    """
    over = {event.correlation_id for event in batch if isinstance(event, WorkflowCompleted)}
    parents = {
        event.parent for event in batch if isinstance(event, WorkflowEnded) and event.parent and not event.branch
    }
    if parents:
        found = execute(connection, _OVER, {"ids": sorted(parents)})
        over |= set(found.scalars())
    if over:
        execute(connection, _UNHEARD, {"ids": sorted(over)})


_OVER = select(workflows.c.correlation_id).where(
    among(workflows.c.correlation_id, "ids"),
    or_(workflows.c.status == Status.COMPLETED.value, workflows.c.status == Status.CANCELLED.value),
)
_UNHEARD = delete(signals).where(among(signals.c.correlation_id, "ids"))


def _updates(batch: Sequence[Event]) -> list[tuple[Any, list[Row]]]:
    carried: list[Row] = []
    reversed_: list[Row] = []
    ended: list[Row] = []
    resumed: list[Row] = []
    refuted: list[Row] = []
    for event in batch:
        match event:
            case StepCompleted(variables=dict() as variables) | StepCompensated(variables=dict() as variables):
                carried.append({"id": event.correlation_id, "new_variables": variables, "new_updated_at": event.at})
            case CompensationStarted():
                reversed_.append(_reversal_row(event))
            case WorkflowEnded():
                ended.append(_end_row(event))
            case MessageResumed(wait_id=wait_id):
                resumed.append({"id": wait_id})
            case ProofFailed(key=kind, given={"said": str(said), "is": str(true)}) if kind == END:
                refuted.append({"id": event.correlation_id, "said": said, "new_status": true})
    statements = ((_REFUTE, refuted), (_CARRY, carried), (_REVERSE, reversed_), (_END, ended), (_RESUMED, resumed))
    return [(statement, rows) for statement, rows in statements if rows]


def _statement_row(event: Event, token: str) -> Row:
    return {
        "digest": digest(token.encode()),
        "correlation_id": event.correlation_id,
        "message_id": getattr(event, "message_id", None),
        "token": token,
        "at": event.at,
    }


def _reversal_row(event: CompensationStarted) -> Row:
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


_OF_THE_MESSAGE = ("queue", "body", "priority", "prefix", "broker")


def _wait_row(event: MessageHeld) -> Row:
    kept = ("wait_id", "correlation_id", "step_id", "activity", "key", "due_at", "detail", *_OF_THE_MESSAGE)
    return {name: getattr(event, name) for name in kept} | {"since": event.at}


def _join_row(event: MessageHeld, join: Join) -> Row:
    counts = {"total": join.total, "needed": join.needed, "completed": 0, "failed": 0}
    return {"correlation_id": event.correlation_id, "key": event.key, **counts}


def _branch_row(event: WorkflowDispatched, parent: str, branch: Branch) -> Row:
    place = {"correlation_id": parent, "key": branch.join, "place": branch.index}
    return place | {"workflow": event.correlation_id, "status": Status.RUNNING.value}


def _child_row(event: WorkflowEnded, parent: str) -> Row:
    """The signal for the parent, in case it waits for this child now or later."""
    key = child_key(event.correlation_id)
    return {"correlation_id": parent, "key": key, "value": told(event), "by": None, "at": event.at, "proof": None}


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
        "user_claimed": event.user,
        "introduced": INTRODUCED if event.introduced else None,
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
        "variables": None,  # the release before wrote all of them for each step
        "changes": getattr(event, "changes", None),
        "ahead": getattr(event, "ahead", None),
    }
