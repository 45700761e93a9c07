"""The tool with which an agent inserts steps right after its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai import ModelRetry
from pydantic_ai.tools import RunContext, Tool, ToolDefinition

from paigeant.context import ActivityContext
from paigeant.errors import InvalidArguments
from paigeant.slip import ActivitySpec

if TYPE_CHECKING:
    from paigeant.runway.agent import PaigeantAgent

TOOL = "_edit_itinerary"

_CORRECTIONS = 3
"""How often the model may correct an edit that was refused."""


def edit_tool(agent: PaigeantAgent[Any, Any]) -> Tool[Any]:
    """``_edit_itinerary({"registered-name": "prompt"})``, shown to the model where there is something to insert."""

    async def edit(**steps: Any) -> str:
        return _edit(agent, steps)

    async def shown(_: RunContext[Any], definition: ToolDefinition) -> ToolDefinition | None:
        return _shown(agent, definition)

    tool = Tool[Any].from_schema(edit, TOOL, "", {"type": "object"}, sequential=True)
    tool.prepare = shown
    tool.max_retries = _CORRECTIONS
    return tool


def _shown(agent: PaigeantAgent[Any, Any], definition: ToolDefinition) -> ToolDefinition | None:
    """The tool as the model sees it now: what it may insert and how many steps are left; None if it may nothing."""
    context, names = _running(agent), _insertable(agent)
    left = _left(agent, context) if context is not None else 0
    if not left or not names:
        return None
    definition.description = (
        "Insert steps into the workflow right after the current one, in the order given: the name of each with the "
        f"prompt for it. At most {left} more. What each is for: " + "; ".join(_about(agent, name) for name in names)
    )
    definition.parameters_json_schema = {
        "type": "object",
        "properties": {name: {"type": "string", "description": f"prompt for {name}"} for name in names},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return definition


def _edit(agent: PaigeantAgent[Any, Any], steps: dict[str, Any]) -> str:
    """Insert all of the steps, or none and say why."""
    context, names = _running(agent), _insertable(agent)
    if context is None:
        raise ModelRetry("There is no workflow here whose itinerary could be edited.")
    if unknown := [name for name in steps if name not in names]:
        raise ModelRetry(f"Nothing was inserted: there is no {unknown[0]!r}. You may insert: {', '.join(names)}.")
    left = _left(agent, context)
    if len(steps) > left:
        why = f"you may insert {left} more of {agent.max_added_steps} steps, and these are {len(steps)}"
        if not left:
            return f"Nothing was inserted: {why}."
        raise ModelRetry(f"Nothing was inserted: {why}.")
    try:
        context.insert(*(_step(names[name], prompt) for name, prompt in steps.items()))
    except InvalidArguments as error:
        raise ModelRetry(f"Nothing was inserted: {error}.") from error
    return f"Inserted after this step: {', '.join(steps)}."


def _running(agent: PaigeantAgent[Any, Any]) -> ActivityContext | None:
    """The step that runs this agent, if it is run by one: not by another agent's tool."""
    try:
        context = ActivityContext.current()
    except LookupError:
        return None
    activity = agent.dispatcher.app.activities.get(context.step.name) if agent.dispatcher is not None else None
    return context if getattr(activity, "agent", None) is agent else None


def _insertable(agent: PaigeantAgent[Any, Any]) -> dict[str, ActivitySpec]:
    return agent.dispatcher.registered if agent.dispatcher is not None else {}


def _left(agent: PaigeantAgent[Any, Any], context: ActivityContext) -> int:
    return max(agent.max_added_steps - len(context.edits.insert), 0)


def _about(agent: PaigeantAgent[Any, Any], name: str) -> str:
    """A line on what this name does, as far as it is known here."""
    known = agent.dispatcher.app.activities.get(name) if agent.dispatcher is not None else None
    about = (known.description if known else "") or _insertable(agent)[name].prompt or "no description"
    return f"{name}: {about}"


def _step(registered: ActivitySpec, prompt: Any) -> ActivitySpec:
    """The step as registered, with this prompt if it says anything."""
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidArguments(f"the prompt for {registered.name!r} is no text")
    said = (prompt or "").strip()
    return registered.model_copy(update={"prompt": said}) if said else registered
