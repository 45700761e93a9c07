"""An agent: runs a queue of turns in order and streams their values."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from paigeant.errors import ConfigurationError, TurnTimeout
from paigeant.turns.hooks import AgentHook, Hook, call, hooks
from paigeant.turns.steps import Steps
from paigeant.turns.tools import Tool, tools
from paigeant.turns.turn import Turn, here

if TYPE_CHECKING:
    from paigeant.app import App

_agents: WeakValueDictionary[str, Agent] = WeakValueDictionary()
"""The latest agent of each name in this process, so that :meth:`Agent.send_turn` finds it."""


class Agent:
    """A queue of turns for some tools. With an ``app`` its tools are activities, and its turns run on workers.

    Hooks of the agent and of its turns run in this process. Hooks of a tool run where the tool runs.
    """

    def __init__(
        self,
        name: str,
        description: str,
        tools: Iterable[Tool[..., Any]],
        hooks: Iterable[Hook] = (),
        *,
        app: App | None = None,
    ) -> None:
        """
        Raises:
            ConfigurationError: two tools have the same name, or a tool cannot be an activity of the App.
            StoreRequired: the App has no store, which the agent needs to read values.
        """
        self.name = name
        self.description = description
        self.tools = _by_name(tools)
        self.hooks = list(hooks)
        self._queue: deque[Turn] = deque()
        self._source = here if app is None else Steps(app, self.tools.values())
        self._is_running = False
        _agents[name] = self

    def __repr__(self) -> str:
        return f"<agent {self.name!r}>"

    async def put(self, turn: Turn) -> None:
        """Add a turn to the end of the queue.

        Raises:
            ConfigurationError: the agent has no such tool.
        """
        if self.tools.get(turn.tool.name) is not turn.tool:
            hint = f"it has: {', '.join(self.tools) or 'none'}"
            raise ConfigurationError(f"{self!r} has no tool {turn.tool.name!r}", hint=hint)
        await call(self.hooks, AgentHook.BEFORE_PUT, self, turn)
        self._queue.append(turn)
        await call(self.hooks, AgentHook.AFTER_PUT, self, turn)

    async def send_turn(self, agent: str, turn: Turn) -> None:
        """Add a turn to the queue of another agent of this process. That agent runs the turn when you run the agent.

        Raises:
            ConfigurationError: there is no such agent, or it has no such tool.
        """
        if (receiver := _agents.get(agent)) is None:
            hint = "store a reference to every agent that you create"
            raise ConfigurationError(f"there is no agent {agent!r}", hint=hint)
        await receiver.put(turn)

    async def run(self) -> AsyncGenerator[tuple[Turn, Any], None]:
        """Run the turns in order and yield ``(turn, value)`` for each value, until the queue is empty.

        The queue includes turns that are added meanwhile. If a turn raises an error, this method raises it; a new call
        continues with the next turn.

        Raises:
            TurnTimeout: a turn took longer than its timeout.
            ConfigurationError: the agent is already running.
            WorkflowFailed: the tool failed on a worker.
        """
        if self._is_running:
            raise ConfigurationError(f"{self!r} is running", hint="put another turn instead")
        self._is_running = True
        try:
            while self._queue:
                await call(self.hooks, AgentHook.BEFORE_TURN, self)
                turn = self._queue.popleft()
                async with aclosing(self._values(turn)) as values:
                    async for value in values:
                        yield turn, value
                await call(self.hooks, AgentHook.AFTER_TURN, self, turn)
        finally:
            self._is_running = False

    async def _values(self, turn: Turn) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(turn.run(self._source)) as values:
                async for value in values:
                    await call(self.hooks, AgentHook.ON_TURN_VALUE, self, turn, value)
                    yield value
        except TurnTimeout:
            await call(self.hooks, AgentHook.ON_TURN_TIMEOUT, self, turn)
            raise
        except Exception as error:
            await call(self.hooks, AgentHook.ON_TURN_ERROR, self, turn, error)
            raise

    # --- serializing -----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Serialize the agent and its queue to JSON types for :meth:`from_dict`; tools and hooks become names.

        Raises:
            NotSerializable: an argument of a turn cannot be serialized, for example a dynamic one; the error names it.
        """
        return {
            "name": self.name,
            "description": self.description,
            "tool_names": list(self.tools),
            "queue": [turn.to_dict() for turn in self._queue],
            "hooks": [one.name for one in self.hooks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, app: App | None = None) -> Self:
        """Restore an agent and its queue from the output of :meth:`to_dict`.

        Raises:
            ConfigurationError: this process does not define a tool or hook with one of the names.
        """
        found = [tools.get(name) for name in data["tool_names"]]
        known = [hooks.get(name) for name in data.get("hooks", ())]
        agent = cls(data["name"], data["description"], found, known, app=app)
        agent._queue.extend(Turn.from_dict(one) for one in data.get("queue", ()))
        return agent


def _by_name(given: Iterable[Tool[..., Any]]) -> dict[str, Tool[..., Any]]:
    found: dict[str, Tool[..., Any]] = {}
    for one in given:
        if not isinstance(one, Tool):
            raise ConfigurationError(f"{one!r} is not a tool", hint="decorate it with @tool()")
        if found.setdefault(one.name, one) is not one:
            raise ConfigurationError(f"two tools are called {one.name!r}")
    return found
