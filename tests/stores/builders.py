"""Facts about workflows, as workers would record them."""

from __future__ import annotations

from typing import Any

from paigeant.events import (
    ErrorInfo,
    LetterKind,
    MessageDeadLettered,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCompleted,
    WorkflowDispatched,
    WorkflowFailed,
)
from paigeant.records.workflow import WorkerRecord
from paigeant.transport import Outgoing

BROKEN = ErrorInfo(type="ValueError", message="no", traceback="Traceback ...")


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds


def dispatched(id: str = "w1", at: float = 1.0, **fields: Any) -> WorkflowDispatched:  # noqa: A002
    given: dict[str, Any] = {
        "name": "onboarding",
        "app": "shop",
        "message_id": f"{id}-1",
        "variables": {"email": "a@b.c"},
        "itinerary": [{"id": "1", "name": "a", "queue": "shop.a"}, {"id": "2", "name": "b", "queue": "shop.b"}],
    }
    return WorkflowDispatched(correlation_id=id, at=at, **given | fields)


def _step(id: str, step: str, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
    names = {"1": "a", "2": "b"}
    about = {
        "correlation_id": id,
        "message_id": f"{id}-{step}",
        "step_id": step,
        "activity": names.get(step, "c"),
        "attempt": 1,
        "worker": "w",
        "at": 3.0,
    }
    return about | fields


def started(id: str = "w1", step: str = "1", **fields: Any) -> StepStarted:  # noqa: A002
    return StepStarted(**_step(id, step, {"at": 2.0} | fields))


def completed(id: str = "w1", step: str = "1", **fields: Any) -> StepCompleted:  # noqa: A002
    return StepCompleted(**_step(id, step, {"started_at": 2.0, "output": {"x": 1}} | fields))


def failed(id: str = "w1", step: str = "1", **fields: Any) -> StepFailed:  # noqa: A002
    return StepFailed(**_step(id, step, {"started_at": 2.0, "error": BROKEN} | fields))


def retried(id: str = "w1", step: str = "1", **fields: Any) -> StepRetried:  # noqa: A002
    return StepRetried(**_step(id, step, {"started_at": 2.0, "error": BROKEN, "delay": 1.5} | fields))


def workflow_completed(id: str = "w1", **fields: Any) -> WorkflowCompleted:  # noqa: A002
    return WorkflowCompleted(
        **{"correlation_id": id, "at": 9.0, "output": [1, None], "variables": {"done": True}} | fields
    )


def workflow_failed(id: str = "w1", **fields: Any) -> WorkflowFailed:  # noqa: A002
    return WorkflowFailed(**{"correlation_id": id, "at": 9.0, "error": BROKEN, "variables": {}} | fields)


def dead_lettered(**fields: Any) -> MessageDeadLettered:
    kind = LetterKind.UNREADABLE
    about = {
        "correlation_id": "",
        "at": 5.0,
        "kind": kind,
        "message_id": None,
        "queue": "shop.a",
        "reason": "MalformedMessage: x",
    }
    return MessageDeadLettered(**about | {"body": b"\x00\xff", "worker": "w", "deliveries": 2} | fields)


def outgoing(id: str = "w1-2", **fields: Any) -> Outgoing:  # noqa: A002
    return Outgoing(**{"queue": "shop.b", "body": b"{}\xff", "id": id} | fields)


def worker(id: str = "worker-1", **fields: Any) -> WorkerRecord:  # noqa: A002
    about: dict[str, Any] = {
        "app": "shop",
        "host": "h",
        "pid": 7,
        "activities": ("a", "b"),
        "queues": ("shop.a", "shop.b"),
        "concurrency": 10,
        "started_at": 1.0,
        "seen_at": 1.0,
        "code": "0123456789ab",
    }
    return WorkerRecord(id=id, **about | fields)


async def types(store: Any) -> list[str]:
    """The types of the events of the workflow "w1", in order."""
    return [event.type for event in await store.events("w1")]
