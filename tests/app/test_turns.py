"""Agents whose turns run as steps over the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest

from paigeant import ActivityContext
from paigeant.errors import DuplicateActivity, StoreRequired, TurnTimeout, WorkflowFailed
from paigeant.turns import Agent, StopReason, ToolHook, Turn, hook, tool

pytestmark = pytest.mark.anyio

calls: list[Any] = []


@hook(ToolHook.BEFORE_INVOKE)
async def note(*args: Any, **kwargs: Any) -> None:
    calls.append(kwargs | {"step": ActivityContext.current().step.name})


@tool(hooks=[note], permission=lambda: "admin")
async def salute(permission: str, name: str, **more: str) -> str:
    return f"Hello, {name}, says {permission}"


@tool()
async def days(first: date, number: int) -> AsyncIterator[date | None]:
    for day in range(number):
        yield first.replace(day=first.day + day)
        yield None


@tool()
async def break_down() -> None:
    raise LookupError("nothing there")


@tool()
async def linger() -> None:
    await asyncio.Event().wait()


async def test_turns_are_steps_on_any_broker(elsewhere, running):
    """Positional, named, fixed and dynamic arguments; values are typed again; tool hooks run on the worker."""
    agent = Agent("greeter", "Greets people", [salute, days], app=elsewhere)
    await agent.put(Turn("salute", kwargs={"name": "World"}))
    await agent.put(Turn("salute", kwargs={"name": lambda: "you", "permission": "a guest"}))
    await agent.put(Turn("days", [date(2026, 1, 1)], {"number": 2}))
    calls.clear()
    async with running(elsewhere):
        async with asyncio.timeout(30):
            values = [value async for _, value in agent.run()]
    assert values == [
        "Hello, World, says admin",
        "Hello, you, says a guest",
        date(2026, 1, 1),
        None,
        date(2026, 1, 2),
        None,
    ]
    assert calls == [
        {"name": "World", "permission": "admin", "step": "salute"},
        {"name": "you", "permission": "a guest", "step": "salute"},
    ]


async def test_a_value_comes_while_its_turn_runs(app, running):
    """The tool waits for what the receiver does with it."""
    go_on = asyncio.Event()

    @tool()
    async def ask() -> AsyncIterator[str]:
        yield "question"
        await go_on.wait()
        yield "answer"

    agent, values = Agent("asker", "", [ask], app=app), []
    await agent.put(Turn(ask))
    async with running(app), asyncio.timeout(30):
        async for _, value in agent.run():
            values.append(value)
            go_on.set()
    assert values == ["question", "answer"]


async def test_errors_and_timeouts_of_a_worker_end_the_turn(app, running):
    """A timeout is that of the turn; anything else is the workflow's."""
    agent = Agent("test", "", [break_down, linger], app=app)
    broken, slow = Turn(break_down), Turn("linger", timeout=0.05)
    await agent.put(broken)
    await agent.put(slow)
    async with running(app), asyncio.timeout(30):
        with pytest.raises(WorkflowFailed, match="nothing there"):
            _ = [one async for one in agent.run()]
        with pytest.raises(TurnTimeout):
            _ = [one async for one in agent.run()]
    assert (broken.stop_reason, slow.stop_reason) == (StopReason.ERROR, StopReason.TIMEOUT)


async def test_tools_are_activities(app):
    """Shared by agents of one App, locked on all workers, and of a name that nothing else has."""

    @tool(lock=True)
    async def alone(customer: str) -> None: ...

    Agent("one", "", [alone], app=app)
    Agent("two", "", [alone], app=app)
    assert [one.limit.places for one in app.activities["alone"].limits] == [1]

    @app.activity(name="salute")
    async def other() -> None: ...

    with pytest.raises(DuplicateActivity, match="'salute'"):
        Agent("three", "", [salute], app=app)


async def test_without_a_store_an_agent_says_so_when_it_is_made(make_app):
    """Values are read from it."""
    with pytest.raises(StoreRequired):
        Agent("test", "", [salute], app=make_app("memory://", "none"))
