"""pydantic-ai agents as activities. This module never imports pydantic-ai: the code that made the agent has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

from pydantic import ValidationError

from paigeant.activity import OPEN, Activity, problem
from paigeant.activity.depends import Depends
from paigeant.agents.conversation import Conversation
from paigeant.agents.journal import Journal
from paigeant.agents.knowledge import DEFAULT, checked_tells, known_so_far
from paigeant.agents.naming import variable_of
from paigeant.agents.outputs import output_type
from paigeant.agents.verdicts import verdict
from paigeant.context import ActivityContext
from paigeant.decisions.failure import Verdict
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.wire.slip import ActivitySpec, Output
from paigeant.wire.typed_values import form_of
from paigeant.wire.values import adapter

LEVELS = ("step", "model", "full")
"""Levels of durability. Each one adds to finished steps: nothing, finished model requests, and finished tool calls."""

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.usage import UsageLimits

    from paigeant.agents.durability import Level


def agent_activity(
    agent: AbstractAgent[Any, Any], *, name: str | None = None, assigned_in: FrameType | None = None, **options: Any
) -> AgentActivity[Any, Any]:
    """An activity that runs the agent with a step's prompt and returns the output of the run, typed by the agent.

    The activity takes the name given, else the agent's name, else that of the agent's variable in ``assigned_in``.

    Raises:
        ConfigurationError: the agent has no name, none is given, and no variable contains the agent.
    """
    found = name or agent.name or (variable_of(agent, assigned_in) if assigned_in is not None else None)
    if not found:
        hint = 'Agent(..., name="writer") or app.activity(agent, name="writer")'
        raise ConfigurationError("the agent has no name", hint=hint)
    return AgentActivity(agent, name=found, **options)


Deps = TypeVar("Deps")
"""The type of the deps that a step carries; None if it carries none."""


class AgentActivity(Activity[..., Any, Output], Generic[Deps, Output]):
    """An agent that workers run as a step.

    ``tells`` names the parts of the workflow that the model receives as an instruction: ``"previous"`` (the previous
    step's output, the default), ``"variables"`` (all of them), or single variables by name. ``prompt`` is the default
    prompt of its steps. ``deps`` makes the agent's dependencies on the worker, as ``Depends(deps)`` does; without it a
    step may carry them, if the agent's ``deps_type`` can be read from JSON. ``usage_limits`` apply to one run of the
    agent. ``durable`` selects what an interrupted step does not repeat: with ``full``, no finished model request or
    tool call; with ``model``, no finished model request. With ``step`` it repeats everything. This needs a store. With
    ``stream``, the agent's tokens and tool calls become events while it runs.
    """

    is_agent = True

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        name: str,
        prompt: str | None = None,
        deps: Callable[..., Any] | None = None,
        usage_limits: UsageLimits | None = None,
        durable: Level = "full",
        tells: Collection[str] = DEFAULT,
        stream: bool = False,
        **options: Any,
    ) -> None:
        if durable not in LEVELS:
            raise ConfigurationError(f"activity {name!r}: durable is {durable!r}", hint=f"one of {', '.join(LEVELS)}")
        self.agent = agent
        self.usage_limits = usage_limits
        self.durable = durable
        self.streams = stream
        self.tells = checked_tells(name, tells)
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
        from paigeant.agents.durability import Durability, replays

        talk = Conversation(conversation) if conversation else None
        messages, usage = talk.so_far(ctx.variables) if talk else (None, None)
        journal = await Journal.open(ctx)
        with replays():
            result = await self.agent.run(
                prompt,
                deps=deps,
                instructions=known_so_far(ctx, self.tells),
                message_history=messages,
                usage=usage,
                usage_limits=self.usage_limits,
                capabilities=[*self._shown(ctx), Durability(journal, self.durable)],
            )
        if talk:
            talk.carry(result, ctx.variables)
        return result.output

    def _shown(self, ctx: ActivityContext) -> list[AbstractCapability[Any]]:
        """The capability that shows the events of the run, if ``stream`` is on."""
        if not self.streams:
            return []
        from paigeant.agents.streaming import Streaming

        return [Streaming(ctx.stream)]

    def judge(self, error: BaseException) -> Verdict | None:
        return verdict(error)

    def conversation_of(self, step: ActivitySpec) -> str | None:
        name = step.arguments.get("conversation")
        return name if isinstance(name, str) else None

    # --- planning a step -------------------------------------------------------------------------------------

    def step(  # type: ignore[override]  # of all activities only those of agents have a fixed list of arguments
        self,
        *,
        prompt: str | None = None,
        deps: Deps | None = None,
        conversation: str | Conversation | None = None,
        **arguments: Never,
    ) -> ActivitySpec[Output]:
        """A step that runs the agent with this prompt.

        Without a prompt, the step uses a variable ``prompt``, or the text that the step before it returned. The message
        carries ``deps`` as data. Steps of one ``conversation`` see each other's messages.

        Raises:
            InvalidArguments: another argument, or deps that are not of the agent's ``deps_type``.
            NotSerializable: JSON cannot represent the deps; the error names their path.
        """
        self.refuse_unknown(arguments)
        named = conversation.name if isinstance(conversation, Conversation) else conversation
        try:
            return ActivitySpec(
                name=self.name,
                prompt=_closed(prompt),
                deps=None if _closed(deps) is None else self._carried(deps),
                arguments={"conversation": named} if _closed(named) else {},
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
            return form_of(self.deps_type).serialize(deps, f"{self.name}.deps")
        except ValidationError as error:
            raise InvalidArguments(f"agent {self.name!r}, deps: {problem(error)}") from error

    # --- types -----------------------------------------------------------------------------------------------

    @cached_property
    def deps_type(self) -> Any:
        """The type of the dependencies that a step may carry; None if it may carry none."""
        declared: Any = self.agent.deps_type
        if self.makes_deps or declared is type(None):
            return None
        try:
            adapter(declared)
        except Exception:  # noqa: BLE001 - a class that raises here, for any reason, cannot be read from JSON
            return None
        return declared

    @cached_property
    def output_type(self) -> Any:
        """One type for all outputs that the agent's output_type allows; Any if no type describes them."""
        return output_type(self.agent.output_type)


def _closed(value: Any) -> Any:
    """The value of an argument; None for an open argument."""
    return None if value is OPEN else value


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", repr(kind))
