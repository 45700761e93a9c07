"""Decides what the signed statements of one workflow prove: how it ended, and what its steps did. Pure.

A store keeps all statements of a workflow. They are one chain: each link names the plan and the link before it. So
this module needs no message and no row, and nothing that a stranger writes beside the chain changes what it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paigeant.decisions.judge import (
    MOST_ABOVE,
    amend,
    judge_back,
    judge_plan,
    judge_right,
    may_be_left_out,
    named,
    position,
    undo_in,
)
from paigeant.errors import Untrusted
from paigeant.records.trust import Policy
from paigeant.records.workflow import Status
from paigeant.wire.planned import PlannedStep
from paigeant.wire.proof import Did, Link, Plan, Signed


@dataclass(frozen=True, slots=True)
class ProvenStep:
    """A step that completed: its activity, the key that ran it, its attempt, and the digest of its output."""

    act: str
    key: str
    out: str | None
    att: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Proven:
    """The proved facts of a workflow. ``status`` is the status with which it ended; None if it has not.

    ``output`` is the digest of its final output. ``steps`` are the completed steps and ``undo`` the digests of the
    compensations that they recorded, by step. ``begun`` has the digests of the plans that were signed for each
    workflow that it began. ``links`` are the links in their order, without those that an order has made void.
    """

    plan: Signed[Plan]
    links: tuple[Signed[Link], ...] = ()
    status: Status | None = None
    output: str | None = None
    steps: Mapping[str, ProvenStep] = field(default_factory=dict)
    undo: Mapping[str, str] = field(default_factory=dict)
    begun: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def standing(self) -> Status:
        """The status of the workflow by its links alone: orders to cancel or to pause it are not among them."""
        is_back = any(one.statement.back for one in self.links)
        return self.status or (Status.COMPENSATING if is_back else Status.RUNNING)


def proven(
    plan: Signed[Plan], links: Iterable[Signed[Link]], policy: Policy, above: Sequence[Signed[Plan]] = ()
) -> Proven:
    """Return what these statements prove. Their signatures are right: ``paigeant.security.notary`` checks them.

    ``links`` are all links and orders of the workflow, in any order. ``above`` are the plans of its ancestors, the
    root first; a workflow that a step began needs them. No clock is needed: an old workflow stays proven.

    Raises:
        Untrusted: they prove nothing, because a key did what it may not, or a link is missing or out of its place.
    """
    parent: Signed[Plan] | None = None
    for one in (*above, plan):
        judge_plan(one, parent, above[0] if above else plan, policy, one.statement.iat)
        parent = one
    path = path_of(plan, links)
    return _walked(plan, path, policy)


def above_of(plan: Signed[Plan], plans: Mapping[str, Signed[Plan]]) -> tuple[Signed[Plan], ...]:
    """Return the plans of the ancestors, the root first, as far as they are among these plans, by their digests."""
    above = list[Signed[Plan]]()
    while (origin := plan.statement.origin) is not None and origin.plan in plans and len(above) <= MOST_ABOVE:
        plan = plans[origin.plan]
        above.append(plan)
    return tuple(reversed(above))


def path_of(plan: Signed[Plan], links: Iterable[Signed[Link]]) -> tuple[Signed[Link], ...]:
    """Return the links from the plan to the latest one.

    Two links may follow the same one: an operator redrives a message that had failed, or a workflow is cancelled
    while its last step ran. The path with the higher epoch counts, and of these the longer one.

    Raises:
        Untrusted: a link between the plan and the latest link is missing.
    """
    found = {one.digest: one for one in links if one.statement.plan == plan.digest}
    tip = max((one for one in found.values() if _may_be_last(one.statement)), key=_rank, default=None)
    path = list[Signed[Link]]()
    while tip is not None:
        path.append(tip)
        said = tip.statement
        tip = found.get(said.prev) if said.prev is not None else None
        before = tip.statement.n if tip is not None else 0
        if (said.prev is not None and tip is None) or said.n != before + 1:
            raise Untrusted("missing-link", f"the link before that of step {said.step!r} ({said.act}) is missing")
    return tuple(reversed(path))


def _may_be_last(said: Link) -> bool:
    """Whether the workflow stands there: an order counts if it sends the message again."""
    return said.order is None or said.did is Did.REDRIVEN or said.end is not None


def _rank(link: Signed[Link]) -> tuple[int, int, bool, bool]:
    said = link.statement
    return said.epoch, said.n, said.did is Did.TURNED, said.end is not None


def _walked(plan: Signed[Plan], path: Sequence[Signed[Link]], policy: Policy) -> Proven:
    walk = _Walk(list(plan.statement.steps))
    for link in path:
        judge_right(link, policy)
        walk.take(link, plan, policy)
    last = path[-1].statement if path else None
    return Proven(
        plan,
        tuple(path),
        status=_status(last),
        output=last.out if last is not None and last.end == Status.COMPLETED.value else None,
        steps=walk.done,
        undo=walk.undo,
        begun={one: frozenset(plans) for one, plans in walk.begun.items()},
    )


def _status(last: Link | None) -> Status | None:
    if last is None or last.end is None:
        return None
    try:
        return Status(last.end)
    except ValueError:
        raise Untrusted("end", f"a link says that the workflow ended as {last.end!r}") from None


@dataclass(slots=True)
class _Walk:
    """Walks along the links: ``steps`` as plan and amendments have them, and ``at``, the place of the next one."""

    steps: list[PlannedStep]
    at: int = 0
    epoch: int = 0
    is_back: bool = False
    is_over: bool = False
    done: dict[str, ProvenStep] = field(default_factory=dict)
    undo: dict[str, str] = field(default_factory=dict)
    begun: dict[str, set[str]] = field(default_factory=dict)
    inserters: dict[str, tuple[str, str]] = field(default_factory=dict)
    inserted: Counter[str] = field(default_factory=Counter)

    def take(self, link: Signed[Link], plan: Signed[Plan], policy: Policy) -> None:
        """Go on to the place after this link.

        Raises:
            Untrusted: the link is not about the next step, or changes what it may not.
        """
        said = link.statement
        self._judge_place(said)
        if said.end == Status.COMPLETED.value:
            self._judge_end(said, plan.statement.grant.refuses_editor(said.act))
        self.undo |= undo_in(said)
        for workflow, digest in said.begin.items():
            self.begun.setdefault(workflow, set()).add(digest)
        if not self.is_back and not said.back:
            self._forward(link, plan, policy)
        if said.back:
            self.steps, self.at, self.is_back = list(judge_back(said, self.undo)), 0, True
        else:
            self.at = position(self.steps, said) + (not said.stays)
        self.epoch, self.is_over = said.epoch, said.end is not None

    def _judge_place(self, said: Link) -> None:
        if self.is_over and said.did is not Did.REDRIVEN:
            raise Untrusted("over", f"step {said.step!r} ({said.act}) ran after the workflow had ended")
        if said.epoch < self.epoch:
            raise Untrusted("epoch", f"a link of step {said.step!r} is from before its workflow was redriven")
        if said.did is Did.REDRIVEN and self.is_back:
            return  # the compensation of a step that was left earlier
        if (found := position(self.steps, said)) != self.at:
            raise Untrusted("skipped", self._out_of_place(said, found))

    def _out_of_place(self, said: Link, found: int) -> str:
        if found < self.at:
            return f"step {said.step!r} ({said.act}) has a link after it was done"
        return f"step {self.steps[self.at].id!r} ({self.steps[self.at].name}) has no link"

    def _forward(self, link: Signed[Link], plan: Signed[Plan], policy: Policy) -> None:
        said, grant = link.statement, plan.statement.grant
        amend(self.steps, link, self.inserters, self.inserted, grant, policy)
        if said.did is Did.COMPLETED:
            self.done[said.step] = ProvenStep(said.act, link.key, said.out, said.att, said.epoch)

    def _judge_end(self, said: Link, refusal: str | None) -> None:
        if said.did is not Did.COMPLETED or self.is_back:
            raise Untrusted("end", f"a link says that the workflow completed, and step {said.step!r} did not")
        done = named(self.steps[: self.at + 1])
        is_early = any(not may_be_left_out(one, done) for one in self.steps[self.at + 1 :])
        if is_early and refusal is not None:
            raise Untrusted("end", f"step {said.act!r} ended the workflow early, and {refusal}")
