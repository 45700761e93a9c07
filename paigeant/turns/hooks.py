"""Async callbacks at fixed points in the life of turns, agents and tools."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import update_wrapper
from typing import Any

from paigeant.errors import ConfigurationError
from paigeant.turns.names import Names


class TurnHook(StrEnum):
    """The points at which a turn's hooks are called, each with the hook's arguments."""

    BEFORE_RUN = "before_run"
    """``(turn)``, before its tool is called."""
    ON_VALUE = "on_value"
    """``(turn, value)``, before each value is yielded."""
    AFTER_RUN = "after_run"
    """``(turn)``, after the tool has completed."""
    ON_TIMEOUT = "on_timeout"
    """``(turn)``, after the turn ran into its timeout."""
    ON_ERROR = "on_error"
    """``(turn, error)``, after the tool or a hook raised any other error."""


class AgentHook(StrEnum):
    """The points at which an agent's hooks are called, each with the hook's arguments."""

    BEFORE_PUT = "before_put"
    """``(agent, turn)``, before a turn joins the queue."""
    AFTER_PUT = "after_put"
    """``(agent, turn)``, after the turn joined the queue."""
    BEFORE_TURN = "before_turn"
    """``(agent)``, before the next turn leaves the queue."""
    AFTER_TURN = "after_turn"
    """``(agent, turn)``, after a turn has completed."""
    ON_TURN_VALUE = "on_turn_value"
    """``(agent, turn, value)``, before each value is yielded."""
    ON_TURN_TIMEOUT = "on_turn_timeout"
    """``(agent, turn)``, after a turn ran into its timeout."""
    ON_TURN_ERROR = "on_turn_error"
    """``(agent, turn, error)``, after a turn raised any other error."""


class ToolHook(StrEnum):
    """The points at which a tool's hooks are called, each with the hook's arguments.

    Hooks of a tool run in the process that runs the tool, which may be a worker.
    """

    BEFORE_INVOKE = "before_invoke"
    """``(*args, **kwargs)``, the arguments of the call, before the tool runs."""
    ON_YIELD = "on_yield"
    """``(value)``, before each value of a tool that streams."""
    AFTER_INVOKE = "after_invoke"
    """``(result)``, after the tool has completed; for a tool that streams, the list of its values."""


HookKind = TurnHook | AgentHook | ToolHook


class Hook:
    """An async function with the points at which it is called. Add it to the ``hooks`` of a turn, agent or tool."""

    def __init__(self, function: Callable[..., Awaitable[None]], kinds: Iterable[HookKind]) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"the hook {function!r} is not an async function", hint="define it with 'async def'"
            )
        self.function = function
        self.kinds = frozenset(kinds)
        self.name = function.__name__
        update_wrapper(self, function)
        hooks.add(self.name, self)

    def __repr__(self) -> str:
        return f"<hook {self.name!r}>"

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        await self.function(*args, **kwargs)


hooks = Names[Hook]("hook")
"""The hooks of this process by name, so that ``from_dict`` finds them."""


def hook(*kinds: HookKind) -> Callable[[Callable[..., Awaitable[None]]], Hook]:
    """Decorate an async function as a hook: ``@hook(TurnHook.AFTER_RUN)``, then ``turn.hooks.append(it)``.

    If a hook raises an error, the turn ends as if the tool had raised it.

    Raises:
        ConfigurationError: the function is not async, ``kinds`` is empty, or the hook's name is taken.
    """
    if not kinds:
        raise ConfigurationError("a hook needs to know when to be called", hint="@hook(TurnHook.AFTER_RUN)")
    return lambda function: Hook(function, kinds)


async def call(found: Iterable[Hook], kind: HookKind, /, *args: Any, **kwargs: Any) -> None:
    """Call the hooks of this kind, one after another."""
    for one in list(found):
        if kind in one.kinds:
            await one(*args, **kwargs)
