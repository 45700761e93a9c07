"""Decides whether a dead letter can be redriven, and as which message. Pure.

A redriven message is the same step of the same workflow under the next epoch. Messages and ends of an earlier epoch
have other ids, so they cannot be mistaken for it, and the same letter redriven twice is one message.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from paigeant.decisions.children import with_old_failures
from paigeant.decisions.forward import OPERATOR, PAUSE
from paigeant.decisions.lock_names import KEYS as LOCKS
from paigeant.events import LetterKind
from paigeant.records.workflow import Move, Status, WorkflowRecord
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.message import DEADLINE, PaigeantMessage, is_sleep
from paigeant.wire.slip import RoutingSlip

REDRIVEN = "redrive"
"""The key of a redriven message that is parked: it waits for nothing but its publication."""

_ITS_TURN = (DEADLINE, PAUSE, REDRIVEN, OPERATOR, *LOCKS)
"""The prefixes of the keys of values that arrived for one attempt only."""

_NOT_RUN = (LetterKind.REFUSED, LetterKind.UNREADABLE, LetterKind.UNTRUSTED)
"""The kinds of messages that no worker has run."""

GONE_ON: Mapping[Status, str] = {
    Status.COMPLETED: "paigeant fork {id} --from STEP runs steps of it again, as another workflow",
    Status.CANCELLED: "paigeant fork {id} --from STEP begins another workflow from a step of it",
    Status.COMPENSATING: "what it did is being taken back: wait for its end",
    Status.COMPENSATED: "what it did was taken back; paigeant dispatch begins another workflow",
    Status.COMPENSATION_INCOMPLETE: "what could not be taken back is listed by paigeant dlq list --workflow {id}",
}
"""What to do about a workflow that does not go forward again."""


@dataclass(frozen=True, slots=True)
class Again:
    """The letter continues as this message, and its workflow changes its status in this way."""

    message: PaigeantMessage
    move: Move


@dataclass(frozen=True, slots=True)
class NotRedrivable:
    """The letter cannot be sent again: why, and what to do instead."""

    why: str
    hint: str


def judge(
    message: PaigeantMessage,
    kind: LetterKind,
    record: WorkflowRecord | None,
    left: Collection[str],
    now: float,
) -> Again | NotRedrivable:
    """Decide about a dead letter that somebody wants to redrive.

    ``left`` are the steps (by id) that the workflow could not compensate.
    """
    slip = message.routing_slip
    status = record.status if record is not None else None
    if message.ends_at is not None and message.ends_at <= now:
        return NotRedrivable(
            "its workflow's deadline has passed", "give it another: paigeant dlq edit LETTER --deadline 3600"
        )
    if record is None:
        return _again(message, slip, None, None)
    if slip.is_back:
        return _backward(message, kind, record, left)
    if _has_completed(record, message.step.id, "forward"):
        return NotRedrivable(
            f"step {message.step.name!r} has completed in another message", "paigeant dlq discard LETTER"
        )
    if status is Status.FAILED and message.branch is not None:
        return NotRedrivable(
            f"it is of a branch that workflow {message.parent} has gone on without",
            f"once that has failed: paigeant retry {message.parent}",
        )
    if status in GONE_ON:
        return _ended(record)
    if status is not Status.FAILED and _is_done_with(record, message):
        return NotRedrivable("its workflow has gone on without it", "paigeant dlq discard LETTER")
    return _again(message, slip, record.status, Status.RUNNING if status is Status.FAILED else status)


def awaits(message: PaigeantMessage, kind: LetterKind, record: WorkflowRecord) -> bool:
    """Whether the workflow has not ended and does not continue without this dead letter."""
    heading = message.routing_slip.heading.value
    if _has_completed(record, message.step.id, heading) or _is_done_with(record, message):
        return False
    if message.routing_slip.is_back:
        return record.status is Status.COMPENSATING and kind in _NOT_RUN
    return not record.status.is_terminal and record.status is not Status.COMPENSATING


def _backward(
    message: PaigeantMessage, kind: LetterKind, record: WorkflowRecord, left: Collection[str]
) -> Again | NotRedrivable:
    """Redrive a compensation: after the way back has ended, or to continue it if no worker accepted the message."""
    step, status = message.step, record.status
    if _has_completed(record, step.id, "back"):
        return NotRedrivable(f"step {step.name!r} has been taken back by now", "paigeant dlq discard LETTER")
    if awaits(message, kind, record):
        return _again(message, message.routing_slip, status, status)
    if status is not Status.COMPENSATION_INCOMPLETE or step.id not in left:
        why = f"its workflow {record.correlation_id} is {status.value}"
        return NotRedrivable(why, f"wait for its end: paigeant workflow {record.correlation_id}")
    return _again(message, _rest(message.routing_slip, record, left), status, Status.COMPENSATING)


def _rest(slip: RoutingSlip, record: WorkflowRecord, left: Collection[str]) -> RoutingSlip:
    """The current step, and the later steps whose compensation was never tried; the others have own letters."""
    tried = {step.id for step in record.steps if step.heading == "back"}
    current, *behind = slip.itinerary
    ahead = (current, *(step for step in behind if step.id in left and step.id not in tried))
    assert slip.fault is not None
    chosen = {step.id for step in ahead}
    fault = slip.fault.model_copy(update={"left": tuple(one for one in left if one not in chosen)})
    return slip.model_copy(update={"itinerary": ahead, "fault": fault})


def _has_completed(record: WorkflowRecord, step_id: str, heading: str) -> bool:
    ended = ("completed", "compensated")
    return any(step.id == step_id and step.heading == heading and step.status in ended for step in record.steps)


def _is_done_with(record: WorkflowRecord, message: PaigeantMessage) -> bool:
    return any(step.message_id == message.id and step.finished_at is not None for step in record.steps)


def _ended(record: WorkflowRecord) -> NotRedrivable:
    status = record.status.value.replace("_", " ")
    return NotRedrivable(
        f"its workflow {record.correlation_id} is {status}", GONE_ON[record.status].format(id=record.correlation_id)
    )


def _again(message: PaigeantMessage, slip: RoutingSlip, before: Status | None, after: Status | None) -> Again:
    move = Move(correlation_id=message.correlation_id, before=before, after=after)
    return Again(message.redriven(slip, lasting(message.received)), move)


# --- what a step has received ----------------------------------------------------------------------------------------


def lasting(received: Mapping[str, Any]) -> dict[str, Any]:
    """Return the received values that a step has in a new epoch: values and grants, but no timeouts and no denials.

    It keeps the ends of its workflows and branches, so that failed ones are dispatched again.
    """
    kept = {key: list(takewhile(partial(_stands, key), came)) for key, came in received.items()}
    return with_old_failures({key: answers for key, answers in kept.items() if answers})


def _stands(key: str, answer: Mapping[str, Any]) -> bool:
    if is_sleep(key):
        return True
    if key.startswith(_ITS_TURN) or answer.keys().isdisjoint(("value", "kept")):
        return False
    if "value" not in answer:  # it is large, and kept aside
        return True
    return bool(answer["value"]["approved"]) if key.startswith(APPROVAL) else True
