"""The way back: what follows when a workflow fails, and when a step was taken back or could not be.

Pure: a message and how its attempt ended in, a plan out. The settlement of the failed step's message is what turns the
slip, so that no attempt of that step can be accepted any more once compensations are on their way.
"""

from __future__ import annotations

from dataclasses import replace

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
from paigeant.message import PaigeantMessage
from paigeant.outcome import Completed
from paigeant.plan import Send, SetAside, Settle
from paigeant.slip import Fault, RoutingSlip

CANCELLED = "WorkflowCancelled"
"""The type of the error with which a slip heads back that nothing but somebody's wish has turned."""

_LONGEST_TEXT = 500
"""Characters of the error's text that travel with the slip; the store has all of it."""


def turn(message: PaigeantMessage, failed: StepFailed) -> Settle:
    """The slip heads back after this failure; where there is nothing to take back, the workflow has failed.

    Then its message is kept, so that the step can be tried again.
    """
    if (plan := _turned(message, failed, failed.error)) is not None:
        return plan
    # A branch that failed is for the step to judge that scattered it.
    kept = SetAside.failed(LetterKind.EXHAUSTED, failed.error) if message.branch is None else None
    return Settle(record=(failed, _failed(message, failed)), set_aside=kept)


def cancel(message: PaigeantMessage, ended: StepEnded, cancellation: Cancellation) -> Settle:
    """The slip heads back, if that is asked for and there is something to take back; else the workflow is over."""
    error = ErrorInfo(type=CANCELLED, message=str(cancellation))
    if cancellation.compensate and (plan := _turned(message, ended, error)) is not None:
        return plan
    end = WorkflowCancelled(
        correlation_id=message.correlation_id,
        at=ended.at,
        variables=message.routing_slip.variables,
        parent=message.parent,
        branch=message.branch,
        used=message.routing_slip.used.to_dict(),
        reason=cancellation.reason,
        by=cancellation.by,
    )
    return Settle(record=(ended, end))


def _turned(message: PaigeantMessage, ended: StepEnded, error: ErrorInfo) -> Settle | None:
    fault = Fault(step=ended.step_id, type=error.type[:255], message=error.message[:_LONGEST_TEXT])
    slip = message.gathered().turned(fault)
    if slip.is_finished():
        return None
    started = CompensationStarted(
        correlation_id=message.correlation_id,
        at=ended.at,
        error=error,
        steps=[step.id for step in slip.itinerary],
    )
    return Settle(send=(Send(message.next(slip)),), record=(ended, started))


def took_back(message: PaigeantMessage, outcome: Completed) -> Settle:
    """The compensation of the current step is done."""
    done = StepCompensated(**outcome.execution.of(message), output=outcome.output, variables=outcome.variables)
    plan = _go_on(message, message.routing_slip.taken_back(outcome.variables), done)
    return replace(plan, begin=outcome.edits.children)


def leave(message: PaigeantMessage, failed: StepFailed) -> Settle:
    """The compensation of the current step has failed for good: it is set aside, and the others still run."""
    plan = _go_on(message, message.routing_slip.left_standing(), failed)
    kept = SetAside(LetterKind.EXHAUSTED, f"compensation failed: {failed.error}", failed.error)
    return replace(plan, set_aside=kept)


def give_up(message: PaigeantMessage, failed: StepFailed) -> Settle:
    """The way back is barred, as its message cannot be written: everything that stands is left, and set aside."""
    slip = message.routing_slip
    if not slip.is_back:
        end: WorkflowFailed | WorkflowCompensated = _failed(message, failed)
        if standing := [entry.id for entry in reversed(slip.log) if entry.undo is not None]:
            end = _compensated(message, failed.at, failed.error, standing)
    else:
        assert slip.fault is not None
        standing = [*slip.fault.left, *(step.id for step in slip.itinerary)]
        end = _compensated(message, failed.at, _error(slip.fault), standing)
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
    return WorkflowFailed(
        correlation_id=message.correlation_id,
        at=failed.at,
        error=failed.error,
        variables=message.routing_slip.variables,
        parent=message.parent,
        branch=message.branch,
        used=message.routing_slip.used.to_dict(),
    )


def _compensated(message: PaigeantMessage, at: float, error: ErrorInfo, left: list[str]) -> WorkflowCompensated:
    return WorkflowCompensated(
        correlation_id=message.correlation_id,
        at=at,
        error=error,
        variables=message.routing_slip.variables,
        parent=message.parent,
        branch=message.branch,
        used=message.routing_slip.used.to_dict(),
        left=left,
    )
