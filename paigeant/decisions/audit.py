"""Decides what the signed statements of workflows say, and what is wrong with them. Pure.

An auditor reads the statements long after the workflow ran, perhaps from a file. So nothing here needs a clock, and
nothing here believes what is not signed: the status that a store claims is only compared with what is proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from paigeant.decisions.deeds import Deed, deeds_of
from paigeant.decisions.history import Proven, above_of, proven
from paigeant.decisions.judge import judge_right
from paigeant.decisions.orders import is_allowed, judge_order
from paigeant.decisions.received import judge_right as judge_answerer
from paigeant.errors import Untrusted
from paigeant.records.trust import CANCEL, Policy
from paigeant.records.workflow import Status
from paigeant.wire.proof import Answer, Link, Order, Plan, Signed


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with the trail of a workflow. ``code`` is for programs, ``text`` for people."""

    workflow: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Trail:
    """The statements of one workflow whose signatures are right. ``faults`` has one fault for each other statement.

    ``status`` is the status that the store claims, if that is known. ``is_whole``: the trail should be complete; if
    not, only the plan is there, because the workflow is an ancestor.
    """

    workflow: str
    status: str | None = None
    is_whole: bool = True
    plans: tuple[Signed[Plan], ...] = ()
    links: tuple[Signed[Link], ...] = ()
    answers: tuple[Signed[Answer], ...] = ()
    orders: tuple[Signed[Order], ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """The result for one workflow: ``status`` is the status with which it ended, as far as that is proved.

    ``deeds`` are what keys did, in the order of time. ``missing`` are the workflows that it began and that the audit
    does not cover.
    """

    workflow: str
    name: str
    status: str | None
    deeds: tuple[Deed, ...] = ()
    faults: tuple[Fault, ...] = ()
    missing: tuple[str, ...] = ()


def audited(trails: Mapping[str, Trail], policy: Policy, *, has_family: bool) -> Sequence[Audited]:
    """Return the result for each whole trail. ``has_family``: the workflows that these began should be there, too."""
    plans = {one.digest: one for trail in trails.values() for one in trail.plans}
    found = {one.workflow: _audited(one, trails, plans, policy) for one in trails.values() if one.is_whole}
    begun = {name: _begun(trails[name]) for name in found}
    return [_in_family(one, trails, begun, has_family=has_family) for one in found.values()]


def _audited(trail: Trail, trails: Mapping[str, Trail], plans: Mapping[str, Signed[Plan]], policy: Policy) -> Audited:
    faults = list(trail.faults)
    of_others = [one for one in trail.plans if one.statement.wf != trail.workflow]
    faults += [_fault(trail, "other-workflow", f"a plan belongs to workflow {one.statement.wf}") for one in of_others]
    plan, it, refusal = _plan_of(trail, plans, policy)
    if refusal is not None:
        faults.append(_fault(trail, refusal.code, str(refusal)))
    faults += _faults_of_links(trail, plan, it, policy)
    faults += _faults_of_answers(trail, policy)
    faults += _faults_of_orders(trail, policy)
    status = it.status if it is not None else None
    if status is None and trail.status == Status.CANCELLED and plan is not None:
        status = Status.CANCELLED if _is_cancelled(plan, trails, plans, policy) else None
    if it is not None and (wrong := _wrong_status(trail.status, status)) is not None:
        faults.append(_fault(trail, *wrong))
    name = plan.statement.name if plan is not None else ""
    deeds = deeds_of(plan, trail.links, (*trail.answers, *trail.orders), () if it is None else it.links)
    return Audited(trail.workflow, name, status.value if status else None, tuple(deeds), tuple(faults))


def _plan_of(
    trail: Trail, plans: Mapping[str, Signed[Plan]], policy: Policy
) -> tuple[Signed[Plan] | None, Proven | None, Untrusted | None]:
    """Return the plan of a workflow and what is proved under it, or else why nothing is."""
    mine = [one for one in trail.plans if one.statement.wf == trail.workflow]
    refusal = Untrusted("no-plan", "no plan is there: nobody signed how this workflow began, or it was removed")
    proofs = list[Proven]()
    for plan in mine:
        try:
            proofs.append(proven(plan, trail.links, policy, above_of(plan, plans)))
        except Untrusted as error:
            refusal = error
    if proofs:
        best = max(proofs, key=lambda one: len(one.links))
        return best.plan, best, None
    return mine[0] if mine else None, None, refusal


def _faults_of_links(trail: Trail, plan: Signed[Plan] | None, it: Proven | None, policy: Policy) -> Iterator[Fault]:
    if plan is None:
        return
    known = {one.digest for one in trail.links}
    on_path = {one.digest for one in it.links} if it is not None else known
    for link in trail.links:
        said = link.statement
        where = f"step {said.step!r} ({said.act})"
        if said.plan != plan.digest:
            yield _fault(trail, "other-plan", f"a link of {where} belongs to the plan of another workflow")
        elif link.digest not in on_path:
            if said.prev is not None and said.prev not in known:
                yield _fault(trail, "missing-link", f"the link before that of {where} is missing")
            yield from _refusal(trail, link, policy)


def _refusal(trail: Trail, link: Signed[Link], policy: Policy) -> Iterator[Fault]:
    try:
        judge_right(link, policy)
    except Untrusted as error:
        yield _fault(trail, error.code, str(error))


def _faults_of_answers(trail: Trail, policy: Policy) -> Iterator[Fault]:
    for answer in trail.answers:
        said = answer.statement
        if (said.aud, said.wf) != (policy.audience, trail.workflow):
            yield _fault(trail, "other-workflow", f"an answer to {said.key!r} belongs to workflow {said.wf}")
            continue
        asked = [one.statement for one in trail.links if one.statement.key == said.key]
        try:
            for link in asked[:1]:
                judge_answerer(answer.key, link, policy)
        except Untrusted as error:
            yield _fault(trail, error.code, str(error))
        if asked and said.question is not None and said.question not in {one.ask for one in asked}:
            yield _fault(trail, "other-question", f"an answer to {said.key!r} is about a question that no step asked")


def _faults_of_orders(trail: Trail, policy: Policy) -> Iterator[Fault]:
    for order in trail.orders:
        if order.statement.wf != trail.workflow:
            text = f"an order to {order.statement.what} belongs to workflow {order.statement.wf}"
            yield _fault(trail, "other-workflow", text)
            continue
        try:
            judge_order(order.statement, order.key, policy)
        except Untrusted as error:
            yield _fault(trail, error.code, str(error))


def _is_cancelled(
    plan: Signed[Plan], trails: Mapping[str, Trail], plans: Mapping[str, Signed[Plan]], policy: Policy
) -> bool:
    """Whether an operator with the right to it cancelled the workflow, or one above it."""
    above = [one.statement.wf for one in (*above_of(plan, plans), plan)]
    orders = [one for workflow in above if workflow in trails for one in trails[workflow].orders]
    return any(one.statement.what == CANCEL and one.statement.wf in above and is_allowed(one, policy) for one in orders)


def _wrong_status(claimed: str | None, proved: Status | None) -> tuple[str, str] | None:
    """Return what is wrong with the status in the store, if it is."""
    if claimed is None:
        return None
    if proved is not None and claimed != proved.value:
        return "status", f"the store says {claimed!r}, and the workflow ended as {proved.value!r}"
    if proved is None and Status(claimed).is_terminal:
        return "cut", f"the store says {claimed!r}, and nothing signed says so: the end of the trail is missing"
    return None


# --- families --------------------------------------------------------------------------------------------------------


def _begun(trail: Trail) -> Mapping[str, frozenset[str]]:
    """Return the digests of the plans of the workflows that this one began, by workflow."""
    found = dict[str, frozenset[str]]()
    for link in trail.links:
        for workflow, plan in link.statement.begin.items():
            found[workflow] = found.get(workflow, frozenset()) | {plan}
    return found


def _in_family(
    one: Audited, trails: Mapping[str, Trail], begun: Mapping[str, Mapping[str, frozenset[str]]], *, has_family: bool
) -> Audited:
    """Return the result with what is wrong between the workflow and those that it began."""
    faults, missing = list(one.faults), list[str]()
    for workflow, digests in begun[one.workflow].items():
        there = trails.get(workflow)
        if there is not None and there.is_whole:
            if digests.isdisjoint(plan.digest for plan in there.plans):
                faults.append(Fault(workflow, "other-plan", "its plan is not the one with which its parent began it"))
        elif has_family:
            text = f"workflow {one.workflow} began it, and its trail is missing"
            faults.append(Fault(workflow, "missing-workflow", text))
        else:
            missing.append(workflow)
    return Audited(one.workflow, one.name, one.status, one.deeds, tuple(faults), tuple(missing))


def _fault(trail: Trail, code: str, text: str) -> Fault:
    return Fault(trail.workflow, code, text)
