"""Decides what is signed: the plan of a workflow that begins, and the link for a step that ended. Pure.

This module compares the message before a step with the message after it. It does not ask the code that decided the
change. So the link records every change, and :mod:`paigeant.decisions.judge` refuses a change that nobody may make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paigeant.decisions.judge import limits_of, token_digest
from paigeant.decisions.plan import Hold, Settle
from paigeant.events import (
    Event,
    StepCompensated,
    StepCompleted,
    StepEnded,
    StepFailed,
    StepParked,
    StepRetried,
    WorkflowCompleted,
    WorkflowEnded,
)
from paigeant.records.workflow import status_after
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.canonical import digest_of
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.planned import PlannedStep, digests_of, form_of, planned
from paigeant.wire.proof import Chain, Did, Joined, Link, Origin, Plan, Signed
from paigeant.wire.slip import RoutingSlip, compensation_of

_MOST_BEGUN = 200
"""Number of workflows that a link lists."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A message, and the statements that it came with."""

    message: PaigeantMessage
    chain: Chain


def plan_of(
    message: PaigeantMessage,
    body: str,
    *,
    audience: str,
    at: float,
    until: float,
    app: str = "",
    subject: str | None = None,
    scopes: Iterable[str] = (),
    by: Verified | None = None,
    forked: str | None = None,
) -> Plan:
    """Return the plan of a workflow that begins with this message, whose bytes have the digest ``body``.

    ``at`` and ``until`` are epoch seconds. ``by`` is the step that begins it: its workflow's user and scopes count.
    """
    slip = message.routing_slip
    above = by.chain.plan.statement if by is not None else None
    if above is not None:
        subject, scopes = above.sub, above.scopes
    token = message.obo_token
    return Plan(
        iat=int(at),
        aud=audience,
        exp=int(min(until, above.exp) if above is not None else until),
        wf=message.correlation_id,
        name=message.name,
        app=app,
        sub=subject,
        scope=" ".join(sorted(scopes)) or None,
        cth=above.cth if above is not None else None if token is None else token_digest(token),
        steps=planned(slip.itinerary),
        vars=digest_of(digests_of(slip.variables)) if slip.variables else None,
        grant=slip.grant,
        limits={name: value for name, value in limits_of(message).items() if value is not None},
        msg=body,
        origin=_origin(message, by) if by is not None else None,
        forked=forked,
    )


def _origin(child: PaigeantMessage, by: Verified) -> Origin:
    step = by.message.step
    is_branch = child.branch is not None and bool(step.branches)
    return Origin(
        wf=by.message.correlation_id,
        plan=by.chain.plan.digest,
        step=step.id,
        act=step.name,
        form=form_of(step) if is_branch else None,
        place=child.branch.index if is_branch and child.branch is not None else None,
    )


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's order about a message, named by the right that it needs, for example ``redrive``."""

    right: str


def link_of(
    before: PaigeantMessage,
    chain: Chain,
    settle: Settle,
    *,
    at: float,
    after: PaigeantMessage | None = None,
    body: str | None = None,
    begun: Mapping[str, str] | None = None,
    order: Order | None = None,
) -> Link:
    """Return the link for what became of a message: ``after`` follows it, and ``body`` is the digest of its bytes.

    ``begun`` are the digests of the plans of workflows that began with it, by id.
    """
    latest = chain.latest
    did = _did(before, after, settle.record, order)
    step, slip = before.step, before.routing_slip
    hold = next((one for one in settle.hold if after is not None and one.message.id == after.id), None)
    ended = _ended(before, settle.record)
    changes = getattr(ended, "changes", None) or {}
    back = planned(after.routing_slip.itinerary) if after is not None and _lists_back(did, before) else ()
    return Link(
        iat=int(at),
        plan=chain.plan.digest,
        prev=latest.digest if latest is not None else None,
        n=(latest.statement.n if latest is not None else 0) + 1,
        step=step.id,
        act=step.name,
        did=did,
        epoch=(after or before).epoch,
        att=before.attempt,
        out=digest_of(ended.output) if isinstance(ended, StepCompleted | StepCompensated) else None,
        vars={**digests_of(changes.get("set", {})), **dict.fromkeys(changes.get("deleted", ()))},
        undo=_late_undo(chain, back)
        if did is Did.TURNED
        else _undo(slip, after.routing_slip.log if after else _standing(settle.record)),
        ins=_inserted(did, slip, after.routing_slip if after else None),
        skip=_skipped(did, slip, after.routing_slip if after else None),
        back=back,
        begin=_begun(settle, begun or {}),
        msg=body,
        key=hold.key if hold else None,
        ask=_asked(hold) if hold else None,
        due=hold.due_at if hold else None,
        join=_joined(hold, settle) if hold else None,
        end=_end(settle.record) if after is None else None,
        order=order.right if order else None,
        limits=_changed_limits(chain, after) if order and after is not None else {},
    )


def carried(chain: Chain, link: Signed[Link]) -> Chain:
    """Return the chain of the message that follows: the links that still matter, and this one.

    These are amendments, what compensations are checked against, and the latest link by another key.
    """
    other = next((one for one in reversed(chain.links) if one.key != link.key), None)
    matter = (one for one in chain.links if one is other or _matters(one.statement))
    return Chain(chain.plan, chain.above, (*matter, link))


def _matters(said: Link) -> bool:
    return bool(said.ins or said.skip or said.back or said.undo or said.order)


def _did(before: PaigeantMessage, after: PaigeantMessage | None, record: Sequence[Event], order: Order | None) -> Did:
    if order is not None and after is not None and after.step.id == before.step.id:
        return Did.REDRIVEN if after.epoch > before.epoch else Did.EDITED
    if after is not None and after.routing_slip.is_back and not before.routing_slip.is_back:
        return Did.TURNED
    match _ended(before, record):
        case StepRetried():
            return Did.RETRIED
        case StepParked():
            return Did.PARKED
        case StepCompleted():
            return Did.COMPLETED
        case StepCompensated():
            return Did.UNDONE
        case StepFailed() if before.routing_slip.is_back:
            return Did.LEFT
        case StepFailed() if after is not None:
            return Did.REPLACED
    return Did.ENDED


def _begun(settle: Settle, begun: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of the plans of workflows that began, without branches; of very many only one digest."""
    branches = {one.correlation_id for one in settle.begin if one.branch is not None}
    alone = {id: plan for id, plan in begun.items() if id not in branches}  # noqa: A001
    return alone if len(alone) <= _MOST_BEGUN else {"*": digest_of(alone)}


def _joined(hold: Hold, settle: Settle) -> Joined | None:
    """Return the join that a parked message waits for."""
    if hold.join is None:
        return None
    places = tuple(one.branch.index for one in settle.begin if one.branch is not None and one.branch.join == hold.key)
    usual = tuple(range(hold.join.total))
    return Joined(total=hold.join.total, needed=hold.join.needed, places=() if places == usual else places)


def _end(record: Sequence[Event]) -> str | None:
    """Return the status with which the workflow ends, if it does."""
    return next((status_after(one).value for one in record if isinstance(one, WorkflowEnded)), None)


def _asked(hold: Hold) -> str | None:
    """Return the digest of the question that a parked message asks."""
    return hold.detail.get("question") if hold.key.startswith(APPROVAL) and isinstance(hold.detail, dict) else None


def _ended(before: PaigeantMessage, record: Sequence[Event]) -> StepEnded | None:
    """Return the end of the message's attempt; the record may also have the earlier attempts in place."""
    ends = (one for one in reversed(record) if isinstance(one, StepEnded))
    return next((one for one in ends if one.message_id == before.id), None)


def _lists_back(did: Did, before: PaigeantMessage) -> bool:
    return did is Did.TURNED or (did in (Did.REDRIVEN, Did.EDITED) and before.routing_slip.is_back)


def _inserted(did: Did, before: RoutingSlip, after: RoutingSlip | None) -> tuple[PlannedStep, ...]:
    if after is None or before.is_back or after.is_back:
        return ()
    if did in (Did.REDRIVEN, Did.EDITED):
        edited = after.itinerary[0]
        return planned([edited]) if PlannedStep.of(edited) != PlannedStep.of(before.itinerary[0]) else ()
    if did not in (Did.COMPLETED, Did.REPLACED):
        return ()
    known = {step.id for step in before.itinerary}
    return planned(step for step in after.itinerary if step.id not in known)


def _skipped(did: Did, before: RoutingSlip, after: RoutingSlip | None) -> tuple[str, ...]:
    if after is None or before.is_back or after.is_back or did not in (Did.COMPLETED, Did.REPLACED):
        return ()
    left = {step.id for step in after.itinerary}
    return tuple(step.id for step in before.itinerary[1:] if step.id not in left)


def _undo(before: RoutingSlip, after: Sequence[LogEntry]) -> dict[str, str]:
    """Return the digests of the compensations that the log has after the step and did not have before, by step."""
    known = {entry.id for entry in before.log}
    return {entry.id: undo_digest(entry) for entry in after if entry.undo is not None and entry.id not in known}


def _standing(record: Sequence[Event]) -> Sequence[LogEntry]:
    """Return what can be undone of a branch that completed: its parent does that, if it fails."""
    ends = [one for one in record if isinstance(one, WorkflowCompleted)]
    return [LogEntry.from_dict(entry) for one in ends for entry in one.standing]


def _late_undo(chain: Chain, back: Iterable[PlannedStep]) -> dict[str, str]:
    """Return the digests of the compensations that no link before has: of the step itself, and of its branches."""
    known = {step for one in chain.links for step in one.statement.undo}
    return {step.id: step.digest for step in back if step.id not in known}


def undo_digest(entry: LogEntry) -> str:
    """Return the digest of the compensation of a completed step, as a step of the way back."""
    assert entry.undo is not None, "only what can be taken back has one"
    return PlannedStep.of(compensation_of(entry, entry.undo)).digest


def _changed_limits(chain: Chain, after: PaigeantMessage) -> dict[str, Any]:
    return {name: value for name, value in limits_of(after).items() if chain.limits.get(name) != value}
