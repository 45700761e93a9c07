"""Tools, turns and agents in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from paigeant.errors import ConfigurationError, InvalidArguments, NotSerializable, TurnTimeout
from paigeant.turns import Agent, AgentHook, StopReason, ToolHook, Turn, TurnHook, hook, tool

pytestmark = pytest.mark.anyio


@tool()
async def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@tool()
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


@tool
async def fail() -> None:
    raise LookupError("nothing there")


async def values_of(*turns: Turn, agent: Agent | None = None) -> list[Any]:
    agent = agent or Agent("test", "", {turn.tool for turn in turns})
    for turn in turns:
        await agent.put(turn)
    return [value async for _, value in agent.run()]


# --- running ---------------------------------------------------------------------------------------------------------


async def test_turns_run_in_order_and_each_value_comes_with_its_turn():
    """One value for a coroutine, each value of a generator; then the loop exits."""
    agent = Agent("test", "Counts", [add, count])
    first, second = Turn("add", args=[1], kwargs={"y": 2}), Turn(count, [2])
    await agent.put(first)
    await agent.put(second)

    assert [one async for one in agent.run()] == [(first, 3), (second, 0), (second, 1)]
    assert [one async for one in agent.run()] == []
    assert (first.output, second.output) == (3, [0, 1])
    assert first.stop_reason is StopReason.COMPLETED
    assert first.start_time <= first.end_time


async def test_a_turn_that_is_put_while_the_agent_runs_is_run_too():
    """The loop exits when the queue is empty, not when it has run what was there at first."""
    agent = Agent("test", "", [add])
    await agent.put(Turn("add", [1]))
    values = []
    async for _, value in agent.run():
        values.append(value)
        if value < 3:
            await agent.put(Turn("add", [value, 1]))
    assert values == [1, 2, 3]


async def test_none_is_a_value_like_others():
    """A yielded None does not end a stream."""

    @tool()
    async def holes() -> AsyncIterator[int | None]:
        for value in (None, 1, None):
            yield value

    assert await values_of(Turn(holes)) == [None, 1, None]


async def test_agents_send_each_other_turns():
    """By name; the receiver runs them."""
    bob = Agent("bob", "Adds", [add])

    @tool()
    async def delegate(x: int) -> str:
        await alice.send_turn("bob", Turn("add", [x, x]))
        return "sent"

    alice = Agent("alice", "Delegates", [delegate])
    assert await values_of(Turn(delegate, [4]), agent=alice) == ["sent"]
    assert [value async for _, value in bob.run()] == [8]
    with pytest.raises(ConfigurationError, match="no agent 'nobody'"):
        await alice.send_turn("nobody", Turn("add", [1]))
    with pytest.raises(ConfigurationError, match="no tool 'count'"):
        await alice.send_turn("bob", Turn("count", [1]))


async def test_dynamic_arguments_are_evaluated_when_the_turn_runs():
    """Functions, positional or by name, async ones too; classes are passed as they are."""
    now = 1

    async def later() -> int:
        return now * 10

    @tool()
    async def show(*args: Any, kind: type) -> tuple[Any, ...]:
        return (*args, kind)

    turn = Turn(show, [lambda: now, partial(max, 2, 3)], {"kind": int})
    other = Turn(show, [later], {"kind": int})
    now = 5
    assert await values_of(turn, other) == [(5, 3, int), (50, int)]


async def test_fixed_arguments_are_merged_and_the_call_has_the_last_word():
    """Those of the decorator are evaluated at each call."""
    token = "old"

    @tool(permission="admin", token=lambda: token)
    async def act(what: str, permission: str, token: str) -> str:
        return f"{permission} {what} {token}"

    token = "new"
    assert await values_of(Turn(act, ["reads"]), Turn(act, ["reads"], {"permission": "guest"})) == [
        "admin reads new",
        "guest reads new",
    ]


async def test_a_locked_tool_runs_one_call_at_a_time():
    """In two agents, and after another event loop has used it."""
    running, most = 0, 0

    @tool(lock=True)
    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async def both() -> None:
        await asyncio.gather(*(values_of(Turn(busy), agent=Agent(name, "", [busy])) for name in "ab"))

    await both()
    await asyncio.to_thread(asyncio.run, both())
    assert most == 1


# --- ending ----------------------------------------------------------------------------------------------------------


async def test_a_turn_that_takes_too_long_is_ended():
    """The default is 60 seconds; a tool's own TimeoutError is an error like others."""
    ended = False

    @tool()
    async def hang() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    @tool()
    async def give_up() -> None:
        raise TimeoutError("the server's")

    assert Turn(hang).timeout == 60
    turn, other = Turn(hang, timeout=0.01), Turn(give_up)
    with pytest.raises(TurnTimeout, match=r"longer than 0\.01 s"):
        await values_of(turn)
    with pytest.raises(TimeoutError, match="the server's"):
        await values_of(other)
    assert ended
    assert (turn.stop_reason, other.stop_reason) == (StopReason.TIMEOUT, StopReason.ERROR)


async def test_time_between_two_values_is_not_the_tools():
    """Whoever receives slowly is neither interrupted nor charged."""
    turn = Turn(count, [3], timeout=0.2)
    values = []
    async for value in turn.run():
        values.append(value)
        await asyncio.sleep(0.15)
    assert values == [0, 1, 2]
    assert turn.stop_reason is StopReason.COMPLETED


async def test_a_stream_that_hangs_is_ended():
    """Also after it has yielded."""

    @tool()
    async def stall() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    running = Turn(stall, timeout=0.05).run()
    assert await anext(running) == 1
    with pytest.raises(TurnTimeout):
        await anext(running)


async def test_after_an_error_the_agent_goes_on_with_the_next_turn():
    """The error is raised once."""
    agent = Agent("test", "", [fail, add])
    broken = Turn("fail")
    await agent.put(broken)
    await agent.put(Turn("add", [1]))
    with pytest.raises(LookupError, match="nothing there"):
        _ = [one async for one in agent.run()]
    assert broken.stop_reason is StopReason.ERROR
    assert [value async for _, value in agent.run()] == [1]


async def test_a_receiver_that_goes_away_ends_the_tool():
    """What holds a connection gives it back at once."""
    closed = False

    @tool()
    async def endless() -> AsyncIterator[int]:
        nonlocal closed
        try:
            while True:
                yield 1
        finally:
            closed = True

    agent, turn = Agent("test", "", [endless]), Turn(endless)
    await agent.put(turn)
    running = agent.run()
    await anext(running)
    with pytest.raises(ConfigurationError, match="is running"):
        await anext(agent.run())
    await running.aclose()
    assert closed
    assert turn.stop_reason is StopReason.CANCELLED


# --- hooks -----------------------------------------------------------------------------------------------------------


async def test_hooks_are_called_at_turn_agent_and_tool_level():
    """In this order, with what each is about."""
    called: list[str] = []

    @hook(*TurnHook)
    async def of_turn(turn: Turn, *rest: Any) -> None:
        called.append(f"turn{rest}")

    @hook(*AgentHook)
    async def of_agent(agent: Agent, *rest: Any) -> None:
        called.append(f"agent{tuple('turn' if isinstance(one, Turn) else one for one in rest)}")

    @hook(*ToolHook)
    async def of_tool(*args: Any, **kwargs: Any) -> None:
        called.append(f"tool{args or kwargs}")

    @tool(hooks=[of_tool])
    async def letters(to: int) -> AsyncIterator[str]:
        for letter in "ab"[:to]:
            yield letter

    agent, turn = Agent("test", "", [letters], [of_agent]), Turn(letters, kwargs={"to": 1})
    turn.hooks.append(of_turn)
    assert await values_of(turn, agent=agent) == ["a"]
    assert called == [
        "agent('turn',)",
        "agent('turn',)",
        "agent()",
        "turn()",
        "tool{'to': 1}",
        "tool('a',)",
        "turn('a',)",
        "agent('turn', 'a')",
        "tool(['a'],)",
        "turn()",
        "agent('turn',)",
    ]


async def test_hooks_hear_of_errors_and_timeouts():
    """At turn and at agent level."""
    heard: list[Any] = []

    @hook(TurnHook.ON_ERROR, TurnHook.ON_TIMEOUT)
    async def trouble(turn: Turn, error: Exception | None = None) -> None:
        heard.append((turn.tool.name, error and type(error)))

    @hook(AgentHook.ON_TURN_ERROR, AgentHook.ON_TURN_TIMEOUT)
    async def agents_trouble(agent: Agent, turn: Turn, error: Exception | None = None) -> None:
        heard.append((agent.name, error and type(error)))

    @tool()
    async def wait() -> None:
        await asyncio.Event().wait()

    for turn in (Turn("fail"), Turn(wait, timeout=0.01)):
        turn.hooks.append(trouble)
        with pytest.raises((LookupError, TurnTimeout)):
            await values_of(turn, agent=Agent("test", "", [turn.tool], [agents_trouble]))
    assert heard == [("fail", LookupError), ("test", LookupError), ("wait", None), ("test", None)]


async def test_an_error_in_a_hook_ends_the_turn():
    """It is no less an error than one of the tool."""

    @hook(TurnHook.BEFORE_RUN)
    async def refuse(turn: Turn) -> None:
        raise PermissionError

    turn = Turn("add", [1])
    turn.hooks.append(refuse)
    with pytest.raises(PermissionError):
        await values_of(turn)
    assert turn.stop_reason is StopReason.ERROR


# --- writing down ----------------------------------------------------------------------------------------------------


@hook(TurnHook.AFTER_RUN, AgentHook.AFTER_TURN)
async def nothing(*_: Any) -> None:
    pass


async def test_an_agent_is_written_down_with_its_queue():
    """As JSON; what is read back runs, with its hooks."""
    agent = Agent("writer", "Adds", [add, count], [nothing])
    turn = Turn("add", [1], {"y": 2}, timeout=5, metadata={"id": 7})
    turn.hooks.append(nothing)
    await agent.put(turn)

    read = Agent.from_dict(json.loads(json.dumps(agent.to_dict())))
    assert read.to_dict() == agent.to_dict()
    assert [value async for _, value in read.run()] == [3]


async def test_a_turn_that_has_run_is_written_down_with_its_end():
    """When, why and with what."""
    turn = Turn("add", [1])
    await values_of(turn)
    read = Turn.from_dict(json.loads(json.dumps(turn.to_dict())))
    assert (read.start_time, read.end_time) == (turn.start_time, turn.end_time)
    assert (read.stop_reason, read.output) == (StopReason.COMPLETED, 1)


async def test_what_cannot_be_written_is_refused():
    """A function would lose what it is for."""
    with pytest.raises(NotSerializable, match="argument 'x' is a function"):
        Turn("add", kwargs={"x": lambda: 1}).to_dict()
    with pytest.raises(NotSerializable, match=r"args\[0\] cannot be written"):
        Turn("add", [object()]).to_dict()


# --- mistakes --------------------------------------------------------------------------------------------------------


def sync() -> None: ...


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        (lambda: tool()(sync), "not an async function"),
        (lambda: hook(TurnHook.ON_ERROR)(sync), "not an async function"),
        (lambda: hook(), "when to be called"),
        (lambda: tool(colour="red")(add.function), "takes no argument 'colour'"),
        (lambda: Turn("ad"), "did you mean 'add'"),
        (lambda: Turn("add", timeout=0), "is not valid for a turn"),
        (lambda: Agent("test", "", [add.function]), "is not a tool"),
        (lambda: Agent.from_dict({"name": "a", "description": "", "tool_names": ["os.system"]}), "no tool"),
        (lambda: Turn.from_dict({"tool_name": "add", "hooks": ["os.system"]}), "no hook"),
    ],
)
async def test_a_mistake_is_said_at_once(mistake: Any, complaint: str):
    """Before anything runs, with what to do."""
    with pytest.raises(ConfigurationError) as said:
        mistake()
    assert complaint in f"{said.value} {said.value.hint}"


async def test_two_tools_of_one_name_are_refused_and_the_same_one_may_be_defined_again():
    """A second would answer for the first; a module may be loaded again."""

    def define() -> Any:
        @tool()
        async def shared() -> None: ...

        return shared

    assert define() is not define()
    with pytest.raises(ConfigurationError, match="there is already a tool 'shared'"):

        @tool()
        async def shared() -> None: ...


async def test_arguments_that_do_not_fit_name_the_tool():
    """Where they are named for a step."""
    with pytest.raises(InvalidArguments, match="tool 'add'"):
        add.named([1, 2, 3], {})
