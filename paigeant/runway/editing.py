"""The tool with which an agent inserts steps right after its own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic_ai import ModelRetry
from pydantic_ai.tools import RunContext, Tool, ToolDefinition

from paigeant.context import ActivityContext
from paigeant.errors import InvalidArguments, ScopesMissing
from paigeant.runtime.nearest import suggestion
from paigeant.wire.slip import ActivitySpec

if TYPE_CHECKING:
    from paigeant.runway.agent import PaigeantAgent
    from paigeant.runway.dispatcher import WorkflowDispatcher

TOOL = "_edit_itinerary"

_CORRECTIONS = 3
"""How often the model may correct a rejected edit."""


def edit_tool(agent: PaigeantAgent[Any, Any]) -> Tool[Any]:
    """Create the tool ``_edit_itinerary({"registered-name": "prompt"})``; the model sees it if it may insert steps."""

    async def edit(**steps: Any) -> str:
        return _edit(agent, steps)

    async def shown(_: RunContext[Any], definition: ToolDefinition) -> ToolDefinition | None:
        return _shown(agent, definition)

    tool = Tool[Any].from_schema(edit, TOOL, "", {"type": "object"}, sequential=True)
    tool.prepare = shown
    tool.max_retries = _CORRECTIONS
    return tool


def _shown(agent: PaigeantAgent[Any, Any], definition: ToolDefinition) -> ToolDefinition | None:
    """Describe the tool for the model: which steps it may insert and how many; None if it may insert none."""
    edit = Edit.of(agent)
    if edit is None or not edit.left or not edit.names:
        return None
    definition.description = (
        "Insert steps into the workflow right after the current one, in the order given: the name of each with the "
        f"prompt for it. At most {edit.left} more. What each is for: " + "; ".join(map(edit.about, edit.names))
    )
    definition.parameters_json_schema = {
        "type": "object",
        "properties": {name: {"type": "string", "description": f"prompt for {name}"} for name in edit.names},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return definition


def _edit(agent: PaigeantAgent[Any, Any], steps: dict[str, Any]) -> str:
    """Insert all of the steps, or none and return the reason."""
    edit = Edit.of(agent)
    if edit is None:
        return "Nothing was inserted: there is no workflow here."
    if unknown := [name for name in steps if name not in edit.names]:
        allowed = ", ".join(edit.names) or "nothing"
        more = suggestion(unknown[0], edit.names, " Did you mean")
        raise ModelRetry(f"Nothing was inserted: there is no {unknown[0]!r}.{more} You may insert: {allowed}.")
    if not edit.left:
        return "Nothing was inserted: you may insert no more steps."
    if len(steps) > edit.left:
        raise ModelRetry(f"Nothing was inserted: you may insert {edit.left} more steps, and these are {len(steps)}.")
    try:
        edit.context.insert(*(_step(edit.names[name], prompt) for name, prompt in steps.items()))
    except (InvalidArguments, ScopesMissing) as error:
        raise ModelRetry(f"Nothing was inserted: {error}.") from error
    return f"Inserted after this step: {', '.join(steps)}."


@dataclass(frozen=True, slots=True)
class Edit:
    """The edits that an agent's step may still make: it may insert ``left`` of the registered steps ``names``."""

    context: ActivityContext
    dispatcher: WorkflowDispatcher
    names: dict[str, ActivitySpec]
    left: int

    @classmethod
    def of(cls, agent: PaigeantAgent[Any, Any]) -> Self | None:
        """Return the edits that the running step allows; None outside of a workflow and in another agent's tool."""
        context, dispatcher = ActivityContext.running(), agent.dispatcher
        if context is None or dispatcher is None:
            return None
        name, slip = context.step.name, context.message.routing_slip
        if getattr(dispatcher.app.activities.get(name), "agent", None) is not agent:
            return None
        registered = dispatcher.registered | {step.name: step for step in slip.registered}
        names = {
            one: step
            for one, step in registered.items()
            if slip.grant.allows(name, one) and _may_run(dispatcher, one, context)
        }
        left = min(slip.insertions_left, agent.max_added_steps - slip.inserted.get(name, 0)) - context.inserting
        return cls(context, dispatcher, names, max(left, 0))

    def about(self, name: str) -> str:
        """Return one line that describes the activity with this name, as far as this process knows it."""
        known = self.dispatcher.app.activities.get(name)
        about = (known.description if known else "") or self.names[name].prompt or "no description"
        return f"{name}: {about}"


def _may_run(dispatcher: WorkflowDispatcher, name: str, context: ActivityContext) -> bool:
    """Whether an agent in this step has the scopes of the activity, as far as they are known here."""
    known = dispatcher.app.activities.get(name)
    return known is None or context.scopes_for_agents.issuperset(known.scopes)


def _step(registered: ActivitySpec, prompt: Any) -> ActivitySpec:
    """Return the registered step; a non-empty prompt replaces the registered one."""
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidArguments(f"the prompt for {registered.name!r} is not a string")
    said = (prompt or "").strip()
    return registered.model_copy(update={"prompt": said}) if said else registered
