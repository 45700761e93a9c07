"""An agent that plans workflows: it turns a request in words into steps that workers serve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models import Model

from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError, ScopesMissing
from paigeant.records.offer import Offer
from paigeant.runtime.nearest import suggestion
from paigeant.runway.dispatcher import WorkflowDispatcher
from paigeant.wire.user_token import claimed_scopes

_TASK = """\
You turn requests into workflows. Choose from the activities below those that fulfil the request, in the order in which
they have to run, and dispatch them with the tool dispatch_workflow, once. Variables hold what the request says that the
activities need: a variable fills the arguments of its name in every activity; an argument that no variable fills is
given the output of the activity before. Answer with the id that the tool returns."""

_CORRECTIONS = 3
"""How often the model may correct a rejected plan."""


@dataclass(frozen=True, slots=True)
class PlannerAgentDeps:
    """The ``deps`` of a planner: the dispatcher for its workflows, and the token of the user who asks."""

    workflow_dispatcher: WorkflowDispatcher
    user_obo_token: str | None = field(default=None, repr=False)


def create_planner_agent(model: Model | str | None = None, **options: Any) -> Agent[PlannerAgentDeps, str]:
    """Create an agent with the tool ``dispatch_workflow(activity_names, variables)``. It answers with a workflow's id.

    The agent knows the activities of its dispatcher's App, those registered for insertion, and those that workers
    announce in the store, with their descriptions and arguments. It does not know activities that need scopes which the
    token of the user does not have. In a step, the step's activity must declare these scopes, too. If a plan has an
    unknown name or arguments that do not fit, the model has to correct it. ``options`` are those of
    :class:`pydantic_ai.Agent`.
    """
    given: dict[str, Any] = {"name": "planner", "instructions": _TASK, "defer_model_check": True} | options
    planner: Agent[PlannerAgentDeps, str] = Agent(model, deps_type=PlannerAgentDeps, **given)
    planner.instructions(_catalog)
    planner.tool(retries=_CORRECTIONS)(dispatch_workflow)
    return planner


async def dispatch_workflow(
    ctx: RunContext[PlannerAgentDeps], activity_names: list[str], variables: dict[str, Any] | None = None
) -> str:
    """Dispatch a workflow of these activities, in this order, and return its id.

    Args:
        ctx: The run.
        activity_names: Names of activities, in the order in which they are to run.
        variables: Values that the activities need, by name.
    """
    dispatcher = ctx.deps.workflow_dispatcher
    offers = await _offers(ctx.deps)
    if unknown := [name for name in activity_names if name not in offers]:
        more = suggestion(unknown[0], offers, " Did you mean")
        there = ", ".join(sorted(offers)) or "none"
        raise ModelRetry(f"There is no activity {unknown[0]!r}.{more} There are: {there}.")
    steps = [dispatcher.planned(offers[name]) for name in activity_names]
    try:
        if (step := ActivityContext.running()) is not None:  # dispatched once, even if the step runs again
            return step.dispatch(*steps, variables=variables)
        return await dispatcher.dispatch_workflow(steps, variables=variables, obo_token=ctx.deps.user_obo_token)
    except (ConfigurationError, ScopesMissing) as error:
        raise ModelRetry(f"This cannot be dispatched: {error}") from error


async def _catalog(ctx: RunContext[PlannerAgentDeps]) -> str:
    offers = await _offers(ctx.deps)
    lines = [_line(offer) for _, offer in sorted(offers.items())]
    return "Activities:\n" + ("\n".join(lines) or "(none is known)")


async def _offers(deps: PlannerAgentDeps) -> dict[str, Offer]:
    """Return the activities that the planner may plan: those whose scopes its step, or its user's token, has."""
    step = ActivityContext.running()
    scopes = claimed_scopes(deps.user_obo_token) if step is None else step.scopes_for_agents
    return {
        name: offer
        for name, offer in (await deps.workflow_dispatcher.offers()).items()
        if scopes.issuperset(offer.scopes)
    }


def _line(offer: Offer) -> str:
    about = f": {offer.description}" if offer.description else ""
    return f"- {offer.name}{about}\n  arguments: {_short(offer.input)}"


def _short(schema: Mapping[str, Any]) -> str:
    """Format the arguments' schema, with the shared types that it refers to."""
    types = f", where $defs are {json.dumps(schema['$defs'])}" if "$defs" in schema else ""
    return json.dumps(schema.get("properties", {})) + types
