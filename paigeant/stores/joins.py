"""Joins and their branches as rows. Every function runs in a transaction of its caller.

The row of a join exists from the transaction that dispatches its branches to the one that decides it. A transaction
that counts an end or decides the join locks this row, so the join is decided once. Branches that still run are
cancelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from paigeant.events import Cancellation, WorkflowCompleted, WorkflowEnded
from paigeant.records.workflow import Status
from paigeant.stores import journals
from paigeant.stores.ends import told
from paigeant.stores.steering import Note, stop
from paigeant.stores.tables import branches, joins, signals
from paigeant.wire.join import Join
from paigeant.wire.usage import total

_RUNNING = Status.RUNNING.value

_COUNT = (
    update(branches)
    .where(
        branches.c.correlation_id == bindparam("of"),
        branches.c.key == bindparam("join"),
        branches.c.place == bindparam("at"),
    )
    .values(
        status=bindparam("now"),
        output=bindparam("gave"),
        error=bindparam("why"),
        standing=bindparam("stands"),
        used=bindparam("spent"),
    )
)


def lock(connection: Connection, ended: Sequence[WorkflowEnded]) -> None:
    """Lock the joins of these branches until the transaction ends."""
    for correlation_id, key in sorted(_by_join(ended)):  # all lock in one order
        _locked(connection, correlation_id, key)


def count(connection: Connection, note: Note, ended: Sequence[WorkflowEnded]) -> None:
    """Count each of these ends once, and decide the joins that have enough of them."""
    for (correlation_id, key), events in _by_join(ended).items():
        _count_in(connection, note, correlation_id, key, events)


def _by_join(ended: Sequence[WorkflowEnded]) -> dict[tuple[str, str], list[WorkflowEnded]]:
    """Return the ends of branches, grouped by their joins."""
    of_join = defaultdict[tuple[str, str], list[WorkflowEnded]](list)
    for event in ended:
        if event.parent is not None and event.branch is not None:
            of_join[event.parent, event.branch.join].append(event)
    return of_join


def _count_in(
    connection: Connection, note: Note, correlation_id: str, key: str, events: Sequence[WorkflowEnded]
) -> None:
    row = _locked(connection, correlation_id, key)
    if row is None:  # it is decided
        return
    running = _running(connection, correlation_id, key, [event.correlation_id for event in events])
    new = {
        event.branch.index: event
        for event in events
        if event.branch is not None and running.get(event.branch.index) == event.correlation_id
    }
    if not new:
        return
    connection.execute(_COUNT, [_end_of(correlation_id, key, place, event) for place, event in new.items()])
    completed = row.completed + sum(isinstance(event, WorkflowCompleted) for event in new.values())
    failed = row.failed + len(new) - (completed - row.completed)
    if Join(row.total, row.needed).is_decided(completed, failed):
        at = events[-1].at
        value = decide(connection, note, correlation_id, key, at)
        signal = {"correlation_id": correlation_id, "key": key, "value": value, "by": None, "at": at, "proof": None}
        connection.execute(insert(signals), signal)
    else:
        counted = update(joins).where(_of(joins, correlation_id, key))
        connection.execute(counted.values(completed=completed, failed=failed))


def _running(connection: Connection, correlation_id: str, key: str, ended: Sequence[str]) -> dict[int, str]:
    """Return the places of those of these workflows that the join has recorded as its running branches.

    The end of any other workflow does not count, whatever its message says about its place.
    """
    found = select(branches.c.place, branches.c.workflow).where(_of(branches, correlation_id, key))
    found = found.where(branches.c.status == _RUNNING, branches.c.workflow.in_(ended))
    return {row.place: row.workflow for row in connection.execute(found)}


def overdue(connection: Connection, note: Note, correlation_id: str, key: str, now: float) -> Any:
    """Return the value for a message that waited for this join until its deadline, even if it was just decided."""
    if _locked(connection, correlation_id, key) is not None:
        return decide(connection, note, correlation_id, key, now)
    taken = delete(signals).where(_of(signals, correlation_id, key)).returning(signals.c.value)
    return connection.execute(taken).scalar()


def decide(connection: Connection, note: Note, correlation_id: str, key: str, now: float) -> list[dict[str, Any]]:
    """Decide the join and cancel the branches that still run. Returns how each branch ended, in their order."""
    ended = delete(branches).where(_of(branches, correlation_id, key)).returning(branches)
    rows = sorted(connection.execute(ended).all(), key=lambda row: row.place)
    connection.execute(delete(joins).where(_of(joins, correlation_id, key)))
    if losers := [row.workflow for row in rows if row.status == _RUNNING]:
        decided = Cancellation(at=now, reason="decided without this branch", by=None, compensate=True)
        stop(connection, note, losers, decided)
    running = {row.workflow: _used_so_far(connection, row.workflow) for row in rows if row.status == _RUNNING}
    return [_result(row, running.get(row.workflow, row.used)) for row in rows]


def _used_so_far(connection: Connection, workflow: str) -> dict[str, Any]:
    """Return the usage of a branch that has not ended."""
    return total(unit.usage for unit in journals.of_workflow(connection, workflow)).to_dict()


def _locked(connection: Connection, correlation_id: str, key: str) -> Any:
    return connection.execute(select(joins).where(_of(joins, correlation_id, key)).with_for_update()).first()


def _of(table: Any, correlation_id: str, key: str) -> Any:
    return and_(table.c.correlation_id == correlation_id, table.c.key == key)


def _end_of(correlation_id: str, key: str, place: int, event: WorkflowEnded) -> dict[str, Any]:
    end = told(event)
    return {
        "of": correlation_id,
        "join": key,
        "at": place,
        "now": end["status"],
        "gave": end["output"],
        "why": end["error"],
        "stands": event.standing if isinstance(event, WorkflowCompleted) else None,
        "spent": event.used or None,
    }


def _result(row: Any, used: Any) -> dict[str, Any]:
    """Make the fields of a :class:`~paigeant.wire.join.BranchResult`, with its usage and what can be undone, if any."""
    spent = {"used": used} if used else {}
    if row.status == Status.COMPLETED.value:
        return {"output": row.output} | ({"standing": row.standing} if row.standing else {}) | spent
    status = Status.CANCELLED.value if row.status == _RUNNING else row.status
    return {"status": status, "error": row.error, "workflow": row.workflow} | spent
