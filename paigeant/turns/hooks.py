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
    """Where a turn's hooks are called, and with what."""

    BEFORE_RUN = "before_run"
    """``(turn)``, before its tool is called."""
    ON_VALUE = "on_value"
    """``(turn, value)``, before each value is handed out."""
    AFTER_RUN = "after_run"
    """``(turn)``, when the tool has completed."""
    ON_TIMEOUT = "on_timeout"
    """``(turn)``, when it took too long."""
    ON_ERROR = "on_error"
    """``(turn, error)``, when the tool or a hook raised anything else."""


class AgentHook(StrEnum):
    """Where an agent's hooks are called, and with what."""

    BEFORE_PUT = "before_put"
    """``(agent, turn)``, before a turn joins the queue."""
    AFTER_PUT = "after_put"
    """``(agent, turn)``, when it has."""
    BEFORE_TURN = "before_turn"
    """``(agent)``, before the next turn leaves the queue."""
    AFTER_TURN = "after_turn"
    """``(agent, turn)``, when a turn has completed."""
    ON_TURN_VALUE = "on_turn_value"
    """``(agent, turn, value)``, before each value is handed out."""
    ON_TURN_TIMEOUT = "on_turn_timeout"
    """``(agent, turn)``, when a turn took too long."""
    ON_TURN_ERROR = "on_turn_error"
    """``(agent, turn, error)``, when a turn raised anything else."""


class ToolHook(StrEnum):
    """Where a tool's hooks are called, and with what: where the tool runs, which may be a worker."""

    BEFORE_INVOKE = "before_invoke"
    """``(*args, **kwargs)``, what the tool is about to be called with."""
    ON_YIELD = "on_yield"
    """``(value)``, before each value of a tool that streams."""
    AFTER_INVOKE = "after_invoke"
    """``(result)``, when it has completed; of a tool that streams, the list of its values."""


HookKind = TurnHook | AgentHook | ToolHook


class Hook:
    """An async function with the points at which it is called. It is put into the ``hooks`` of what it is about."""

    def __init__(self, function: Callable[..., Awaitable[None]], kinds: Iterable[HookKind]) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"the hook {function!r} is no async function", hint="write it with 'async def'")
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
"""The hooks of this process: what was written down finds them again by name."""


def hook(*kinds: HookKind) -> Callable[[Callable[..., Awaitable[None]]], Hook]:
    """Make an async function a hook: ``@hook(TurnHook.AFTER_RUN)``, then ``turn.hooks.append(it)``.

    What a hook raises ends the turn as an error of the tool would.

    Raises:
        ConfigurationError: it is no async function, there is nothing to call it at, or its name is taken.
    """
    if not kinds:
        raise ConfigurationError("a hook needs to know when to be called", hint="@hook(TurnHook.AFTER_RUN)")
    return lambda function: Hook(function, kinds)


async def call(found: Iterable[Hook], kind: HookKind, /, *args: Any, **kwargs: Any) -> None:
    """Call those of this kind, one after another."""
    for one in list(found):
        if kind in one.kinds:
            await one(*args, **kwargs)
