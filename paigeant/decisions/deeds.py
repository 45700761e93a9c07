"""Says in plain words what the signed statements of a workflow report: who did what, and when. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from paigeant.wire.proof import Answer, Did, Link, Order, Plan, Signed

_SAYS = {
    Did.COMPLETED: "completed {step}",
    Did.RETRIED: "tried {step}, which failed and was retried",
    Did.PARKED: "ran {step} until it waited for {key}",
    Did.REPLACED: "tried {step}, which failed and was replaced",
    Did.TURNED: "ended {step} without success, and the compensation began",
    Did.UNDONE: "compensated {step}",
    Did.LEFT: "could not compensate {step}",
    Did.REDRIVEN: "redrove {step}",
    Did.EDITED: "edited {step}",
    Did.ENDED: "ended {step} without success",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that the owner of a key did: ``key`` is the name of the key, ``at`` the time in epoch seconds.

    ``order`` is the right that an operator used. ``is_void``: an operator's order took the place of what was done.
    """

    at: int
    workflow: str
    key: str
    did: str
    text: str
    step: str | None = None
    activity: str | None = None
    order: str | None = None
    is_void: bool = False


def deeds_of(
    plan: Signed[Plan] | None,
    links: Sequence[Signed[Link]],
    others: Sequence[Signed[Answer | Order]],
    path: Collection[Signed[Link]],
) -> Sequence[Deed]:
    """Return what the statements of one workflow report, in the order of time.

    Links of other plans are left out. ``path`` are the links that count; it may be empty if that is not known.
    """
    if plan is None:
        return ()
    own = sorted((one for one in links if one.statement.plan == plan.digest), key=lambda one: one.statement.n)
    counting = {one.digest for one in path or own}
    workflow = plan.statement.wf
    found = [_begun(plan), *(_of_link(workflow, one, is_void=one.digest not in counting) for one in own)]
    found += [_of_other(workflow, one) for one in others if one.statement.wf == workflow]
    return sorted(found, key=lambda one: one.at)


def _begun(plan: Signed[Plan]) -> Deed:
    said = plan.statement
    text = f"dispatched the workflow {said.name!r}" if said.name else "dispatched the workflow"
    if said.origin is not None:
        text += f" from step {said.origin.step} {said.origin.act} of workflow {said.origin.wf}"
    if said.forked is not None:
        text += f" as a fork of {said.forked}"
    if said.sub is not None:
        text += f" for user {said.sub!r}"
    return Deed(said.iat, said.wf, plan.key, "dispatched", text)


def _of_link(workflow: str, link: Signed[Link], *, is_void: bool) -> Deed:
    said = link.statement
    step = f"step {said.step} {said.act}" + (f" (attempt {said.att})" if said.att > 1 else "")
    text = "; ".join([_SAYS[said.did].format(step=step, key=said.key or "a timer"), *_more(said)])
    if said.order is not None and said.did not in (Did.REDRIVEN, Did.EDITED):
        text = f"ordered {said.order!r}: {text}"
    return Deed(said.iat, workflow, link.key, said.did.value, text, said.step, said.act, said.order, is_void)


def _more(said: Link) -> Iterator[str]:
    """Yield what else came of an attempt."""
    if said.ins:
        yield f"inserted {', '.join(f'{one.id} {one.name}' for one in said.ins)}"
    if said.skip:
        yield f"skipped step {', '.join(said.skip)}"
    if said.begin:
        yield f"dispatched {', '.join(said.begin)}"
    if said.end is not None:
        yield f"the workflow ended: {said.end}"


def _of_other(workflow: str, signed: Signed[Answer | Order]) -> Deed:
    said = signed.statement
    if isinstance(said, Order):
        text = f"ordered {said.what!r}" + (f": {said.reason}" if said.reason else "")
        return Deed(said.iat, workflow, signed.key, "ordered", text, order=said.what)
    by = f" for {said.by}" if said.by and said.by != signed.key else ""
    what = "answered the question" if said.question is not None else "sent the signal"
    return Deed(said.iat, workflow, signed.key, "answered", f"{what} {said.key!r}{by}")
