"""Whether a dead letter can be sent again, and as what. Pure: a message and how its workflow stands in, a verdict out.

What is sent again is the same step of the same workflow under the next epoch: whatever an earlier epoch still sends or
ends has other ids and is told apart, and the same letter sent twice is one message.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from paigeant.approval import KEY as APPROVAL
from paigeant.children import with_old_failures
from paigeant.events import LetterKind
from paigeant.forward import OPERATOR, PAUSE
from paigeant.limits.names import KEYS as LOCKS
from paigeant.message import DEADLINE, SLEEP, PaigeantMessage
from paigeant.records import Move, Status, WorkflowRecord
from paigeant.slip import RoutingSlip

REDRIVEN = "redrive"
"""What a message waits for that was a dead letter: nothing but its turn."""

_ITS_TURN = (DEADLINE, PAUSE, REDRIVEN, OPERATOR, *LOCKS)
"""How the keys begin of what came for one attempt alone."""

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
    """The letter goes on as this message, and its workflow moves like that."""

    message: PaigeantMessage
    move: Move


@dataclass(frozen=True, slots=True)
class Refused:
    """The letter cannot be sent again: why, and what to do instead."""

    why: str
    hint: str


def judge(
    message: PaigeantMessage,
    kind: LetterKind,
    record: WorkflowRecord | None,
    left: Collection[str],
    now: float,
) -> Again | Refused:
    """What becomes of a dead letter that somebody wants to send again.

    ``left`` are the steps (by id) that a workflow has left standing that could not be taken back.
    """
    slip = message.routing_slip
    status = record.status if record is not None else None
    if message.ends_at is not None and message.ends_at <= now:
        return Refused(
            "its workflow's deadline has passed", "give it another: paigeant dlq edit LETTER --deadline 3600"
        )
    if record is None:
        return _again(message, slip, None, None)
    if slip.is_back:
        return _backward(message, kind, record, left)
    if _has_completed(record, message.step.id, "forward"):
        return Refused(f"step {message.step.name!r} has completed in another message", "paigeant dlq discard LETTER")
    if status is Status.FAILED and message.branch is not None:
        return Refused(
            f"it is of a branch that workflow {message.parent} has gone on without",
            f"once that has failed: paigeant retry {message.parent}",
        )
    if status in GONE_ON:
        return _ended(record)
    if status is not Status.FAILED and _is_done_with(record, message):
        return Refused("its workflow has gone on without it", "paigeant dlq discard LETTER")
    return _again(message, slip, record.status, Status.RUNNING if status is Status.FAILED else status)


def awaits(message: PaigeantMessage, kind: LetterKind, record: WorkflowRecord) -> bool:
    """Whether the workflow has not ended and does not go on without this dead letter."""
    heading = message.routing_slip.heading.value
    if _has_completed(record, message.step.id, heading) or _is_done_with(record, message):
        return False
    if message.routing_slip.is_back:
        return record.status is Status.COMPENSATING and kind in (LetterKind.REFUSED, LetterKind.UNREADABLE)
    return not record.status.is_terminal and record.status is not Status.COMPENSATING


def _backward(
    message: PaigeantMessage, kind: LetterKind, record: WorkflowRecord, left: Collection[str]
) -> Again | Refused:
    """A compensation: after the way back has ended, or, of a message that no worker accepted, to go on with it."""
    step, status = message.step, record.status
    if _has_completed(record, step.id, "back"):
        return Refused(f"step {step.name!r} has been taken back by now", "paigeant dlq discard LETTER")
    if awaits(message, kind, record):
        return _again(message, message.routing_slip, status, status)
    if status is not Status.COMPENSATION_INCOMPLETE or step.id not in left:
        why = f"its workflow {record.correlation_id} is {status.value}"
        return Refused(why, f"wait for its end: paigeant workflow {record.correlation_id}")
    return _again(message, _rest(message.routing_slip, record, left), status, Status.COMPENSATING)


def _rest(slip: RoutingSlip, record: WorkflowRecord, left: Collection[str]) -> RoutingSlip:
    """The current step, and those behind it that nothing has tried to take back; the others have their own letters."""
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


def _ended(record: WorkflowRecord) -> Refused:
    standing = record.status.value.replace("_", " ")
    return Refused(
        f"its workflow {record.correlation_id} is {standing}", GONE_ON[record.status].format(id=record.correlation_id)
    )


def _again(message: PaigeantMessage, slip: RoutingSlip, before: Status | None, after: Status | None) -> Again:
    move = Move(correlation_id=message.correlation_id, before=before, after=after)
    return Again(message.redriven(slip, standing(message.received)), move)


# --- what a step has received ----------------------------------------------------------------------------------------


def standing(received: Mapping[str, Any]) -> dict[str, Any]:
    """What a step keeps, in a new epoch, of what came for it: what it was given, not what came too late or was denied.

    It keeps how the workflows and branches ended that it dispatched, so that those which failed are dispatched anew.
    """
    kept = {key: list(takewhile(partial(_stands, key), came)) for key, came in received.items()}
    return with_old_failures({key: answers for key, answers in kept.items() if answers})


def _stands(key: str, answer: Mapping[str, Any]) -> bool:
    if key == SLEEP:
        return True
    if key.startswith(_ITS_TURN) or answer.keys().isdisjoint(("value", "kept")):
        return False
    if "value" not in answer:  # it is large, and kept aside
        return True
    return bool(answer["value"]["approved"]) if key.startswith(APPROVAL) else True
