"""What follows the end of a step. Pure: (message, outcome) -> plan."""

from __future__ import annotations

from typing import assert_never

from paigeant.clock import utc
from paigeant.events import (
    ErrorInfo,
    Event,
    StepCompleted,
    StepFailed,
    StepRetried,
    WorkflowCompleted,
    WorkflowFailed,
)
from paigeant.message import PaigeantMessage
from paigeant.outcome import Completed, Execution, Faulted, Outcome, Poisoned, Retrying, Returned
from paigeant.plan import Plan, Release, Send, Settle
from paigeant.slip import LogEntry


def decide(message: PaigeantMessage, outcome: Outcome) -> Plan:
    """The plan for a step of this message that ended like this."""
    match outcome:
        case Completed():
            return _advance(message, outcome)
        case Retrying():
            return _retry(message, outcome)
        case Faulted(execution, error):
            return Settle(record=_failed(message, execution, error))
        case Poisoned(execution, error):
            return Settle(record=_failed(message, execution, error), set_aside=error.message)
        case Returned(reason, delay):
            return Release(reason, delay)
        case _ as never:
            assert_never(never)


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
    slip = message.routing_slip.completed(entry, outcome.variables)
    done = StepCompleted(
        correlation_id=message.correlation_id,
        at=ran.finished_at,
        message_id=message.id,
        step_id=step.id,
        activity=step.name,
        attempt=message.attempt,
        worker=ran.worker,
        deliveries=ran.deliveries,
        started_at=ran.started_at,
        output=outcome.output,
        variables=outcome.variables,
    )
    if slip.is_finished():
        end = WorkflowCompleted(
            correlation_id=message.correlation_id, at=ran.finished_at, output=outcome.output, variables=slip.variables
        )
        return Settle(record=(done, end))
    return Settle(send=(Send(message.next(slip)),), record=(done,))


def _retry(message: PaigeantMessage, outcome: Retrying) -> Settle:
    step, ran = message.step, outcome.execution
    tried = StepRetried(
        correlation_id=message.correlation_id,
        at=ran.finished_at,
        message_id=message.id,
        step_id=step.id,
        activity=step.name,
        attempt=message.attempt,
        worker=ran.worker,
        deliveries=ran.deliveries,
        started_at=ran.started_at,
        error=outcome.error,
        delay=outcome.delay,
    )
    again = message.next(message.routing_slip, attempt=message.attempt + 1)
    return Settle(send=(Send(again, outcome.delay),), record=(tried,))


def _failed(message: PaigeantMessage, ran: Execution, error: ErrorInfo) -> tuple[Event, ...]:
    step = message.step
    failed = StepFailed(
        correlation_id=message.correlation_id,
        at=ran.finished_at,
        message_id=message.id,
        step_id=step.id,
        activity=step.name,
        attempt=message.attempt,
        worker=ran.worker,
        deliveries=ran.deliveries,
        started_at=ran.started_at,
        error=error,
    )
    end = WorkflowFailed(
        correlation_id=message.correlation_id,
        at=ran.finished_at,
        error=error,
        variables=message.routing_slip.variables,
    )
    return (failed, end)
