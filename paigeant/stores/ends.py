"""The end of a workflow as values: for its own row, and for the message that waits for it."""

from __future__ import annotations

from typing import Any

from paigeant.events import (
    ErrorInfo,
    WorkflowCancelled,
    WorkflowCompensated,
    WorkflowCompleted,
    WorkflowEnded,
    WorkflowFailed,
)
from paigeant.records.workflow import Status


def end_of(event: WorkflowEnded) -> tuple[Status, Any, ErrorInfo | None]:
    """Return the final status, and the output or error."""
    match event:
        case WorkflowCompleted(output=output):
            return Status.COMPLETED, output, None
        case WorkflowFailed(error=error):
            return Status.FAILED, None, error
        case WorkflowCancelled():
            return Status.CANCELLED, None, None
        case WorkflowCompensated(error=error, left=left):
            return Status.COMPENSATION_INCOMPLETE if left else Status.COMPENSATED, None, error
        case _:
            raise NotImplementedError(event.type)


def told(event: WorkflowEnded) -> dict[str, Any]:
    """Return what the parent receives when a child or branch ends."""
    status, output, error = end_of(event)
    why = {"type": error.type, "message": error.message} if error else None
    return {"status": status.value, "output": output, "error": why, "used": dict(event.used)}
