"""A service with every kind of step, and the shapes of workflows that the mixed crash tests dispatch to it.

Each body writes to the ledger when it starts and when it ends. Its parameters ``root`` (a variable of the workflow) and
``effect`` (an argument of the step) say which effect it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crash.ledger import write
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import paigeant.agents.durability  # noqa: F401 - here, once: processes that are forked later have it
from paigeant import ActivityContext, App, RetryPolicy, await_approval, await_signal, quorum, scatter, sleep
from paigeant.wire.slip import ActivitySpec

PLACES = 3
"""How many steps of ``placed`` run at a time."""

RATE = 30
"""How many steps of ``rated`` start in a second, at most."""

VALUES = 5
"""How many values a ``stream`` shows."""

TICK = 2.0
"""Seconds between two times of the schedule."""

PAUSE = 0.2
"""Seconds that a body takes."""


# --- the bodies ----------------------------------------------------------------------------------------------------


async def work(ctx: ActivityContext, root: str, effect: str, seconds: float = PAUSE) -> None:
    write("start", ctx, root, effect)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:  # its worker stops: from here on another may have its place
        write("cut short", ctx, root, effect)
        raise
    write("done", ctx, root, effect)


def compute(ctx: ActivityContext, root: str, effect: str, seconds: float = PAUSE) -> None:
    """The same in a thread."""
    write("start", ctx, root, effect)
    time.sleep(seconds)
    write("done", ctx, root, effect)


async def flaky(ctx: ActivityContext, root: str, effect: str, fails: int) -> None:
    """Its first attempts fail."""
    write("start", ctx, root, effect)
    await asyncio.sleep(PAUSE)
    if ctx.attempt <= fails:
        raise OSError("not yet")
    write("done", ctx, root, effect)


async def doomed(ctx: ActivityContext, root: str, effect: str) -> None:
    write("start", ctx, root, effect)
    await asyncio.sleep(PAUSE)
    write("failed", ctx, root, effect)
    raise ValueError("never")


async def book(ctx: ActivityContext, root: str, effect: str, seconds: float = PAUSE) -> str:
    """It has a compensation."""
    write("start", ctx, root, effect)
    await asyncio.sleep(seconds)
    write("done", ctx, root, effect)
    return f"booking {effect}"


async def unbook(ctx: ActivityContext, booking: str, root: str, effect: str) -> None:
    write("undoing", ctx, root, effect, value=booking)
    await asyncio.sleep(PAUSE)
    write("undone", ctx, root, effect, value=booking)


async def parent(ctx: ActivityContext, root: str, effect: str, fails: bool = False) -> None:
    """Dispatches another workflow and waits for it."""
    write("start", ctx, root, effect)
    last = "doomed" if fails else "work"
    steps = [_step("work", f"{effect}.child.1"), _step(last, f"{effect}.child.2")]
    child = ctx.dispatch(*steps, variables={"root": root}, name="child")
    ctx.wait_for(child)
    write("done", ctx, root, effect)


async def napper(ctx: ActivityContext, root: str, effect: str, seconds: float) -> None:
    """Sleeps twice."""
    write("start", ctx, root, effect)
    ctx.sleep(seconds)
    ctx.sleep(seconds / 2)
    write("done", ctx, root, effect)


async def listener(ctx: ActivityContext, root: str, effect: str) -> str:
    """Waits for a signal."""
    write("start", ctx, root, effect)
    value = ctx.await_signal("word", schema=str)
    write("done", ctx, root, effect, value=value)
    return str(value)


async def asker(ctx: ActivityContext, root: str, effect: str) -> str:
    """Waits for an approval."""
    write("start", ctx, root, effect)
    said = ctx.await_approval("May it?", details=effect)
    write("done", ctx, root, effect, value=said.reason)
    return said.reason


async def gatherer(ctx: ActivityContext, root: str, effect: str) -> None:
    """An activity that scatters."""
    write("start", ctx, root, effect)
    ctx.scatter(_step("work", f"{effect}.left"), _step("compute", f"{effect}.right"))
    write("done", ctx, root, effect)


async def planner(ctx: ActivityContext, root: str, effect: str) -> None:
    """Puts a step behind itself."""
    write("start", ctx, root, effect)
    ctx.insert(_step("work", f"{effect}.inserted"))
    await asyncio.sleep(PAUSE)
    write("done", ctx, root, effect)


async def stream(ctx: ActivityContext, root: str, effect: str) -> AsyncIterator[int]:
    write("start", ctx, root, effect)
    for number in range(VALUES):
        yield number
        await asyncio.sleep(PAUSE / 2)
    write("done", ctx, root, effect)


async def reporter(ctx: ActivityContext, root: str, effect: str) -> None:
    """Reads the last value of the stream before it; fails if the stream gave something else."""
    write("start", ctx, root, effect)
    if ctx.previous != list(range(VALUES)) and ctx.previous != VALUES - 1:
        raise ValueError(f"the stream gave {ctx.previous!r}")
    write("done", ctx, root, effect)


async def tick(ctx: ActivityContext, due: float) -> None:
    """What the schedule dispatches."""
    write("start", ctx, ctx.correlation_id, "tick", value=str(due))
    write("done", ctx, ctx.correlation_id, "tick", value=str(due))


# --- an agent with tools -------------------------------------------------------------------------------------------


def _unit(kind: Any, key: str) -> None:
    ctx = ActivityContext.current()
    variables = ctx.message.payload
    write(kind, ctx, str(variables["root"]), "agent", unit=key)


async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Two tool calls at once, one more, then an answer."""
    turn = len(messages) // 2 + 1
    _unit("start", f"model:{turn}")
    await asyncio.sleep(PAUSE)
    _unit("done", f"model:{turn}")
    match turn:
        case 1:
            return ModelResponse([ToolCallPart("look", {}, "a"), ToolCallPart("count", {}, "b")])
        case 2:
            return ModelResponse([ToolCallPart("look", {}, "c")])
        case _:
            heard = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
            return ModelResponse([TextPart("; ".join(map(str, heard)))])


agent: Agent[None, str] = Agent(FunctionModel(respond), name="agent")


_TURN_OF = {"a": 1, "b": 1, "c": 2}


async def _call(call: str | None, seconds: float) -> str:
    key = f"tool:{_TURN_OF[call or '']}:{call}"  # as the journal names it
    _unit("start", key)
    await asyncio.sleep(seconds)
    _unit("done", key)
    return key


@agent.tool
async def look(ctx: RunContext[None]) -> str:
    return await _call(ctx.tool_call_id, PAUSE)


@agent.tool
async def count(ctx: RunContext[None]) -> str:
    return await _call(ctx.tool_call_id, 2 * PAUSE)


# --- the App -------------------------------------------------------------------------------------------------------

_AGAIN = RetryPolicy(attempts=4, delay=0.1)

VERSION = os.environ.get("CRASH_VERSION", "1")
"""Which release of the service this process has; the second one has an activity more."""


def make_app(broker: str, store: str | None = None, name: str = "mixed", **options: Any) -> App:
    app = App(name, broker, store, **options)
    for body in (work, compute, doomed, parent, napper, listener, asker, gatherer, planner, stream, reporter, tick):
        app.activity(body)
    app.activity(flaky, retry=_AGAIN)
    app.activity(book).compensate(unbook)
    app.activity(name="locked", lock="the only one")(work)
    app.activity(name="placed", concurrency=PLACES)(work)
    app.activity(name="rated", rate=f"{RATE}/s")(work)
    app.activity(agent)
    if VERSION != "1":
        app.activity(name="novel")(work)

    @app.schedule(every=TICK, backfill="all")
    def ticking(at: Any) -> ActivitySpec:
        return tick_step(at.timestamp())

    return app


def tick_step(due: float) -> ActivitySpec:
    return ActivitySpec(name="tick", arguments={"due": due})


# --- the shapes ----------------------------------------------------------------------------------------------------


_TAKES_TIME = ("work", "compute", "book", "locked", "placed", "rated", "novel")


def _step(activity: str, effect: str, **arguments: Any) -> ActivitySpec:
    """A step with all its arguments: none is left open for the output of the step before."""
    seconds = {"seconds": PAUSE} if activity in _TAKES_TIME else {}
    return ActivitySpec(name=activity, arguments={"effect": effect, **seconds, **arguments})


@dataclass(frozen=True)
class Shape:
    """Steps, and what must have come of them.

    ``done`` are the effects that must have completed, ``undone`` those among them that must have been taken back, in
    this order if ``ordered``. ``maybe`` are effects of branches that lose: they may or may not have completed.
    ``approves`` is what the test answers to questions. ``waits`` says how many seconds must pass between two lines of
    the ledger, each an effect and a kind.
    """

    name: str
    steps: tuple[Any, ...]
    done: tuple[str, ...]
    status: str = "completed"
    undone: tuple[str, ...] = ()
    ordered: bool = True
    maybe: tuple[str, ...] = ()
    approves: bool = True
    waits: tuple[tuple[tuple[str, str], tuple[str, str], float], ...] = ()


def _linear() -> Shape:
    steps = (_step("work", "1"), _step("compute", "2"), _step("work", "3"))
    return Shape("linear", steps, ("1", "2", "3"))


def _retry() -> Shape:
    steps = (_step("work", "1"), _step("flaky", "2", fails=2), _step("work", "3"))
    return Shape("retry", steps, ("1", "2", "3"))


def _scatter_all() -> Shape:
    branches = scatter(_step("work", "a"), [_step("work", "b1"), _step("compute", "b2")], _step("flaky", "c", fails=1))
    return Shape("scatter all", (_step("work", "1"), branches, _step("work", "2")), ("1", "a", "b1", "b2", "c", "2"))


def _scatter_any() -> Shape:
    slow = [[_step("work", "slow1", seconds=2.0)], [_step("work", "slow2"), _step("work", "slow3", seconds=2.0)]]
    branches = scatter(_step("work", "fast"), *slow, policy="any")
    return Shape("scatter any", (branches, _step("work", "2")), ("2",), maybe=("fast", "slow1", "slow2", "slow3"))


def _quorum() -> Shape:
    branches = scatter(
        _step("work", "a"),
        _step("work", "b"),
        _step("work", "slow", seconds=2.0),
        _step("doomed", "d"),
        policy=quorum(2),
    )
    return Shape("quorum", (branches, _step("work", "2")), ("2",), maybe=("a", "b", "slow", "d"))


def _settled() -> Shape:
    branches = scatter(_step("work", "a"), _step("doomed", "b"), _step("book", "c"), policy="settled")
    return Shape("settled", (branches, _step("work", "2")), ("a", "c", "2"), maybe=("b",))


def _nested() -> Shape:
    inner = scatter(_step("work", "i"), _step("compute", "j"))
    branches = scatter([inner, _step("work", "k")], _step("work", "l"))
    return Shape("nested", (branches, _step("work", "2")), ("i", "j", "k", "l", "2"))


def _compensation() -> Shape:
    steps = (_step("book", "1"), _step("work", "2"), _step("book", "3"), _step("doomed", "4"))
    return Shape("compensation", steps, ("1", "2", "3"), "compensated", ("3", "1"))


def _scattered_compensation() -> Shape:
    branches = scatter(_step("book", "a"), [_step("book", "b1"), _step("book", "b2")])
    steps = (_step("book", "1"), branches, _step("doomed", "2"))
    undone = ("a", "b2", "b1", "1")
    return Shape("scattered compensation", steps, ("1", "a", "b1", "b2"), "compensated", undone, ordered=False)


def _children() -> Shape:
    steps = (_step("work", "1"), _step("parent", "2", fails=False), _step("work", "3"))
    return Shape("children", steps, ("1", "2", "2.child.1", "2.child.2", "3"))


def _failing_child() -> Shape:
    steps = (_step("book", "1"), _step("parent", "2", fails=True))
    return Shape("failing child", steps, ("1", "2.child.1"), "compensated", ("1",), maybe=("2", "2.child.2"))


def _sleeps() -> Shape:
    steps = (_step("work", "1"), sleep(0.7), _step("napper", "2", seconds=0.6), _step("work", "3"))
    waits = ((("1", "done"), ("2", "start"), 0.7), (("2", "start"), ("2", "done"), 0.9))
    return Shape("sleeps", steps, ("1", "2", "3"), waits=waits)


def _signals() -> Shape:
    steps = (_step("work", "1"), await_signal("go"), _step("listener", "2"), _step("work", "3"))
    return Shape("signals", steps, ("1", "2", "3"))


def _approval() -> Shape:
    steps = (_step("work", "1"), await_approval("Shall it?"), _step("asker", "2"), _step("work", "3"))
    return Shape("approval", steps, ("1", "2", "3"))


def _denial() -> Shape:
    steps = (_step("book", "1"), await_approval("Shall it?"), _step("work", "2"))
    return Shape("denial", steps, ("1",), "compensated", ("1",), approves=False)


def _lock() -> Shape:
    return Shape("lock", (_step("locked", "1"), _step("work", "2"), _step("locked", "3")), ("1", "2", "3"))


def _limits() -> Shape:
    return Shape("limits", (_step("placed", "1"), _step("rated", "2"), _step("placed", "3")), ("1", "2", "3"))


def _agent() -> Shape:
    ask = ActivitySpec(name="agent", prompt="Look and count.")
    return Shape("agent", (_step("work", "1"), ask, _step("work", "3")), ("1", "agent", "3"))


def _stream() -> Shape:
    return Shape("stream", (_step("work", "1"), _step("stream", "2"), _step("reporter", "3")), ("1", "2", "3"))


def _activity_scatters() -> Shape:
    steps = (_step("gatherer", "1"), _step("planner", "2"), _step("work", "3"))
    return Shape("gather and insert", steps, ("1", "1.left", "1.right", "2", "2.inserted", "3"))


SHAPES: tuple[Callable[[], Shape], ...] = (
    _linear,
    _retry,
    _scatter_all,
    _scatter_any,
    _quorum,
    _settled,
    _nested,
    _compensation,
    _scattered_compensation,
    _children,
    _failing_child,
    _sleeps,
    _signals,
    _approval,
    _denial,
    _lock,
    _limits,
    _agent,
    _stream,
    _activity_scatters,
)


def shapes(count: int) -> list[Shape]:
    """So many shapes, each kind in turn."""
    return [SHAPES[number % len(SHAPES)]() for number in range(count)]


def novel() -> Shape:
    """What only the second release of the service can run."""
    return Shape("novel", (_step("work", "1"), _step("novel", "2"), _step("work", "3")), ("1", "2", "3"))


def by_name() -> Mapping[str, Shape]:
    return {shape.name: shape for shape in shapes(len(SHAPES))}
