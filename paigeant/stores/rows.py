"""Rows of the store's tables as records.

Any program may write to the database, and SQLite keeps whatever it is given in any column. A value that cannot be what
it should be becomes nothing, so that one such row stops neither a reader nor a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row

from paigeant.events import Cancellation, ErrorInfo, LetterKind, StepFailed
from paigeant.records.offer import Offer
from paigeant.records.workflow import (
    DeadLetter,
    DoneStep,
    EventRecord,
    Held,
    ScheduleRecord,
    Status,
    StepRecord,
    WorkerRecord,
    WorkflowRecord,
)
from paigeant.transport import Outgoing
from paigeant.wire.usage import NOTHING, Usage

# --- values ----------------------------------------------------------------------------------------------------------


def text(value: Any, default: str = "") -> str:
    """Return the value if it is a text."""
    return value if isinstance(value, str) else default


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0.0


def whole(value: Any, default: int = 0) -> int:
    """Return the value if it is a whole number."""
    return value if isinstance(value, int) else default


def time(value: Any) -> float | None:
    """Return the value if it is a time."""
    return value if isinstance(value, int | float) else None


def octets(value: Any) -> bytes:
    """Return the value if it is bytes, or a text as bytes."""
    return value if isinstance(value, bytes) else text(value).encode(errors="replace")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def status_of(value: Any) -> Status:
    """Return the status. An unknown one counts as open."""
    try:
        return Status(value)
    except ValueError:
        return Status.RUNNING


def _error(value: Any) -> ErrorInfo | None:
    try:
        return ErrorInfo(**value) if value else None
    except TypeError:
        return ErrorInfo(type="Unreadable", message=str(value)[:200])


def cancellation(value: Any) -> Cancellation | None:
    """Return the cancellation in a row, or None."""
    try:
        return Cancellation(**value) if value else None
    except TypeError:
        return Cancellation(at=0.0, reason="unreadable")


# --- records ---------------------------------------------------------------------------------------------------------


def outgoing(row: Row[Any], now: float) -> Outgoing:
    """Return a message of the outbox."""
    return Outgoing(
        queue=text(row.queue),
        body=octets(row.body),
        id=row.message_id,
        headers=_mapping(row.headers),
        priority=whole(row.priority),
        delay=max(0.0, _number(row.due_at) - now),
    )


def parked_row(row: Row[Any], value: Any, proof: Any = None) -> Held:
    """Return a waiting message and its value, with the proof of that (default: the row's)."""
    return Held(
        wait_id=row.wait_id,
        correlation_id=text(row.correlation_id),
        step_id=text(row.step_id),
        activity=text(row.activity),
        key=text(row.key),
        due_at=time(row.due_at),
        detail=row.detail,
        queue=text(row.queue),
        body=octets(row.body),
        priority=whole(row.priority),
        since=_number(row.since),
        value=value,
        proof=text(row.proof if proof is None else proof) or None,
    )


def workflow(row: Row[Any]) -> WorkflowRecord:
    """Return a workflow without its steps."""
    return WorkflowRecord(
        correlation_id=text(row.correlation_id),
        name=text(row.name),
        app=text(row.app),
        status=status_of(row.status),
        created_at=_number(row.created_at),
        updated_at=_number(row.updated_at),
        finished_at=time(row.finished_at),
        variables=_mapping(row.variables),
        output=row.output,
        error=_error(row.error),
        cancellation=cancellation(row.cancel),
        parent=text(row.parent) or None,
        used=usage(row.used),
        forked_from=text(row.forked_from) or None,
        user=_user(row.user_claimed),
        introduced=row.introduced == 1,
    )


def _user(value: Any) -> dict[str, str] | None:
    said = {name: one for name, one in _mapping(value).items() if isinstance(one, str)}
    return said if said.keys() == {"issuer", "subject"} else None


def usage(value: Any) -> Usage:
    """Return the usage; zero if none is recorded."""
    try:
        return Usage.from_dict(_mapping(value))
    except ValidationError:
        return NOTHING


def step(row: Row[Any]) -> StepRecord:
    """Return an attempt of a step."""
    return StepRecord(
        id=text(row.step_id),
        activity=text(row.activity),
        status=text(row.status),
        attempt=whole(row.attempt, 1),
        deliveries=whole(row.deliveries),
        output=row.output,
        error=_error(row.error),
        started_at=time(row.started_at),
        finished_at=time(row.finished_at),
        worker=text(row.worker) or None,
        message_id=text(row.message_id) or None,
        heading=text(row.heading, "forward"),
    )


def event(row: Row[Any]) -> EventRecord:
    """Return a recorded event."""
    return EventRecord(
        offset=row.id,
        type=text(row.type),
        correlation_id=text(row.correlation_id),
        at=_number(row.at),
        data=_mapping(row.data),
    )


def dead_letter(row: Row[Any]) -> DeadLetter:
    """Return a dead letter."""
    return DeadLetter(
        id=row.id,
        kind=_kind(row.kind),
        correlation_id=text(row.correlation_id),
        message_id=text(row.message_id) or None,
        queue=text(row.queue),
        reason=text(row.reason),
        body=octets(row.body),
        worker=text(row.worker),
        deliveries=whole(row.deliveries),
        at=_number(row.at),
        activity=text(row.activity),
        step_id=text(row.step_id),
        heading=text(row.heading, "forward"),
        error=_error(row.error),
        claimed=text(row.claimed),
        code=text(row.code),
    )


def _kind(value: Any) -> LetterKind:
    try:
        return LetterKind(value)
    except ValueError:
        return LetterKind.REFUSED


def done_step(row: Row[Any]) -> DoneStep:
    """Return a completed step."""
    return DoneStep(
        id=text(row.step_id),
        activity=text(row.activity),
        output=row.output,
        message_id=text(row.message_id),
        attempt=whole(row.attempt, 1),
        worker=text(row.worker),
        started_at=_number(row.started_at),
        finished_at=_number(row.finished_at),
        variables=row.variables if isinstance(row.variables, dict) else None,
        changes=_changes(row.changes),
        ahead=row.ahead if isinstance(row.ahead, list) else None,
        error=_error(row.error) if row.status == StepFailed.status else None,
    )


def _changes(value: Any) -> dict[str, Any] | None:
    """Return the changes to the variables, or None for any other value."""
    if not isinstance(value, dict):
        return None
    return {"set": _mapping(value.get("set")), "deleted": list(_texts(value.get("deleted")))}


def worker(row: Row[Any], alive_since: float) -> WorkerRecord:
    """Return a worker. It is alive if it was seen since then."""
    seen_at = _number(row.seen_at)
    return WorkerRecord(
        id=text(row.id),
        app=text(row.app),
        host=text(row.host),
        pid=whole(row.pid),
        activities=_texts(row.activities),
        queues=_texts(row.queues),
        concurrency=whole(row.concurrency),
        started_at=_number(row.started_at),
        seen_at=seen_at,
        code=text(row.code),
        offers=_offers(row.offers),
        policy=text(row.policy),
        alive=seen_at >= alive_since,
    )


def _offers(value: Any) -> tuple[Offer, ...]:
    return tuple(_offer(one) for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _offer(data: Mapping[str, Any]) -> Offer:
    return Offer(
        name=text(data.get("name")),
        queue=text(data.get("queue")),
        description=text(data.get("description")),
        input=_mapping(data.get("input")),
        output=_mapping(data.get("output")),
        version=text(data.get("version")),
        scopes=_texts(data.get("scopes")),
        proof=text(data.get("proof")) or None,
    )


def schedule(row: Row[Any]) -> ScheduleRecord:
    """Return a schedule."""
    return ScheduleRecord(
        app=text(row.app),
        name=text(row.name),
        definition=_mapping(row.definition),
        next_at=time(row.next_at),
        paused=bool(row.paused),
        orphaned=bool(row.orphaned),
        last_at=time(row.last_at),
        last_id=text(row.last_id) or None,
        error=text(row.error) or None,
    )
