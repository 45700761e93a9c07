"""What the suite writes into a store: the least that each kind of fact has to say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from paigeant.decisions.limit import Limit, Lock, wanted_data
from paigeant.events import (
    DeadLetterRedriven,
    ErrorInfo,
    LetterKind,
    MessageDeadLettered,
    MessageHeld,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCompleted,
    WorkflowDispatched,
    WorkflowFailed,
)
from paigeant.records.journal import Turn, Unit
from paigeant.records.offer import Offer
from paigeant.records.workflow import WorkerRecord
from paigeant.store import Store
from paigeant.transport import Outgoing
from paigeant.wire.usage import Usage

ALONE = Limit()


@asynccontextmanager
async def connected(store: Store) -> AsyncGenerator[None]:
    """While the store is in use."""
    await store.connect()
    try:
        yield
    finally:
        await store.close()


def dispatched(name: str, at: float = 1.0, parent: str | None = None) -> WorkflowDispatched:
    itinerary = [{"id": step, "name": "a", "queue": "q"} for step in ("1", "2")]
    return WorkflowDispatched(
        correlation_id=name,
        at=at,
        name="test",
        app="shop",
        message_id=f"{name}-1",
        variables={"v": 1},
        itinerary=itinerary,
        parent=parent,
    )


def hold_of(name: str, key: str, id: str = "") -> MessageHeld:  # noqa: A002
    about: dict[str, Any] = {"step_id": "1", "activity": "a", "queue": "q", "body": b"{}"}
    return MessageHeld(correlation_id=name, at=2.0, wait_id=id or f"{name}-{key}", key=key, **about)


def step_of(name: str, step: str, worker: str) -> dict[str, Any]:
    about = {"message_id": f"{name}-{step}", "step_id": step, "activity": "a", "attempt": 1, "worker": worker}
    return {"correlation_id": name, "at": 2.0, **about}


def started(name: str, worker: str, deliveries: int = 1) -> StepStarted:
    return StepStarted(**step_of(name, "1", worker) | {"deliveries": deliveries})


def completed(name: str, step: str = "1", output: Any = None, worker: str = "w", deliveries: int = 1) -> StepCompleted:
    value = {"x": [1, None]} if output is None else output
    known = step_of(name, step, worker) | {"deliveries": deliveries}
    return StepCompleted(**known, started_at=1.5, output=value)


def fails(name: str) -> StepFailed:
    return StepFailed(**step_of(name, "1", "w"), started_at=1.5, error=ErrorInfo(type="OSError", message="no"))


def failed(name: str) -> WorkflowFailed:
    return WorkflowFailed(correlation_id=name, at=3.0, error=ErrorInfo(type="OSError", message="no"))


def letter_of(name: str, kind: LetterKind = LetterKind.EXHAUSTED, reason: str = "OSError: no") -> MessageDeadLettered:
    about: dict[str, Any] = {"message_id": f"{name}-1", "queue": "q", "body": b"\x00{}", "worker": "w"}
    step: dict[str, Any] = {"activity": "a", "step_id": "1", "error": ErrorInfo(type="OSError", message="no")}
    return MessageDeadLettered(correlation_id=name, at=4.0, kind=kind, reason=reason, **about, **step)


def redrive_of(name: str, letter: int) -> DeadLetterRedriven:
    about: dict[str, Any] = {"message_id": f"{name}-again", "step_id": "1", "activity": "a", "epoch": 1}
    return DeadLetterRedriven(correlation_id=name, at=5.0, letter=letter, **about)


def retried(name: str, attempt: int) -> StepRetried:
    error = ErrorInfo(type="OSError", message="no")
    about = step_of(name, f"1-{attempt}", "w")
    return StepRetried(**about, started_at=1.0 + attempt, error=error, delay=0.0)


def end_of(name: str) -> WorkflowCompleted:
    return WorkflowCompleted(correlation_id=name, at=9.0, output="done")


def message_of(name: str, queue: str = "q", **options: Any) -> Outgoing:
    return Outgoing(queue=queue, body=b"{}\xff", id=name, **options)


def first_of(name: str) -> Outgoing:
    return message_of(f"{name}-1")


OFFER = Offer(
    name="a", queue="q", description="Does a.", input={"type": "object"}, version="0123456789ab", scopes=("a:do",)
)


def worker_of(name: str, started_at: float = 1.0) -> WorkerRecord:
    return WorkerRecord(
        id=name,
        app="shop",
        host="h",
        pid=1,
        activities=("a",),
        queues=("q",),
        concurrency=1,
        started_at=started_at,
        seen_at=started_at,
        code="0123456789ab",
        offers=(OFFER,),
    )


def lock_of(holder: str, worker: str = "a", key: str = "lock:k", limit: Limit = ALONE) -> Lock:
    return Lock(key=key, holder=holder, worker=worker, limit=limit)


def turn_of(workflow: str, holder: str, **order: Any) -> Turn:
    order = {"epoch": 0, "attempt": 1, "resumes": 0, "deliveries": 1} | order
    return Turn(correlation_id=workflow, step_id="1", holder=holder, **order)


def unit_of(key: str) -> Unit:
    usage = Usage(requests=1, input_tokens=5)
    return Unit(key=key, name="model", digest="d", value={"said": ["\x00", 1]}, usage=usage, worker="w")


async def takes(store: Store, lock: Lock) -> bool:
    return await store.take_locks([lock], 60) is None


async def granted_ids(store: Store, key: str | None = None) -> list[str]:
    return [one.wait_id for one in (await store.grant_locks(60, key))[0]]


def waiting(
    wait_id: str, workflow: str, at: float, key: str = "lock:k", wanted: Sequence[Lock] | None = None
) -> MessageHeld:
    about: dict[str, Any] = {
        "correlation_id": workflow,
        "at": at,
        "step_id": "1",
        "activity": "a",
        "queue": "q",
        "body": b"m",
    }
    detail = None if wanted is None else wanted_data(wanted)
    return MessageHeld(**about, wait_id=wait_id, key=key, detail=detail)
