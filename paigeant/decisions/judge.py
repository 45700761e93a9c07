"""Decides whether a signed message may be believed. Pure: takes statements whose signatures are right, and a policy.

Two calls, because nothing of a message may be parsed before its signatures are right: :func:`origin` judges plan and
links against the message's bytes, :func:`course` then judges what the message says. :mod:`paigeant.decisions.attest`
writes what is read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paigeant.errors import Untrusted
from paigeant.records.trust import ANYTHING, Policy, Right
from paigeant.wire.canonical import digest_of
from paigeant.wire.grant import Grant
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.planned import PlannedStep, is_rest
from paigeant.wire.proof import Chain, Did, Link, Plan, Signed
from paigeant.wire.slip import ActivitySpec

FORK = "fork"
"""The order to begin a workflow as a fork of another one."""

_ADD = "add to the rule of the key in the trust policy (PAIGEANT_TRUST): {}"

MOST_ABOVE = 32
"""Maximum number of ancestors of a workflow whose plans travel with it."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a workflow as plan and amendments have them, and where the message is among them.

    ``inserters`` has the key and activity that inserted a step, by the step's id.
    """

    steps: tuple[PlannedStep, ...]
    start: int
    inserters: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def ahead(self) -> tuple[PlannedStep, ...]:
        """The steps from the current one on."""
        return self.steps[self.start :]

    @property
    def done(self) -> frozenset[str]:
        """Ids and names of the steps before the current one."""
        return named(self.steps[: self.start])


def origin(chain: Chain, message: str, policy: Policy, now: float) -> None:
    """Judge plans and links; ``message`` is the digest of the message's bytes, ``now`` is epoch seconds.

    Raises:
        Untrusted: the message must not be read.
    """
    if len(chain.above) > MOST_ABOVE:
        raise Untrusted("too-deep", f"the workflow has {len(chain.above)} ancestors, and {MOST_ABOVE} is the limit")
    parent: Signed[Plan] | None = None
    for plan in (*chain.above, chain.plan):
        judge_plan(plan, parent, chain.root, policy, now)
        parent = plan
    told = chain.latest.statement.msg if chain.latest is not None else chain.plan.statement.msg
    if told != message:
        raise Untrusted("other-message", "the signature belongs to a message with other bytes")
    for link in chain.links:
        if link.statement.plan != chain.plan.digest:
            raise Untrusted("other-plan", f"a link of step {link.statement.step!r} belongs to another plan")
        judge_right(link, policy)
    if any(a.statement.n >= b.statement.n for a, b in zip(chain.links, chain.links[1:], strict=False)):
        raise Untrusted("order-of-links", "the links are not in the order in which they were signed")


def judge_plan(plan: Signed[Plan], parent: Signed[Plan] | None, root: Signed[Plan], policy: Policy, now: float) -> None:
    """Judge a plan: ``parent`` is the plan of the workflow that began this one, ``root`` that of the first ancestor.

    Raises:
        Untrusted: nobody may act on it.
    """
    said, key = plan.statement, plan.key
    if said.aud != policy.audience:
        raise Untrusted("audience", f"the plan is for {said.aud!r}, and this deployment is {policy.audience!r}")
    if said.iat > now + policy.leeway:
        raise Untrusted("from-the-future", "the plan was signed later than now: do the clocks agree?")
    if said.exp <= now - policy.leeway:
        raise Untrusted("expired", "the plan has expired")
    if said.exp - said.iat > policy.max_age:
        raise Untrusted("max-age", f"the plan is valid for longer than {policy.max_age:g} s, the policy's max_age")
    if said.origin is None:
        if parent is not None:
            raise Untrusted("other-plan", "a plan that no step began has ancestors")
        judge_beginning(said, key, policy)
    else:
        _judge_begun(plan, parent, root, policy)


def judge_beginning(said: Plan, key: str, policy: Policy) -> None:
    """Judge whether this key may begin a workflow with this plan. A fork is an order.

    Raises:
        Untrusted: it may not.
    """
    if said.forked is not None:
        if not policy.allows(key, Right.ORDER, FORK):
            raise Untrusted("order", f"key {key!r} may not fork workflows", hint=_ADD.format(f'order = ["{FORK}"]'))
    elif not policy.allows(key, Right.DISPATCH, said.name):
        hint = _ADD.format(f'dispatch = ["{said.name or ANYTHING}"]')
        raise Untrusted("dispatch", f"key {key!r} may not dispatch workflow {said.name!r}", hint=hint)
    if beyond := policy.beyond(key, said.scopes):
        hint = _ADD.format(f'scopes = ["{beyond[0]}"]')
        raise Untrusted("scopes", f"key {key!r} may not give scope {beyond[0]!r}", hint=hint)


def _judge_begun(plan: Signed[Plan], parent: Signed[Plan] | None, root: Signed[Plan], policy: Policy) -> None:
    """Judge the plan of a workflow that a step of another began: it has no more than its root."""
    said, key = plan.statement, plan.key
    origin = said.origin
    assert origin is not None, "the caller has looked"
    if parent is None or origin.plan != parent.digest or origin.wf != parent.statement.wf:
        raise Untrusted("other-plan", "the plan of the workflow that began this one is missing")
    if not policy.allows(key, Right.RUN, origin.act):
        raise Untrusted("run", f"key {key!r} may not run {origin.act!r}, which began this workflow")
    if beyond := said.scopes - parent.statement.scopes:
        raise Untrusted("scopes", f"scope {min(beyond)!r} is not one of the workflow that began this one")
    if (said.sub, said.cth) != (root.statement.sub, root.statement.cth):
        raise Untrusted("other-user", "the workflow is for another user than the one that began it")
    if said.grant != root.statement.grant:
        raise Untrusted("grant", "the workflow has another grant than the one that began it")
    if _is_planned_branch(said, parent.statement):
        return
    names = [step.name for step in said.steps]
    _judge_inserted(key, origin.act, names, max((one.depth for one in said.steps), default=1), {}, said.grant, policy)


def _is_planned_branch(said: Plan, parent: Plan) -> bool:
    """Whether the workflow is a branch that the parent's plan has, or the rest of one."""
    origin = said.origin
    if origin is None or origin.form is None or not isinstance(branches := origin.form.get("branches"), list):
        return False
    planned = next((one for one in parent.steps if one.id == origin.step), None)
    if planned is None or planned.name != origin.act or digest_of(origin.form) != planned.digest:
        return False
    place = 0 if len(branches) == 1 else origin.place
    if place is None or place >= len(branches):
        return False
    try:
        steps = [PlannedStep.read(one) for one in branches[place]["steps"]]
    except (ValueError, TypeError, KeyError):
        return False
    first = len(steps) - len(said.steps)
    if first < 0:
        return False
    rest = steps[first:]
    done = named(steps[:first])
    return all(one.as_in(found).allows(found, done) for one, found in zip(rest, said.steps, strict=True))


def judge_right(link: Signed[Link], policy: Policy) -> None:
    """Judge whether the key of a link may do what the link says.

    Raises:
        Untrusted: it may not.
    """
    said = link.statement
    if said.order is not None:
        if not policy.allows(link.key, Right.ORDER, said.order):
            raise Untrusted("order", f"key {link.key!r} may not {said.order}: no rule gives it that right")
    elif not policy.allows(link.key, Right.RUN, said.act):
        raise Untrusted("run", f"key {link.key!r} may not run {said.act!r}")


def _judge_inserted(
    key: str,
    act: str,
    names: Sequence[str],
    depth: int,
    inserted: Mapping[str, int],
    grant: Grant,
    policy: Policy,
) -> None:
    for name in names:
        if not policy.allows(key, Right.INSERT, name):
            raise Untrusted("insert", f"key {key!r} may not insert steps of {name!r}")
    if (refusal := grant.refuses_steps(act, names, depth, inserted)) is not None:
        raise Untrusted("grant", f"outside the grant: {refusal}")


# --- where the message is ----------------------------------------------------------------------------------------


def steps_of(chain: Chain, policy: Policy) -> Steps:
    """Return the steps that the plan and its amendments put ahead of the message.

    Raises:
        Untrusted: a link is about a step that there is not, or amends what it may not.
    """
    steps, inserters = list(chain.plan.statement.steps), dict[str, tuple[str, str]]()
    inserted = Counter[str]()
    for link in chain.links:
        if not (link.statement.back or link.statement.did in (Did.UNDONE, Did.LEFT)):
            amend(steps, link, inserters, inserted, chain.plan.statement.grant, policy)
    if (turned := chain.turned) is not None:
        return _back(chain, turned)
    latest = chain.latest
    if latest is None:
        return Steps(tuple(steps), 0)
    _judge_epochs(chain, steps)
    start = position(steps, latest.statement) + (not latest.statement.stays)
    _judge_reach(chain, steps, start, policy)
    return Steps(tuple(steps), start, inserters)


def amend(
    steps: list[PlannedStep],
    link: Signed[Link],
    inserters: dict[str, tuple[str, str]],
    inserted: Counter[str],
    grant: Grant,
    policy: Policy,
) -> None:
    """Change the ``steps`` as this link says. ``inserters`` and ``inserted`` count what each activity has inserted.

    Raises:
        Untrusted: the link is about a step that there is not, or changes what it may not.
    """
    said = link.statement
    at = position(steps, said)
    done = named(steps[: at + 1])
    if said.did in (Did.REDRIVEN, Did.EDITED):
        _edit(steps, at, said)
        return
    _leave_out(steps, at, said, grant)
    if said.did is Did.REPLACED:
        if not is_rest(said.ins, steps[at].otherwise, done):
            raise Untrusted("replaced", f"step {said.act!r} was replaced by other steps than planned")
        steps[at + 1 : at + 1] = said.ins
    elif said.ins:
        if (refusal := grant.refuses_editor(said.act)) is not None:
            raise Untrusted("grant", f"outside the grant: {refusal}")
        names, depth = [one.name for one in said.ins], steps[at].depth + 1
        if any(one.depth != depth for one in said.ins):
            raise Untrusted("grant", f"the steps inserted by {said.act!r} hide how deep they are")
        _judge_inserted(link.key, said.act, names, depth, inserted, grant, policy)
        inserted[said.act] += len(names)
        inserters.update({one.id: (link.key, said.act) for one in said.ins})
        steps[at + 1 : at + 1] = said.ins


def _edit(steps: list[PlannedStep], at: int, said: Link) -> None:
    """Put the edited step in the place of the one that an order is about."""
    for edited in said.ins:
        if (edited.id, edited.name) != (said.step, said.act) or len(said.ins) > 1:
            raise Untrusted("edit", f"an order about step {said.step!r} replaces another step")
        steps[at] = edited


def _leave_out(steps: list[PlannedStep], at: int, said: Link, grant: Grant) -> None:
    done = named(steps[: at + 1])
    for id in said.skip:  # noqa: A001
        skipped = next((one for one in steps[at + 1 :] if one.id == id), None)
        if skipped is None:
            raise Untrusted("skip", f"step {id!r} was left out, and is not ahead of step {said.act!r}")
        if not may_be_left_out(skipped, done) and (refusal := grant.refuses_editor(said.act)) is not None:
            raise Untrusted("skip", f"step {skipped.name!r} was left out, and {refusal}")
        steps.remove(skipped)


def may_be_left_out(step: PlannedStep, done: Collection[str]) -> bool:
    """Whether a condition of the step itself may have led to its absence."""
    return step.when is not None and (step.when.variable is not None or step.is_settled_by(done))


def position(steps: Sequence[PlannedStep], said: Link) -> int:
    """Return the place of the step that a link is about.

    Raises:
        Untrusted: nobody planned the step.
    """
    for at, step in enumerate(steps):
        if step.id == said.step:
            if step.name != said.act:
                raise Untrusted("other-step", f"step {said.step!r} is {step.name!r}, and a link says {said.act!r}")
            return at
    raise Untrusted("unplanned", f"a link is about step {said.step!r} ({said.act}), which nobody planned")


def _judge_reach(chain: Chain, steps: Sequence[PlannedStep], start: int, policy: Policy) -> None:
    """Only steps that the latest link's key may run lie between it and the latest link by another key.

    So one compromised service cannot skip the step of another.
    """
    latest = chain.links[-1]
    other = next((one for one in reversed(chain.links[:-1]) if one.key != latest.key), None)
    begin = 0 if other is None else position(steps, other.statement) + (not other.statement.stays)
    for step in steps[begin:start]:
        if latest.statement.order is None and not policy.allows(latest.key, Right.RUN, step.name):
            raise Untrusted("skipped", f"step {step.name!r} has no link: key {latest.key!r} may not run it")


def _judge_epochs(chain: Chain, steps: Sequence[PlannedStep]) -> None:
    """Links of an earlier epoch count only for steps before the one that was redriven."""
    order = next((one for one in reversed(chain.links) if one.statement.did is Did.REDRIVEN), None)
    if order is None:
        return
    at = position(steps, order.statement)
    for link in chain.links:
        if link.statement.epoch < order.statement.epoch and position(steps, link.statement) > at:
            raise Untrusted("epoch", f"a link of step {link.statement.step!r} is from before its workflow was redriven")


def _back(chain: Chain, turned: Signed[Link]) -> Steps:
    """Return the compensations: each must be what its step said when it completed."""
    undo = dict[str, str]()
    for link in chain.links:
        undo |= undo_in(link.statement)
    steps = judge_back(turned.statement, undo)
    latest = chain.links[-1]
    if latest is turned:
        return Steps(steps, 0)
    return Steps(steps, position(steps, latest.statement) + (not latest.statement.stays))


def undo_in(said: Link) -> Mapping[str, str]:
    """Return the compensations that this link may record: that of its own step, and those of its branches.

    Raises:
        Untrusted: it records the compensation of another step.
    """
    for id in said.undo:  # noqa: A001
        if id != said.step and not id.startswith(JOIN):
            raise Untrusted("undo", f"step {said.step!r} says how step {id!r} is taken back")
    return said.undo


def judge_back(said: Link, undo: Mapping[str, str]) -> tuple[PlannedStep, ...]:
    """Return the compensations that a link lists: each is the one that its step recorded.

    Raises:
        Untrusted: one is another.
    """
    for step in said.back:
        if undo.get(step.id) != step.digest:
            raise Untrusted("undo", f"step {step.id!r} ({step.name}) is taken back in another way than it recorded")
    return said.back


def named(steps: Iterable[PlannedStep]) -> frozenset[str]:
    """Return the ids and names of these steps, by which conditions name them."""
    return frozenset(text for step in steps for text in (step.id, step.name))


# --- what the message says -----------------------------------------------------------------------------------------


def course(chain: Chain, steps: Steps, message: PaigeantMessage, policy: Policy) -> None:
    """Judge what a message says whose bytes are signed: it is where plan and links put it, and claims no more.

    Raises:
        Untrusted: it must not run.
    """
    _judge_fields(chain, message)
    ahead, there = steps.ahead, message.routing_slip.itinerary
    if [(one.id, one.name) for one in ahead] != [(one.id, one.name) for one in there]:
        raise Untrusted("itinerary", _difference([one.name for one in ahead], [one.name for one in there]))
    for planned, step in zip(ahead[:2], there[:2], strict=True):  # the others are compared when they are current
        if not planned.allows(PlannedStep.of(step), steps.done):
            raise Untrusted("other-step", f"step {step.name!r} is not as planned: an argument or an option differs")
    if (inserter := steps.inserters.get(there[0].id)) is not None:
        _judge_inside(inserter, there[0], chain.plan.statement.grant, policy)


def _judge_fields(chain: Chain, message: PaigeantMessage) -> None:
    """Judge what the message says beside its steps."""
    plan, slip = chain.plan.statement, message.routing_slip
    if (message.correlation_id, message.name) != (plan.wf, plan.name):
        raise Untrusted("other-workflow", f"the plan is that of workflow {plan.wf}")
    if plan.origin is not None and plan.origin.wf != message.parent:
        raise Untrusted("other-workflow", f"the plan was signed by a step of workflow {plan.origin.wf}")
    if slip.is_back != (chain.turned is not None):
        raise Untrusted("heading", "the message travels in another direction than its links say")
    for name, value in limits_of(message).items():
        if chain.limits.get(name) != value:
            raise Untrusted("limits", f"the message has another {name} than the plan")
    if slip.grant != plan.grant:
        raise Untrusted("grant", "the message has another grant than the plan")
    _judge_epoch(chain, message)
    _judge_token(plan, message)


def limits_of(message: PaigeantMessage) -> dict[str, Any]:
    """Return the fields that no later message of the workflow may change, as the plan has them."""
    slip = message.routing_slip
    return {
        "budget": slip.budget and slip.budget.to_dict(),
        "deadline": message.deadline,
        "parent": message.parent,
        "branch": message.branch and message.branch.to_dict(),
        "registered": digest_of([one.to_dict() for one in slip.registered]) if slip.registered else None,
    }


def _judge_epoch(chain: Chain, message: PaigeantMessage) -> None:
    told = chain.latest.statement.epoch if chain.latest is not None else 0
    if message.epoch != told:
        raise Untrusted("epoch", f"the message is of epoch {message.epoch}, and its links are of epoch {told}")


def _judge_token(plan: Plan, message: PaigeantMessage) -> None:
    if message.obo_token is not None and token_digest(message.obo_token) != plan.cth:
        raise Untrusted("other-token", "the message carries the token of another user, or another token of this one")


def token_digest(token: str) -> str:
    """Return the digest of a user's token, which binds it to the plan of one workflow."""
    return digest_of(token)


def _judge_inside(inserter: tuple[str, str], step: ActivitySpec, grant: Grant, policy: Policy) -> None:
    """Judge the steps inside an inserted step, which its amendment does not list."""
    key, act = inserter
    for name in step.activities[1:]:
        if not policy.allows(key, Right.INSERT, name):
            raise Untrusted("insert", f"key {key!r} may not insert steps of {name!r}")
        if not grant.allows(act, name):
            raise Untrusted("grant", f"outside the grant: {name!r} may not be inserted by {act!r}")


def _difference(planned: Sequence[str], found: Sequence[str]) -> str:
    for at, (one, other) in enumerate(zip(planned, found, strict=False)):
        if one != other:
            return f"step {at + 1} ahead is {other!r}, and the plan has {one!r}"
    if len(found) < len(planned):
        return f"step {planned[len(found)]!r} is missing"
    if len(found) > len(planned):
        return f"step {found[len(planned)]!r} is not planned"
    return "the steps ahead have other ids than planned"
