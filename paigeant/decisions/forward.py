"""Decides what follows the arrival of a message and the end of a step. Pure: takes facts, returns a plan."""

from __future__ import annotations

from dataclasses import replace
from operator import is_
from typing import Any, assert_never

from paigeant.decisions import compensate
from paigeant.decisions.children import with_old_failures
from paigeant.decisions.outcome import (
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
    steps_of,
)
from paigeant.decisions.plan import Hold, Plan, Release, Send, SetAside, Settle
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
from paigeant.records.workflow import Standing, Status
from paigeant.runtime.clock import utc
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import count
from paigeant.wire.usage import Usage
from paigeant.wire.values import differences

_ONE_STEP = Usage(steps=1)
_ENTRY = LogEntry(id="", name="")

PAUSE = "pause"
"""The key under which the messages of a paused workflow are parked."""

OPERATOR = "operator:"
"""How the key begins of what a step waits for whose attempts are used up; the rest is the step's id."""


def admit(message: PaigeantMessage, standing: Standing, execution: Execution) -> Outcome | None:
    """Return the outcome of a message whose step must not start, or None if it may start."""
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
        end = f"the workflow's deadline, {_formatted(message.ends_at)}"
        late = f"{end}, came before step {message.step.name!r} was started"
        return Faulted(execution, ErrorInfo(type=DeadlineReached.__name__, message=late))
    if (spent := _spent(message)) is not None:
        return Faulted(execution, ErrorInfo(type=BudgetExceeded.__name__, message=spent))
    if standing.status is Status.PAUSED:
        return Parked(execution, PAUSE)
    if message.start_by is not None and now >= message.start_by and execution.deliveries == 1:
        late = f"step {message.step.name!r} was to be started by {_formatted(message.start_by)} and was not"
        return Faulted(execution, ErrorInfo(type=StartTimeout.__name__, message=late))
    return None


def _spent(message: PaigeantMessage) -> str | None:
    """Return the part of the workflow's budget that is used up, if the step would exceed it."""
    slip = message.routing_slip
    try:
        if slip.budget is not None:
            slip.budget.check(slip.used, steps=1)
    except BudgetExceeded as error:
        return str(error)
    return None


def _formatted(moment: float) -> str:
    return utc(moment).isoformat(timespec="seconds")


def decide(message: PaigeantMessage, outcome: Outcome) -> Plan:
    """The plan for a step of this message that ended like this."""
    outcome = within_grant(message, outcome)
    match outcome:
        case Completed() if message.routing_slip.is_back:
            return compensate.took_back(message, outcome)
        case Completed():
            set_apart = message.set_apart_for(outcome.edits.children)
            return _advance(message.charged(outcome.execution.used, _ONE_STEP, *set_apart), outcome)
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
        case Returned():
            return Release(outcome.reason, outcome.delay, outcome.grows, outcome.most, outcome.headers)
        case _ as never:
            assert_never(never)


def within_grant(message: PaigeantMessage, outcome: Outcome) -> Outcome:
    """The same outcome; of a step that changes the itinerary in a way its workflow does not allow, that it did."""
    slip = message.routing_slip
    if slip.is_back:
        return outcome
    match outcome:
        case Completed(edits=edits):
            refusal = slip.refuses(edits.insert, edits.skip, ends=outcome.is_last)
            refusal = refusal or slip.refuses_dispatch(edits.dispatched, count(edits.insert))
        case Parked():
            refusal = slip.refuses_dispatch(steps_of(outcome.children))
        case _:
            return outcome
    if refusal is None:
        return outcome
    return Refused(outcome.execution, ErrorInfo(type=GrantExceeded.__name__, message=f"outside the grant: {refusal}"))


def _changes(message: PaigeantMessage, variables: dict[str, Any] | None) -> dict[str, Any] | None:
    if variables is None:
        return None
    changed, deleted = differences(message.routing_slip.variables, variables)
    return {"set": changed, "deleted": deleted}


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
    changes: dict[str, Any] = {"insert": edits.insert, "skip": edits.skip, "dispatched": count(edits.dispatched)}
    slip = message.gathered().completed(entry, outcome.variables, **changes)
    planned = message.routing_slip.itinerary[1:]
    is_as_planned = len(planned) == len(slip.itinerary) and all(map(is_, planned, slip.itinerary))
    ahead = None if is_as_planned else [one.to_dict() for one in slip.itinerary]
    told: dict[str, Any] = {"output": outcome.output, "variables": outcome.variables, "ahead": ahead}
    done = StepCompleted(**ran.of(message), **told, changes=_changes(message, outcome.variables))
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
        back = compensate.from_its_end(message, slip, ran.finished_at)
        return Settle(begin=_begun(edits.children, ran), record=(done, end), if_cancelled=back)
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
    """Wake a parked step at its workflow's deadline at the latest, so that the deadline is noticed."""
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
    follow = compensate.leave if message.routing_slip.is_back else compensate.reverse
    plan = _instead(message, failed) or follow(message, failed)
    if not isinstance(outcome, Poisoned | Refused):
        return plan
    kind = LetterKind.POISON if isinstance(outcome, Poisoned) else LetterKind.REFUSED
    return replace(plan, set_aside=SetAside(kind, outcome.error.message, outcome.error))


def _instead(message: PaigeantMessage, failed: StepFailed) -> Settle | None:
    """The plan that runs the step's ``otherwise`` instead; None if it has none, or if deadline or budget is used up.

    The steps of its branches stay in the log, so that they are compensated if the workflow fails later.
    """
    slip = message.gathered()
    if slip.is_back or not message.step.otherwise or message.is_over(failed.at) or _spent(message) is not None:
        return None
    changed = slip.instead(compensate.fault_of(failed.step_id, failed.error))
    if changed is None:
        return None
    record = replace(failed, ahead=[one.to_dict() for one in changed.itinerary])
    return Settle(send=(Send(message.next(changed).due(failed.at)),), record=(record,))


def without_others(message: PaigeantMessage) -> PaigeantMessage:
    """The message whose current step has no ``otherwise``: for when those steps would make the next one too large."""
    slip = message.routing_slip
    step = slip.itinerary[0].model_copy(update={"otherwise": ()})
    return message.model_copy(
        update={"routing_slip": slip.model_copy(update={"itinerary": (step, *slip.itinerary[1:])})}
    )


def _cancel(message: PaigeantMessage, outcome: Cancelled) -> Settle:
    facts, cancellation = outcome.execution.of(message), outcome.cancellation
    if outcome.ran:
        return compensate.cancel(message, StepCancelled(**facts, reason=str(cancellation)), cancellation)
    return compensate.cancel(message, StepDropped(**facts, reason=f"the workflow was {cancellation}"), cancellation)


def give_up(message: PaigeantMessage, outcome: Faulted) -> Settle:
    """The plan for a failed step of a workflow whose next message cannot be written."""
    return compensate.give_up(message, StepFailed(**outcome.execution.of(message), error=outcome.error))
