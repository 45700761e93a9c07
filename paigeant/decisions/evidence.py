"""Decides whether rows of a store are believed: ends of steps, outputs, and ends of children and branches. Pure.

A worker writes a signed link in the transaction that writes such a row. Who else writes to the database can write the
row, and not the link.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paigeant.decisions.attest import undo_digest
from paigeant.decisions.history import Proven
from paigeant.decisions.judge import judge_plan, judge_right
from paigeant.errors import Untrusted
from paigeant.records.journal import Turn, Unit
from paigeant.records.trust import NO_PROOF, Policy, Right
from paigeant.records.workflow import Status
from paigeant.wire.canonical import digest_of
from paigeant.wire.join import Join
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.proof import Chain, Did, Joined, JournalEntry, Link, Plan, Signed


def judge_output(
    entry: LogEntry, output: Any, links: Iterable[Signed[Link]], plans: Collection[str], policy: Policy
) -> None:
    """Judge the output that a store has for a step. ``plans`` are the digests of plans whose links count.

    Raises:
        Untrusted: no link of a key that may run the step says that it completed with this output.
    """
    refused = Untrusted(NO_PROOF, f"no signed link says that step {entry.name!r} completed")
    for link in links:
        said = link.statement
        if said.did is not Did.COMPLETED or said.plan not in plans or (said.step, said.act) != (entry.id, entry.name):
            continue
        if said.out != digest_of(output):
            refused = Untrusted("other-output", f"the signature belongs to another output of step {entry.name!r}")
            continue
        judge_right(link, policy)
        return
    raise refused


def judge_done(
    message: PaigeantMessage,
    chain: Chain,
    links: Iterable[Signed[Link]],
    plans: Iterable[Signed[Plan]],
    policy: Policy,
) -> None:
    """Judge a row that says that the step of this message has ended.

    ``plans`` are other plans of its workflow: a step that runs again signs those of its children again.

    Raises:
        Untrusted: no link of a key that may run the step follows the message.
    """
    latest = chain.latest.digest if chain.latest is not None else None
    step, same = message.step, {chain.plan.digest}
    if latest is None:
        same |= {one.digest for one in plans if _is_same(one, chain, policy)}
    for link in links:
        said = link.statement
        if said.plan in same and (said.prev, said.step, said.act) == (latest, step.id, step.name):
            judge_right(link, policy)
            return
    raise Untrusted(NO_PROOF, f"no signed link says that step {step.name!r} has ended")


def entry_of(turn: Turn, unit: Unit, audience: str, at: float) -> JournalEntry:
    """Return what is signed about a finished unit."""
    return JournalEntry(
        iat=int(at),
        aud=audience,
        wf=turn.correlation_id,
        step=turn.step_id,
        epoch=turn.epoch,
        key=unit.key,
        name=unit.name,
        asked=unit.digest,
        value=digest_of(unit.value),
        used=digest_of(unit.usage.to_dict()),
    )


def judge_unit(signed: Signed[JournalEntry] | None, turn: Turn, unit: Unit, act: str, policy: Policy) -> None:
    """Judge a unit that the journal of a step has; ``act`` is the activity of the step.

    A branch that resumes has the units of the one before it, without their usage.

    Raises:
        Untrusted: no key that may run the step has signed it.
    """
    if signed is None:
        raise Untrusted(NO_PROOF, f"unit {unit.key!r} is not signed")
    said, is_copy = signed.statement, signed.statement.wf == turn.after
    of = replace(turn, correlation_id=turn.after or "") if is_copy else turn
    found = entry_of(of, unit, policy.audience, said.iat)
    if is_copy:
        found = found.model_copy(update={"used": said.used})
    if said.epoch > turn.epoch or found.model_copy(update={"epoch": said.epoch}) != said:
        raise Untrusted("other-unit", f"the signature belongs to another unit than {unit.key!r}")
    if not policy.allows(signed.key, Right.RUN, act):
        raise Untrusted("run", f"key {signed.key!r} may not run {act!r}")


def _is_same(plan: Signed[Plan], chain: Chain, policy: Policy) -> bool:
    """Whether a plan begins the same workflow as the one of this chain, by the same step."""
    said, own = plan.statement, chain.plan.statement
    if (said.wf, said.name, said.origin, said.steps) != (own.wf, own.name, own.origin, own.steps):
        return False
    try:
        judge_plan(plan, chain.above[-1] if chain.above else None, chain.root, policy, said.iat)
    except Untrusted:
        return False
    return True


def judge_result(output: Any, proven: Proven) -> None:
    """Judge the output that a store has for a completed workflow.

    Raises:
        Untrusted: its statements do not prove that it completed with this output.
    """
    if proven.status is not Status.COMPLETED:
        ended = "has not ended" if proven.status is None else f"ended as {proven.status.value}"
        raise Untrusted(NO_PROOF, f"the store says that the workflow completed, and its statements that it {ended}")
    if proven.output != digest_of(output):
        raise Untrusted("other-output", "the signature belongs to another output of the workflow")


def judge_child(
    end: Mapping[str, Any] | None, proven: Proven, parent: Signed[Plan], step: str, *, is_cancelled: bool = False
) -> None:
    """Judge how a child is said to have ended that the step of the workflow with this plan waits for.

    The end of a cancelled child has no link: an operator has ordered it (``is_cancelled``).

    ``end`` is None if it is too large to be told.

    Raises:
        Untrusted: the child's statements do not prove it.
    """
    _judge_origin(proven, parent, step)
    if is_cancelled and end is not None and _is_left(end, proven):
        return
    if end is not None:
        _judge_end(end, proven)
    elif proven.status is None:
        raise Untrusted(NO_PROOF, f"no statement proves that workflow {proven.plan.statement.wf} has ended")


def judge_join(
    ends: Sequence[Mapping[str, Any]] | None,
    join: Joined,
    branches: Mapping[int, Proven],
    *,
    parent: Signed[Plan],
    step: str,
    is_due: bool,
    cancelled: Collection[str] = (),
) -> None:
    """Judge how the branches of a join are said to have ended. ``branches`` are their statements, by place.

    ``ends`` is None if they are too large to be told.

    A branch that still ran when the join was decided is said to be cancelled. That is believed if the ends of the
    others decide the join, or if its time is up (``is_due``), or if it is one of the ``cancelled`` workflows.

    Raises:
        Untrusted: the statements of the branches do not prove it.
    """
    if ends is not None and len(ends) != len(branches):
        raise Untrusted("branches", f"{len(ends)} branches are said to have ended, and the step has {len(branches)}")
    completed = failed = 0
    for at, (_, proven) in enumerate(sorted(branches.items())):
        _judge_origin(proven, parent, step)
        if ends is not None and not _is_left(ends[at], proven):
            _judge_end(ends[at], proven)
        completed += proven.status is Status.COMPLETED
        failed += proven.status not in (None, Status.COMPLETED) or (
            proven.status is None and proven.plan.statement.wf in cancelled
        )
    if not (is_due or Join(join.total, join.needed).is_decided(completed, failed)):
        raise Untrusted("undecided", "the ends of the branches that are proved do not decide the join")


def _is_left(end: Mapping[str, Any], proven: Proven) -> bool:
    """Whether the branch is said to have run still when its join was decided."""
    return end.get("status") == Status.CANCELLED.value and proven.status is not Status.CANCELLED


def _judge_origin(proven: Proven, parent: Signed[Plan], step: str) -> None:
    origin = proven.plan.statement.origin
    if origin is None or (origin.plan, origin.step) != (parent.digest, step):
        raise Untrusted("other-child", f"workflow {proven.plan.statement.wf} was not begun by step {step!r}")


def _judge_end(end: Mapping[str, Any], proven: Proven) -> None:
    wf, status = proven.plan.statement.wf, end.get("status", Status.COMPLETED.value)
    if proven.status is None or status != proven.status.value:
        raise Untrusted(NO_PROOF, f"workflow {wf} is said to be {status}, and no statement proves it")
    if proven.status is Status.COMPLETED and digest_of(end.get("output")) != proven.output:
        raise Untrusted("other-output", f"the signature belongs to another output of workflow {wf}")
    for one in end.get("standing") or ():
        entry = LogEntry.from_dict(one)
        if entry.undo is not None and proven.undo.get(entry.id) != undo_digest(entry):
            raise Untrusted("undo", f"step {entry.id!r} of workflow {wf} is taken back in another way than it recorded")
