"""Tracks the running tool call, so that the agents which it runs write to the journal of its step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability

from paigeant.agents.journal import digest
from paigeant.context import ActivityContext
from paigeant.wire.usage import NOTHING, Usage

Inner = Callable[["ToolCall", str], AbstractCapability[Any]]
"""Makes the durability of an agent's run in this tool call. The keys of its units begin with this prefix."""


@dataclass(slots=True)
class ToolCall:
    """A running tool call.

    ``recorded`` is the usage of the units inside the call that the journal records separately. ``queued`` are the
    messages that the call added to its run.
    """

    key: str
    context: ActivityContext
    inner: Inner
    queue: Any = None
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    recorded: Usage = NOTHING
    queued: list[Any] = field(default_factory=list)
    _runs: Counter[str] = field(default_factory=Counter)

    def count(self, used: Usage) -> None:
        """Count the usage of a unit inside the call that the journal records separately."""
        self.recorded = self.recorded.plus(used)

    def place_of(self, agent: Agent[Any, Any], prompt: Any) -> str:
        """The prefix of the keys of an agent's run: it derives from the agent and the prompt.

        Equal runs differ by their order.
        """
        asked = digest((agent.name, prompt if isinstance(prompt, str) else None))[:16]
        self._runs[asked] += 1
        return f"{self.key}>{asked}:{self._runs[asked]}>"


_here: ContextVar[ToolCall | None] = ContextVar("paigeant_tool_call", default=None)


def running() -> ToolCall | None:
    """The tool call that is running here; None outside one."""
    return _here.get()


@contextmanager
def within(call: ToolCall) -> Iterator[None]:
    """Make this call the running one inside the ``with`` block."""
    token = _here.set(call)
    try:
        yield
    finally:
        _here.reset(token)


def _joined(agent: Agent[Any, Any], prompt: Any) -> list[AbstractCapability[Any]]:
    """The durability of an agent that runs here; empty unless a tool call runs it in the event loop of the step."""
    call = running()
    if call is None or call.loop is not asyncio.get_running_loop():
        return []
    return [call.inner(call, call.place_of(agent, prompt))]


def _follow_agents() -> None:
    """Add the durability to each run of any agent. pydantic-ai has no hook for agents that other code has made."""
    begin: Any = Agent.iter

    @wraps(begin)
    def iter(self: Agent[Any, Any], user_prompt: Any = None, **options: Any) -> Any:  # noqa: A001 - the name of the method that it replaces
        if joined := _joined(self, user_prompt):
            options["capabilities"] = [*(options.get("capabilities") or ()), *joined]
        return begin(self, user_prompt, **options)

    patched: Any = Agent
    patched.iter = iter


_follow_agents()
