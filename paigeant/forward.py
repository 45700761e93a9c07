"""What follows the arrival of a message and the end of a step. Pure: facts in, a plan out."""

from __future__ import annotations

from dataclasses import replace
from operator import is_
from typing import assert_never

from paigeant import compensate
from paigeant.children import with_old_failures
from paigeant.clock import utc
from paigeant.errors import BudgetExceeded, DeadlineReached, GrantExceeded, StartTimeout
from paigeant.events import (
    ErrorInfo,
    LetterKind,
    StepCancelled,
    StepCompleted,
    StepDropped,
    StepFailed,
    StepParked,
    StepRetried,
    WorkflowCompleted,
)
from paigeant.message import PaigeantMessage
from paigeant.outcome import (
    Cancelled,
    Completed,
    Dropped,
    Execution,
    Exhausted,
    Faulted,
    Outcome,
    Parked,
    Poisoned,
    Refused,
    Retrying,
    Returned,
)
from paigeant.plan import Hold, Plan, Release, Send, SetAside, Settle
from paigeant.records import Standing, Status
from paigeant.slip import LogEntry
from paigeant.usage import Usage

_ONE_STEP = Usage(steps=1)
_ENTRY = LogEntry(id="", name="")

PAUSE = "pause"
"""What the messages of a paused workflow wait for."""

OPERATOR = "operator:"
"""How the key begins of what a step waits for whose attempts are used up; the rest is the step's id."""


def admit(message: PaigeantMessage, standing: Standing, execution: Execution) -> Outcome | None:
    """What becomes of a message whose step must not start, by its workflow and the time; None when it may."""
    now = execution.started_at
    if standing.status.is_terminal:
        return Dropped(execution, f"the workflow is {standing.status.value}")
    if message.routing_slip.is_back:
        return None
    if standing.status is Status.COMPENSATING:
        return Dropped(execution, "the workflow takes back what it did")
    if standing.cancellation is not None:
        return Cancelled(execution, standing.cancellation, ran=False)
    if message.ends_at is not None and message.is_over(now):
        end = f"the workflow's deadline, {_written(message.ends_at)}"
        late = f"{end}, came before step {message.step.name!r} was started"
        return Faulted(execution, ErrorInfo(type=DeadlineReached.__name__, message=late))
    if (spent := _spent(message)) is not None:
        return Faulted(execution, ErrorInfo(type=BudgetExceeded.__name__, message=spent))
    if standing.status is Status.PAUSED:
        return Parked(execution, PAUSE)
    if message.start_by is not None and now >= message.start_by and execution.deliveries == 1:
        late = f"step {message.step.name!r} was to be started by {_written(message.start_by)} and was not"
        return Faulted(execution, ErrorInfo(type=StartTimeout.__name__, message=late))
    return None


def _spent(message: PaigeantMessage) -> str | None:
    """What of the workflow's budget is used up, if the step would go beyond it."""
    slip = message.routing_slip
    try:
        if slip.budget is not None:
            slip.budget.check(slip.used, steps=1)
    except BudgetExceeded as error:
        return str(error)
    return None


def _written(moment: float) -> str:
    return utc(moment).isoformat(timespec="seconds")


def decide(message: PaigeantMessage, outcome: Outcome) -> Plan:
    """The plan for a step of this message that ended like this."""
    outcome = within_grant(message, outcome)
    match outcome:
        case Completed() if message.routing_slip.is_back:
            return compensate.took_back(message, outcome)
        case Completed():
            return _advance(message.charged(outcome.execution.used, _ONE_STEP), outcome)
        case Retrying():
            return _retry(message, outcome)
        case Parked():
            return _park(message, outcome)
        case Exhausted():
            return _leave_to_operator(message, outcome)
        case Faulted() | Poisoned() | Refused():
            return _failed(message.charged(outcome.execution.used), outcome)
        case Dropped(execution, reason):
            return Settle(record=(StepDropped(**execution.of(message), reason=reason),))
        case Cancelled():
            return _cancel(message.charged(outcome.execution.used), outcome)
        case Returned(reason=reason, delay=delay):
            return Release(reason, delay)
        case _ as never:
            assert_never(never)


def within_grant(message: PaigeantMessage, outcome: Outcome) -> Outcome:
    """The same outcome; of a step that changes the itinerary in a way its workflow does not allow, that it did."""
    if not isinstance(outcome, Completed) or message.routing_slip.is_back:
        return outcome
    slip, edits = message.routing_slip, outcome.edits
    refusal = slip.refuses(edits.insert, edits.skip, ends=outcome.is_last)
    if refusal is None:
        return outcome
    return Refused(outcome.execution, ErrorInfo(type=GrantExceeded.__name__, message=f"outside the grant: {refusal}"))


def _advance(message: PaigeantMessage, outcome: Completed) -> Settle:
    step, ran = message.step, outcome.execution
    # A copy, as what is known to be right need not be checked: the output was, and is written as JSON types already.
    entry = _ENTRY.model_copy(
        update={
            "id": step.id,
            "name": step.name,
            "output": outcome.output,
            "attempt": message.attempt,
            "worker": ran.worker,
            "started_at": utc(ran.started_at),
            "finished_at": utc(ran.finished_at),
            "undo": outcome.undo,
            "source": message.id,
        }
    )
    edits = outcome.edits
    slip = message.gathered().completed(entry, outcome.variables, insert=edits.insert, skip=edits.skip)
    planned = message.routing_slip.itinerary[1:]
    is_as_planned = len(planned) == len(slip.itinerary) and all(map(is_, planned, slip.itinerary))
    ahead = None if is_as_planned else [one.to_dict() for one in slip.itinerary]
    done = StepCompleted(**ran.of(message), output=outcome.output, variables=outcome.variables, ahead=ahead)
    if slip.is_finished() or outcome.is_last:
        end = WorkflowCompleted(
            correlation_id=message.correlation_id,
            at=ran.finished_at,
            output=outcome.output,
            variables=slip.variables,
            parent=message.parent,
            branch=message.branch,
            used=slip.used.to_dict(),
            standing=[one.briefly().to_dict() for one in slip.log if one.undo is not None] if message.branch else [],
        )
        return Settle(begin=_begun(edits.children, ran), record=(done, end))
    following = message.next(slip).due(ran.finished_at)
    return Settle(send=(Send(following),), begin=_begun(edits.children, ran), record=(done,))


def _begun(children: tuple[PaigeantMessage, ...], ran: Execution) -> tuple[PaigeantMessage, ...]:
    return tuple(child.due(ran.finished_at) for child in children)


def again(message: PaigeantMessage, outcome: Retrying) -> tuple[PaigeantMessage, StepRetried]:
    """The next attempt, and the fact that this one failed."""
    ran, error, delay, counted = outcome.execution, outcome.error, outcome.delay, outcome.counted
    tried = StepRetried(**ran.of(message), error=error, delay=delay, counted=counted)
    following = _knowing(message).again(counted=counted, progress=outcome.progress, used=ran.used)
    return following.due(ran.finished_at + delay), tried


def _retry(message: PaigeantMessage, outcome: Retrying) -> Settle:
    following, tried = again(message, outcome)
    return Settle(send=(Send(following, outcome.delay),), record=(tried,))


def _knowing(message: PaigeantMessage) -> PaigeantMessage:
    """The message whose next attempt knows what had failed before it."""
    return message.model_copy(update={"received": with_old_failures(message.received)}) if message.received else message


def _park(message: PaigeantMessage, outcome: Parked) -> Settle:
    key, due_at, detail = outcome.key, outcome.due_at, outcome.detail
    parked = StepParked(**outcome.execution.of(message), key=key, due_at=due_at, detail=detail)
    hold = Hold(message.resumed(progress=outcome.progress), key, _at_latest(message, due_at), detail, outcome.join)
    return Settle(begin=_begun(outcome.children, outcome.execution), hold=(hold,), record=(parked,))


def _at_latest(message: PaigeantMessage, due_at: float | None) -> float | None:
    """What waits goes on when its workflow's time is up, so that this is noticed."""
    if message.ends_at is None:
        return due_at
    return message.ends_at if due_at is None else min(due_at, message.ends_at)


def _leave_to_operator(message: PaigeantMessage, outcome: Exhausted) -> Settle:
    key, error = OPERATOR + message.step.id, outcome.error
    detail = {"error": {"type": error.type, "message": error.message}}
    parked = StepParked(**outcome.execution.of(message), key=key, detail=detail, error=error)
    hold = Hold(_knowing(message).afresh(progress=outcome.progress), key, _at_latest(message, None), detail)
    return Settle(hold=(hold,), record=(parked,))


def _failed(message: PaigeantMessage, outcome: Faulted | Poisoned | Refused) -> Settle:
    failed = StepFailed(**outcome.execution.of(message), error=outcome.error)
    follow = compensate.leave if message.routing_slip.is_back else compensate.turn
    plan = follow(message, failed)
    if not isinstance(outcome, Poisoned | Refused):
        return plan
    kind = LetterKind.POISON if isinstance(outcome, Poisoned) else LetterKind.REFUSED
    return replace(plan, set_aside=SetAside(kind, outcome.error.message, outcome.error))


def _cancel(message: PaigeantMessage, outcome: Cancelled) -> Settle:
    facts, cancellation = outcome.execution.of(message), outcome.cancellation
    if outcome.ran:
        return compensate.cancel(message, StepCancelled(**facts, reason=str(cancellation)), cancellation)
    return compensate.cancel(message, StepDropped(**facts, reason=f"the workflow was {cancellation}"), cancellation)


def give_up(message: PaigeantMessage, outcome: Faulted) -> Settle:
    """The plan for a failed step of a workflow whose next message cannot be written."""
    return compensate.give_up(message, StepFailed(**outcome.execution.of(message), error=outcome.error))
