"""Scatter and gather: steps whose branches run side by side, each a workflow of its own, and come together in a join.

The step dispatches its branches and parks; the store counts how they end and lets it go on, once, when that is
decided. Its output is a list of :class:`~paigeant.join.BranchResult`, in the order in which the branches were declared.
"""

from __future__ import annotations

from typing import Any

from paigeant.context import ActivityContext
from paigeant.errors import InvalidInput
from paigeant.join import BranchResult, Join, Policy
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.steps import built_in, flat


def scatter(*branches: Any, policy: Policy = "all", deadline: float | None = None) -> ActivitySpec:
    """A step whose branches run side by side. A branch is a step, a list of steps or a routing slip. Needs a store.

    Every branch begins with the output of the step before and the variables, and keeps its changes of them to itself.
    Under ``policy`` ("all", "any", ``quorum(n)`` or "settled": they end, however) the step completes as soon as enough
    branches have, and fails with ``BranchesFailed`` as soon as too many have not, or after ``deadline`` seconds.
    Branches that still run then are cancelled.

    Raises:
        InvalidArguments: something that is no step, or a policy that these branches cannot meet.
    """
    Join.of(len(branches), policy)
    slips = tuple(_slip(one) for one in branches)
    return scatter_step.step(policy=policy, deadline=deadline).model_copy(update={"branches": slips})


def _slip(branch: Any) -> RoutingSlip:
    return branch if isinstance(branch, RoutingSlip) else RoutingSlip(itinerary=tuple(flat([branch])))


def scatter_map(
    *steps: Any, over: str | None = None, policy: Policy = "all", deadline: float | None = None
) -> ActivitySpec:
    """A step with a branch of these steps for each item of a list: the output of the step before, or of ``over``.

    To the first step of a branch the item is the output of the step before it. See :func:`scatter`.
    """
    slip = RoutingSlip(itinerary=tuple(flat(steps)))
    return map_step.step(over=over, policy=policy, deadline=deadline).model_copy(update={"branches": (slip,)})


@built_in("scatter")
def scatter_step(
    ctx: ActivityContext, policy: Policy = "all", deadline: float | None = None
) -> list[BranchResult[Any]]:
    """Runs branches side by side."""
    return ctx.gather(ctx.step.branches, policy=policy, deadline=deadline)


@built_in("map")
def map_step(
    ctx: ActivityContext, over: str | None = None, policy: Policy = "all", deadline: float | None = None
) -> list[BranchResult[Any]]:
    """Runs a branch for each item of a list."""
    items = ctx.previous if over is None else ctx.output(over)
    if not isinstance(items, list):
        what = "the step before" if over is None else repr(over)
        raise InvalidInput(f"the output of {what} is no list, and scatter_map runs a branch for each item of one")
    return ctx.gather(ctx.step.branches * len(items), items=items, policy=policy, deadline=deadline)
