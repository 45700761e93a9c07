"""The end of a workflow as values: for its own row, and for the message that waits for it."""

from __future__ import annotations

from typing import Any

from paigeant.events import ErrorInfo, WorkflowCompensated, WorkflowCompleted, WorkflowEnded, WorkflowFailed
from paigeant.records.workflow import Status, status_after


def end_of(event: WorkflowEnded) -> tuple[Status, Any, ErrorInfo | None]:
    """Return the final status, and the output or error."""
    output = event.output if isinstance(event, WorkflowCompleted) else None
    error = event.error if isinstance(event, WorkflowFailed | WorkflowCompensated) else None
    return status_after(event), output, error


def told(event: WorkflowEnded) -> dict[str, Any]:
    """Return what the parent receives when a child or branch ends."""
    status, output, error = end_of(event)
    why = {"type": error.type, "message": error.message} if error else None
    return {"status": status.value, "output": output, "error": why, "used": dict(event.used)}
