"""How cancels and pauses meet the events that steps record. Every function runs in a transaction of its caller.

A transaction that ends a workflow, parks a message of it, dispatches a child from it or steers it locks its row first.
So each sees what the other has done: one end is recorded, and no message waits in a workflow that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from paigeant.database.among import among, one_of
from paigeant.decisions.forward import PAUSE
from paigeant.events import (
    Cancellation,
    CancelRequested,
    CompensationStarted,
    Event,
    MessageHeld,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowDispatched,
    WorkflowEnded,
    WorkflowPaused,
    WorkflowResumed,
)
from paigeant.records.trust import CANCEL, NO_ORDER, ProofFailed
from paigeant.records.workflow import Status, Steered
from paigeant.stores import rows
from paigeant.stores.tables import branches, joins, signals, waits, workflows
from paigeant.wire.join import Branch

Note = Callable[[Connection, Sequence[Event]], None]
"""Records events."""

WorkflowRow = Any
"""The columns that steering reads of a workflow: ``correlation_id, status, cancel, parent, variables``."""

_OPEN = (Status.RUNNING, Status.PAUSED)
"""The statuses of a workflow that can be cancelled."""

_AT_ONCE = 0.0
"""A time that is past by every clock."""

_STANDINGS = (
    select(*(workflows.c[name] for name in ("correlation_id", "status", "cancel", "parent", "variables")))
    .where(among(workflows.c.correlation_id, "ids"))
    .order_by(workflows.c.correlation_id)
    .with_for_update()
)
_INHERIT = (
    update(workflows)
    .where(workflows.c.correlation_id == bindparam("id"))
    .values(cancel=bindparam("mark"), status=bindparam("stands"))
)


def lock(connection: Connection, ids: Collection[str]) -> dict[str, WorkflowRow]:
    """Lock these workflows until the transaction ends. Returns their rows by id."""
    return {row.correlation_id: row for row in connection.execute(_STANDINGS, {"ids": ids})}


def refute(connection: Connection, batch: Sequence[Event]) -> None:
    """Take back each cancellation and pause that a worker has found without an order, if it is still there."""
    failed = {one.correlation_id: one for one in batch if isinstance(one, ProofFailed) and one.code == NO_ORDER}
    for id, row in lock(connection, failed).items() if failed else ():  # noqa: A001
        event, mark = failed[id], rows.cancellation(row.cancel)
        given = event.given if isinstance(event.given, dict) else {}
        if given.get("said") != row.status or given.get("cancelled_at") != (mark.at if mark is not None else None):
            continue
        values = {"status": str(given["is"]), "finished_at": None, "output": None}
        if event.key == CANCEL:
            values["cancel"] = None
        connection.execute(update(workflows).where(workflows.c.correlation_id == id).values(values))


# --- what steps record ------------------------------------------------------------------------------------------------


def reconcile(connection: Connection, batch: Sequence[Event]) -> Sequence[Event]:
    """Lock the workflows of these events, and return the events as they must be recorded.

    An ended workflow does not end again, and no message waits in it. A message that would wait in a cancelled workflow,
    or for the end of a pause that is over, is due at once. A child of a cancelled or paused workflow is so, too.
    """
    concerned = {id for event in batch if (id := _concerned(event)) is not None}  # noqa: A001
    if not concerned:
        return batch
    locked = lock(connection, concerned)
    if marks := [mark for event in batch if (mark := _inherited(event, locked)) is not None]:
        connection.execute(_INHERIT, marks)
    over = {id for id, row in locked.items() if rows.status_of(row.status).is_terminal}  # noqa: A001
    batch = [one for event in batch for one in _reversed(event, locked, over)]
    return [one for event in batch if (one := _reconciled(event, locked, over)) is not None]


def _concerned(event: Event) -> str | None:
    """Return the workflow whose status decides what is recorded for the event."""
    match event:
        case WorkflowDispatched():
            return event.parent
        case WorkflowEnded() | CompensationStarted() | MessageHeld():
            return event.correlation_id
        case _:
            return None


def _inherited(event: Event, locked: Mapping[str, WorkflowRow]) -> dict[str, Any] | None:
    """Return what a new child inherits from its parent, if that is cancelled or paused."""
    if not isinstance(event, WorkflowDispatched) or event.parent is None or event.parent not in locked:
        return None
    parent = locked[event.parent]
    status = Status.PAUSED if parent.status == Status.PAUSED.value else Status.RUNNING
    if parent.cancel is None and status is Status.RUNNING:
        return None
    return {"id": event.correlation_id, "mark": parent.cancel, "stands": status.value}


def _reversed(event: Event, locked: Mapping[str, WorkflowRow], over: Collection[str]) -> Sequence[Event]:
    """Return the event. The completion of a workflow that must be compensated is replaced by the start of that."""
    if not isinstance(event, WorkflowCompleted) or not event.instead or event.correlation_id in over:
        return [event]
    cancellation = rows.cancellation(locked[event.correlation_id].cancel)
    return [event] if cancellation is None or not cancellation.compensate else event.instead


def _reconciled(event: Event, locked: Mapping[str, WorkflowRow], over: set[str]) -> Event | None:
    match event:
        case WorkflowEnded() | CompensationStarted() | MessageHeld() if event.correlation_id in over:
            return None
        case WorkflowEnded():
            over.add(event.correlation_id)
            return _as_dispatched(event, locked.get(event.correlation_id))
        case MessageHeld() if _must_go_on(event, locked.get(event.correlation_id)):
            return replace(event, due_at=_AT_ONCE)
    return event


def _as_dispatched(event: WorkflowEnded, row: WorkflowRow | None) -> WorkflowEnded:
    """Return the end of a workflow. It concerns a parent only if the store has recorded that this parent dispatched it.

    The event has the parent that the message names, and anybody can write a message.
    """
    recorded = rows.text(row.parent) if row is not None else ""
    if event.parent is None or event.parent == recorded:
        return event
    return replace(event, parent=None, branch=None)


def _must_go_on(event: MessageHeld, row: WorkflowRow | None) -> bool:
    if row is None:
        return False
    if event.key == PAUSE and row.status != Status.PAUSED.value:
        return True
    return row.cancel is not None and row.status != Status.COMPENSATING.value


# --- what callers ask for ---------------------------------------------------------------------------------------------


def cancel(
    connection: Connection, note: Note, correlation_id: str, cancellation: Cancellation, proof: str | None = None
) -> Steered | None:
    """See :meth:`paigeant.store.Steering.cancel`."""
    row = lock(connection, [correlation_id]).get(correlation_id)
    if row is None:
        return None
    status = rows.status_of(row.status)
    if status not in _OPEN:
        return Steered(status=status)
    return Steered(status=status, recorded=stop(connection, note, [correlation_id], cancellation, proof))


def stop(
    connection: Connection, note: Note, ids: Collection[str], cancellation: Cancellation, proof: str | None = None
) -> Sequence[Event]:
    """Cancel these workflows, and those they dispatched, unless they have ended.

    ``proof`` is the signed order about the first of them.
    """
    family, first = _family(connection, ids), next(iter(ids), None)
    still_open = [row for row in family.values() if rows.status_of(row.status) in _OPEN]
    ids = [row.correlation_id for row in still_open]
    marked = update(workflows).where(one_of(workflows.c.correlation_id, ids))
    connection.execute(marked.values(cancel=asdict(cancellation)))
    places = {} if cancellation.compensate else _branches(connection, ids)
    events = [_cancelled(row, cancellation, places.get(row.correlation_id)) for row in still_open]
    events = [replace(one, proof=proof) if one.correlation_id == first else one for one in events]
    note(connection, events)
    if cancellation.compensate:
        connection.execute(_due(ids, cancellation.at))
    else:
        for table in (waits, signals, joins, branches):
            connection.execute(delete(table).where(one_of(table.c.correlation_id, ids)))
    return events


def _family(connection: Connection, ids: Collection[str]) -> dict[str, WorkflowRow]:
    """Lock the workflows and all their descendants, from the top, so that no child can be added meanwhile."""
    family: dict[str, WorkflowRow] = {}
    while found := lock(connection, ids):
        family |= found
        children = select(workflows.c.correlation_id).where(one_of(workflows.c.parent, found))
        ids = set(connection.execute(children).scalars()) - family.keys()
    return family


def _cancelled(row: WorkflowRow, cancellation: Cancellation, branch: Branch | None) -> Event:
    said = {"correlation_id": row.correlation_id, "at": cancellation.at}
    said |= {"reason": cancellation.reason, "by": cancellation.by}
    if cancellation.compensate:
        return CancelRequested(**said)
    return WorkflowCancelled(**said, variables=row.variables, parent=row.parent, branch=branch)


def _branches(connection: Connection, ids: Collection[str]) -> dict[str, Branch]:
    """Return the places of these workflows in the open joins of their parents."""
    found = connection.execute(select(branches).where(one_of(branches.c.workflow, ids)))
    return {row.workflow: Branch(join=row.key, index=row.place) for row in found}


def _due(ids: Collection[str], now: float) -> Any:
    """The statement that makes the messages that wait in these workflows due."""
    waiting = update(waits).where(one_of(waits.c.correlation_id, ids), waits.c.fired_at.is_(None))
    return waiting.values(due_at=now)


def pause(
    connection: Connection, note: Note, correlation_id: str, by: str | None, now: float, proof: str | None = None
) -> Steered | None:
    """See :meth:`paigeant.store.Steering.pause`."""
    row = lock(connection, [correlation_id]).get(correlation_id)
    if row is None:
        return None
    status = rows.status_of(row.status)
    if not _goes_on(row):
        return Steered(status=status)
    family = [one for one in _family(connection, [correlation_id]).values() if _goes_on(one)]
    proofs = {correlation_id: proof}
    ids = [one.correlation_id for one in family]
    events = [WorkflowPaused(correlation_id=one, at=now, by=by, proof=proofs.get(one)) for one in ids]
    return _moved(connection, note, status, Status.PAUSED, events)


def _goes_on(row: WorkflowRow) -> bool:
    """Return whether the workflow can be paused."""
    return rows.status_of(row.status) is Status.RUNNING and row.cancel is None


def resume(
    connection: Connection, note: Note, correlation_id: str, by: str | None, now: float, proof: str | None = None
) -> Steered | None:
    """See :meth:`paigeant.store.Steering.resume`."""
    row = lock(connection, [correlation_id]).get(correlation_id)
    if row is None:
        return None
    status = rows.status_of(row.status)
    if status is not Status.PAUSED:
        return Steered(status=status)
    family = _family(connection, [correlation_id]).values()
    paused = [one.correlation_id for one in family if rows.status_of(one.status) is Status.PAUSED]
    connection.execute(_due(paused, now).where(waits.c.key == PAUSE))
    proofs = {correlation_id: proof}
    events = [WorkflowResumed(correlation_id=one, at=now, by=by, proof=proofs.get(one)) for one in paused]
    return _moved(connection, note, status, Status.RUNNING, events)


def _moved(connection: Connection, note: Note, before: Status, after: Status, events: Sequence[Event]) -> Steered:
    change = update(workflows).where(one_of(workflows.c.correlation_id, [event.correlation_id for event in events]))
    connection.execute(change.values(status=after.value, updated_at=events[0].at))
    note(connection, events)
    return Steered(status=before, recorded=events)


def cancellations(reader: Connection, ids: Collection[str]) -> dict[str, Cancellation]:
    """Return the cancellations of those workflows that were cancelled."""
    query = select(workflows.c.correlation_id, workflows.c.cancel)
    query = query.where(one_of(workflows.c.correlation_id, ids), workflows.c.cancel.is_not(None))
    found = {row.correlation_id: rows.cancellation(row.cancel) for row in reader.execute(query)}
    return {correlation_id: one for correlation_id, one in found.items() if one is not None}
