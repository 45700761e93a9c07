"""What follows the arrival of a message and the end of a step. Pure: facts in, a plan out."""

from __future__ import annotations

from typing import Any, assert_never

from paigeant.clock import utc
from paigeant.events import (
    ErrorInfo,
    Event,
    StepCompleted,
    StepDropped,
    StepFailed,
    StepParked,
    StepRetried,
    WorkflowCompleted,
    WorkflowFailed,
)
from paigeant.message import PaigeantMessage
from paigeant.outcome import Completed, Dropped, Execution, Faulted, Outcome, Parked, Poisoned, Retrying, Returned
from paigeant.plan import Hold, Plan, Release, Send, Settle
from paigeant.slip import LogEntry
from paigeant.store import Standing, Status

PAUSE = "pause"
"""What the messages of a paused workflow wait for."""


def admit(standing: Standing, execution: Execution) -> Outcome | None:
    """What becomes of a message whose step must not start, as its workflow stands; None when it may."""
    if standing.status.is_terminal:
        return Dropped(execution, f"the workflow is {standing.status.value}")
    if standing.status is Status.PAUSED:
        return Parked(execution, PAUSE)
    return None


def decide(message: PaigeantMessage, outcome: Outcome) -> Plan:
    """The plan for a step of this message that ended like this."""
    match outcome:
        case Completed():
            return _advance(message, outcome)
        case Retrying():
            return _retry(message, outcome)
        case Parked():
            return _park(message, outcome)
        case Faulted(execution, error):
            return Settle(record=_failed(message, execution, error))
        case Poisoned(execution, error):
            return Settle(record=_failed(message, execution, error), set_aside=error.message)
        case Dropped(execution, reason):
            return Settle(record=(StepDropped(**_attempt(message, execution), reason=reason),))
        case Returned(reason, delay):
            return Release(reason, delay)
        case _ as never:
            assert_never(never)


def _attempt(message: PaigeantMessage, ran: Execution) -> dict[str, Any]:
    """What every event of an attempt's end says."""
    step = message.step
    return {
        "correlation_id": message.correlation_id,
        "at": ran.finished_at,
        "message_id": message.id,
        "step_id": step.id,
        "activity": step.name,
        "attempt": message.attempt,
        "worker": ran.worker,
        "deliveries": ran.deliveries,
        "started_at": ran.started_at,
    }


def _advance(message: PaigeantMessage, outcome: Completed) -> Settle:
    step, ran = message.step, outcome.execution
    entry = LogEntry(
        id=step.id,
        name=step.name,
        output=outcome.output,
        attempt=message.attempt,
        worker=ran.worker,
        started_at=utc(ran.started_at),
        finished_at=utc(ran.finished_at),
    )
    edits = outcome.edits
    slip = message.routing_slip.completed(entry, outcome.variables, insert=edits.insert, skip=edits.skip)
    done = StepCompleted(**_attempt(message, ran), output=outcome.output, variables=outcome.variables)
    if slip.is_finished() or outcome.is_last:
        end = WorkflowCompleted(
            correlation_id=message.correlation_id,
            at=ran.finished_at,
            output=outcome.output,
            variables=slip.variables,
            parent=message.parent,
        )
        return Settle(begin=edits.children, record=(done, end))
    return Settle(send=(Send(message.next(slip)),), begin=edits.children, record=(done,))


def _retry(message: PaigeantMessage, outcome: Retrying) -> Settle:
    tried = StepRetried(**_attempt(message, outcome.execution), error=outcome.error, delay=outcome.delay)
    return Settle(send=(Send(message.again(), outcome.delay),), record=(tried,))


def _park(message: PaigeantMessage, outcome: Parked) -> Settle:
    key, due_at, detail = outcome.key, outcome.due_at, outcome.detail
    parked = StepParked(**_attempt(message, outcome.execution), key=key, due_at=due_at, detail=detail)
    return Settle(begin=outcome.children, hold=(Hold(message.resumed(), key, due_at, detail),), record=(parked,))


def _failed(message: PaigeantMessage, ran: Execution, error: ErrorInfo) -> tuple[Event, ...]:
    end = WorkflowFailed(
        correlation_id=message.correlation_id,
        at=ran.finished_at,
        error=error,
        variables=message.routing_slip.variables,
        parent=message.parent,
    )
    return (StepFailed(**_attempt(message, ran), error=error), end)
