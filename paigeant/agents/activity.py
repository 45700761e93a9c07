"""pydantic-ai agents as activities. pydantic-ai itself is imported by whoever made the agent, never here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from paigeant.activity import Activity, problem
from paigeant.activity.depends import Depends
from paigeant.agents.conversation import Conversation
from paigeant.agents.journal import Journal
from paigeant.agents.knowledge import known_so_far
from paigeant.agents.naming import variable_of
from paigeant.agents.outputs import output_type
from paigeant.agents.verdicts import verdict
from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.failure import Verdict
from paigeant.slip import ActivitySpec
from paigeant.values import adapter, jsonable

LEVELS = ("step", "model", "full")
"""What is not done again: finished steps, their finished model requests too, and their finished tool calls too."""

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.usage import UsageLimits

    from paigeant.agents.durability import Level


def agent_activity(
    agent: AbstractAgent[Any, Any], *, name: str | None = None, held_in: FrameType | None = None, **options: Any
) -> AgentActivity:
    """An activity that runs the agent with a step's prompt; the output is the run's, typed by the agent.

    Its name is the one given, else the agent's, else that of the variable in ``held_in`` which holds it.

    Raises:
        ConfigurationError: the agent has no name and none is given or found.
    """
    found = name or agent.name or (variable_of(agent, held_in) if held_in is not None else None)
    if not found:
        hint = 'Agent(..., name="writer") or app.activity(agent, name="writer")'
        raise ConfigurationError("the agent has no name", hint=hint)
    return AgentActivity(agent, name=found, **options)


class AgentActivity(Activity[..., Any]):
    """An agent that workers run as a step. Earlier output and variables reach it as instructions.

    ``prompt`` is that of steps that have none. ``deps`` makes the agent's dependencies on the worker, as
    ``Depends(deps)`` would; without it a step may carry them, if the agent's ``deps_type`` can be read from JSON.
    ``usage_limits`` hold for one run of the agent. ``durable`` says what is not done again when a step runs again that
    was interrupted: ``full``, no finished model request or tool call; ``model``, no model request; ``step``, nothing of
    that. It needs a store. With ``stream`` the agent's tokens and tool calls are shown as events while it runs.
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        name: str,
        prompt: str | None = None,
        deps: Callable[..., Any] | None = None,
        usage_limits: UsageLimits | None = None,
        durable: Level = "full",
        stream: bool = False,
        **options: Any,
    ) -> None:
        if durable not in LEVELS:
            raise ConfigurationError(f"activity {name!r}: durable is {durable!r}", hint=f"one of {', '.join(LEVELS)}")
        self.agent = agent
        self.usage_limits = usage_limits
        self.durable = durable
        self.streams = stream
        self.makes_deps = deps is not None
        self.step_only = frozenset({"conversation", "deps"} if prompt is None else {"conversation", "deps", "prompt"})

        async def run(*, prompt: str, ctx: ActivityContext, conversation: str | None = None, deps: Any = None) -> Any:
            return await self._run(prompt, ctx, conversation, deps)

        run.__name__ = run.__qualname__ = name
        run.__doc__ = getattr(agent, "description", None)
        own = {"prompt": prompt, "deps": Depends(deps) if deps else None, "conversation": None}
        run.__kwdefaults__ = {name: value for name, value in own.items() if name != "prompt" or value is not None}
        run.__annotations__["deps"] = self.deps_type or Any
        super().__init__(run, name=name, **options | {"namespace": {"ActivityContext": ActivityContext}})

    async def _run(self, prompt: str, ctx: ActivityContext, conversation: str | None, deps: Any) -> Any:
        from paigeant.agents.durability import Durability, is_dead_end, replays

        talk = Conversation(conversation) if conversation else None
        messages, usage = talk.so_far(ctx.variables) if talk else (None, None)
        journal = await Journal.open(ctx)
        try:
            with replays():
                result = await self.agent.run(
                    prompt,
                    deps=deps,
                    instructions=known_so_far(ctx),
                    message_history=messages,
                    usage=usage,
                    usage_limits=self.usage_limits,
                    capabilities=[*self._shown(ctx), Durability(journal, self.durable)],
                )
        except Exception as error:
            if is_dead_end(error):
                await journal.restart()
            raise
        if talk:
            talk.carry(result, ctx.variables)
        return result.output

    def _shown(self, ctx: ActivityContext) -> list[AbstractCapability[Any]]:
        """What has the run's events shown, if they are to be."""
        if not self.streams:
            return []
        from paigeant.agents.streaming import Streaming

        return [Streaming(ctx.stream)]

    def judge(self, error: BaseException) -> Verdict | None:
        return verdict(error)

    # --- planning a step -------------------------------------------------------------------------------------

    def step(
        self,
        *,
        prompt: str | None = None,
        deps: Any = None,
        conversation: str | Conversation | None = None,
        **arguments: Any,
    ) -> ActivitySpec:
        """A step that runs the agent with this prompt; without one, a variable ``prompt`` or the text before it is it.

        ``deps`` are carried to the worker as data. Steps of one ``conversation`` see each other's messages.

        Raises:
            InvalidArguments: for anything else, or deps that are not of the agent's ``deps_type``.
            NotSerializable: for deps that cannot be written as JSON, naming their path.
        """
        self.refuse_unknown(arguments)
        named = conversation.name if isinstance(conversation, Conversation) else conversation
        try:
            return ActivitySpec(
                name=self.name,
                prompt=prompt,
                deps=None if deps is None else self._carried(deps),
                arguments={"conversation": named} if named else {},
                priority=self.priority,
            )
        except ValidationError as error:
            raise InvalidArguments(f"agent {self.name!r}: {problem(error)}") from error

    def _carried(self, deps: Any) -> Any:
        if self.makes_deps:
            raise InvalidArguments(f"agent {self.name!r} makes its deps on the worker", hint="leave deps out")
        if self.deps_type is None:
            raise InvalidArguments(
                f"agent {self.name!r}: its deps_type {_name(self.agent.deps_type)} cannot be read from JSON",
                hint="give the agent a deps_type that can, or make them on the worker: app.activity(agent, deps=make)",
            )
        try:
            checked = adapter(self.deps_type).validate_python(deps)
        except ValidationError as error:
            raise InvalidArguments(f"agent {self.name!r}, deps: {problem(error)}") from error
        return jsonable(checked, f"{self.name}.deps")

    # --- what the agent says of itself -----------------------------------------------------------------------

    @cached_property
    def deps_type(self) -> Any:
        """The type of dependencies that a step may carry; None if it may carry none."""
        declared: Any = self.agent.deps_type
        if self.makes_deps or declared is type(None):
            return None
        try:
            adapter(declared)
        except Exception:  # noqa: BLE001 - whatever somebody's class raises here, it cannot be read from JSON
            return None
        return declared

    @cached_property
    def output_type(self) -> Any:
        """One type for all that the agent's output_type allows; Any where no type says it."""
        return output_type(self.agent.output_type)


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", repr(kind))
