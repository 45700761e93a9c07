"""The way back: decides what follows when a workflow fails, and when a compensation completes or fails.

Pure: takes a message and the outcome of its attempt, returns a plan. The settlement of the failed step's message also
reverses the slip, so no attempt of that step can be accepted once compensations are on their way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from paigeant.decisions.outcome import Completed
from paigeant.decisions.plan import Reversal, Send, SetAside, Settle
from paigeant.events import (
    Cancellation,
    CompensationStarted,
    ErrorInfo,
    LetterKind,
    StepCompensated,
    StepEnded,
    StepFailed,
    WorkflowCancelled,
    WorkflowCompensated,
    WorkflowFailed,
)
from paigeant.wire.log import Fault
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import RoutingSlip

CANCELLED = "WorkflowCancelled"
"""The type of the error with which a slip heads back that nothing but somebody's wish has turned."""

_LONGEST_TEXT = 500
"""Characters of the error's text that travel with the slip; the store has all of it."""


def reverse(message: PaigeantMessage, failed: StepFailed) -> Settle:
    """Reverse the slip after this failure. If there is nothing to compensate, the workflow has failed.

    Then the message is stored as a dead letter, so that the step can be redriven.
    """
    if (plan := _reversal(message, failed, failed.error)) is not None:
        return plan
    # A branch that failed is for the step to judge that scattered it.
    kept = SetAside.failed(LetterKind.EXHAUSTED, failed.error) if message.branch is None else None
    return Settle(record=(failed, _failed(message, failed)), set_aside=kept)


def cancel(message: PaigeantMessage, ended: StepEnded, cancellation: Cancellation) -> Settle:
    """Reverse the slip if that is requested and there is something to compensate; otherwise the workflow ends."""
    error = ErrorInfo(type=CANCELLED, message=str(cancellation))
    if cancellation.compensate and (plan := _reversal(message, ended, error)) is not None:
        return plan
    end = WorkflowCancelled(**_facts(message, ended.at), reason=cancellation.reason, by=cancellation.by)
    return Settle(record=(ended, end))


def from_its_end(message: PaigeantMessage, slip: RoutingSlip, at: float) -> Reversal | None:
    """How a workflow whose last step has just completed is compensated, should somebody have cancelled it meanwhile.

    None if nothing of it can be taken back.
    """
    error = ErrorInfo(type=CANCELLED, message="cancelled while its last step ran")
    back = slip.turned(Fault(step=message.step.id, type=error.type, message=error.message))
    if back.is_finished():
        return None
    steps = [step.id for step in back.itinerary]
    started = CompensationStarted(correlation_id=message.correlation_id, at=at, error=error, steps=steps)
    return Reversal(message.next(back), started)


def _reversal(message: PaigeantMessage, ended: StepEnded, error: ErrorInfo) -> Settle | None:
    slip = message.gathered().turned(fault_of(ended.step_id, error))
    if slip.is_finished():
        return None
    started = CompensationStarted(
        correlation_id=message.correlation_id,
        at=ended.at,
        error=error,
        steps=[step.id for step in slip.itinerary],
    )
    return Settle(send=(Send(message.next(slip)),), record=(ended, started))


def fault_of(step_id: str, error: ErrorInfo) -> Fault:
    """The part of a step's error that travels in the slip."""
    return Fault(step=step_id, type=error.type[:255], message=error.message[:_LONGEST_TEXT])


def took_back(message: PaigeantMessage, outcome: Completed) -> Settle:
    """The compensation of the current step is done."""
    done = StepCompensated(**outcome.execution.of(message), output=outcome.output, variables=outcome.variables)
    plan = _go_on(message, message.routing_slip.taken_back(outcome.variables), done)
    return replace(plan, begin=outcome.edits.children)


def leave(message: PaigeantMessage, failed: StepFailed) -> Settle:
    """The compensation of the current step has failed for good: it is set aside, and the others still run."""
    plan = _go_on(message, message.routing_slip.without_current(), failed)
    kept = SetAside(LetterKind.EXHAUSTED, f"compensation failed: {failed.error}", failed.error)
    return replace(plan, set_aside=kept)


def give_up(message: PaigeantMessage, failed: StepFailed) -> Settle:
    """The way back is barred, as its message cannot be written: everything that stands is left, and set aside."""
    slip = message.routing_slip
    if not slip.is_back:
        end: WorkflowFailed | WorkflowCompensated = _failed(message, failed)
        if uncompensated := [entry.id for entry in reversed(slip.log) if entry.undo is not None]:
            end = _compensated(message, failed.at, failed.error, uncompensated)
    else:
        assert slip.fault is not None
        uncompensated = [*slip.fault.left, *(step.id for step in slip.itinerary)]
        end = _compensated(message, failed.at, _error(slip.fault), uncompensated)
    return Settle(record=(failed, end), set_aside=SetAside.failed(LetterKind.REFUSED, failed.error))


def _go_on(message: PaigeantMessage, slip: RoutingSlip, ended: StepEnded) -> Settle:
    if not slip.is_finished():
        return Settle(send=(Send(message.next(slip)),), record=(ended,))
    assert slip.fault is not None
    end = _compensated(message, ended.at, _error(slip.fault), [*slip.fault.left])
    return Settle(record=(ended, replace(end, variables=slip.variables)))


def _error(fault: Fault) -> ErrorInfo:
    return ErrorInfo(type=fault.type, message=fault.message)


def _failed(message: PaigeantMessage, failed: StepFailed) -> WorkflowFailed:
    return WorkflowFailed(**_facts(message, failed.at), error=failed.error)


def _compensated(message: PaigeantMessage, at: float, error: ErrorInfo, left: list[str]) -> WorkflowCompensated:
    return WorkflowCompensated(**_facts(message, at), error=error, left=left)


def _facts(message: PaigeantMessage, at: float) -> dict[str, Any]:
    """The fields of every event with which the workflow of this message ends before its time."""
    return {
        "correlation_id": message.correlation_id,
        "at": at,
        "variables": message.routing_slip.variables,
        "parent": message.parent,
        "branch": message.branch,
        "used": message.routing_slip.used.to_dict(),
    }
