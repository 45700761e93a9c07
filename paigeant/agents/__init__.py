"""pydantic-ai agents as activities. pydantic-ai itself is imported by whoever made the agent, never here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import to_json

from paigeant.activity import Activity, problem
from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.slip import ActivitySpec

if TYPE_CHECKING:
    from pydantic_ai import Agent


def agent_activity(agent: Agent[Any, Any], *, name: str | None = None, **options: Any) -> AgentActivity:
    """An activity that runs the agent with a step's prompt; the output is the run's, typed by the agent.

    Raises:
        ConfigurationError: the agent has no name and none is given.
    """
    found = name or agent.name
    if not found:
        hint = 'Agent(..., name="writer") or app.activity(agent, name="writer")'
        raise ConfigurationError("the agent has no name", hint=hint)
    return AgentActivity(agent, name=found, **options)


class AgentActivity(Activity[..., Any]):
    """An agent that workers run as a step. Earlier output and variables reach it as instructions."""

    def __init__(self, agent: Agent[Any, Any], *, name: str, **options: Any) -> None:
        self.agent = agent

        async def run(prompt: str, ctx: ActivityContext) -> Any:
            result = await agent.run(prompt, instructions=known_so_far(ctx))
            return result.output

        run.__name__ = run.__qualname__ = name
        super().__init__(run, name=name, **options | {"namespace": {"ActivityContext": ActivityContext}})

    def step(self, *, prompt: str | None = None, **arguments: Any) -> ActivitySpec:
        """A step that runs the agent with this prompt; without one, a variable ``prompt`` or the text before it is it.

        Raises:
            InvalidArguments: for anything but a prompt.
        """
        self.refuse_unknown(arguments)
        try:
            return ActivitySpec(name=self.name, prompt=prompt, priority=self.priority)
        except ValidationError as error:
            raise InvalidArguments(f"agent {self.name!r}: {problem(error)}") from error

    @property
    def output_type(self) -> Any:
        """The agent's output type where it is one type; Any for other output specifications."""
        declared = self.agent.output_type
        return declared if isinstance(declared, type) else Any


def known_so_far(context: ActivityContext) -> str | None:
    """What the steps before this one left, as an instruction for the model; the prompt itself is never touched."""
    log = context.message.routing_slip.log
    parts = []
    if log and log[-1].output is not None:
        parts.append(f"Output of the previous step ({log[-1].name}), as JSON:\n{_json(log[-1].output)}")
    if context.variables:
        parts.append(f"Variables of the workflow, as JSON:\n{_json(dict(context.variables))}")
    return "\n\n".join(parts) or None


def _json(value: Any) -> str:
    return to_json(value).decode()
