"""Scatter and gather: a step runs branches in parallel, each as its own workflow, and joins their results.

The step dispatches its branches and its message is parked. The store counts how the branches end and resumes the step
once, when the join's policy is decided. The step's output is a list of :class:`~paigeant.wire.join.BranchResult`, in
the order in which the branches were declared.
"""

from __future__ import annotations

from typing import Any

from paigeant.activity.builtin import built_in, flat
from paigeant.context import ActivityContext
from paigeant.errors import InvalidInput
from paigeant.wire.join import BranchResult, Join, Policy
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.times import bounded


def scatter(
    *branches: Any, policy: Policy = "all", deadline: float | None = None
) -> ActivitySpec[list[BranchResult[Any]]]:
    """Plan a step that runs branches in parallel. A branch is a step, a list of steps or a routing slip. Needs a store.

    Every branch starts with the previous step's output and a copy of the variables; its changes stay in the branch.
    ``policy`` is "all", "any", ``quorum(n)`` or "settled" (all branches have ended, with or without success). The step
    completes as soon as enough branches have completed. It fails with ``BranchesFailed`` as soon as too many have
    failed, or after ``deadline`` seconds. Branches that still run then are cancelled.

    Raises:
        InvalidArguments: an argument is not a step, these branches can never meet the policy, or the deadline is more
            than a hundred years away.
    """
    Join.of(len(branches), policy)
    _check(deadline)
    slips = tuple(_slip(one) for one in branches)
    step: ActivitySpec = scatter_step.step(policy=policy, deadline=deadline)
    return step.model_copy(update={"branches": slips})


def _check(deadline: float | None) -> None:
    if deadline is not None:
        bounded("deadline", deadline)


def _slip(branch: Any) -> RoutingSlip:
    return branch if isinstance(branch, RoutingSlip) else RoutingSlip(itinerary=tuple(flat([branch])))


def scatter_map(
    *steps: Any, over: str | None = None, policy: Policy = "all", deadline: float | None = None
) -> ActivitySpec[list[BranchResult[Any]]]:
    """Plan a step that runs one branch of these steps per item of a list.

    The list is the output of the previous step, or of the step ``over``. The first step of a branch sees the item as
    the output of the previous step. See :func:`scatter`.
    """
    _check(deadline)
    slip = RoutingSlip(itinerary=tuple(flat(steps)))
    step: ActivitySpec = map_step.step(over=over, policy=policy, deadline=deadline)
    return step.model_copy(update={"branches": (slip,)})


@built_in("scatter")
def scatter_step(
    ctx: ActivityContext, policy: Policy = "all", deadline: float | None = None
) -> list[BranchResult[Any]]:
    """Run branches in parallel."""
    return ctx.gather(ctx.step.branches, policy=policy, deadline=deadline)


@built_in("map")
def map_step(
    ctx: ActivityContext, over: str | None = None, policy: Policy = "all", deadline: float | None = None
) -> list[BranchResult[Any]]:
    """Run a branch for each item of a list."""
    items = ctx.previous if over is None else ctx.output(over)
    if not isinstance(items, list):
        what = "the step before" if over is None else repr(over)
        raise InvalidInput(f"the output of {what} is not a list, and scatter_map needs a list")
    return ctx.gather(ctx.step.branches * len(items), items=items, policy=policy, deadline=deadline)
