"""What a tool may do inside an agent step: wait, scatter, ask, run another agent; and where that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from helpers import until_async
from planned_models import Model
from pydantic_ai import Agent, RunContext, Tool, durable_exec
from pydantic_ai.exceptions import UnexpectedModelBehavior

from paigeant import ActivityContext, Budget, RetryPolicy, scatter
from paigeant.errors import InvalidArguments
from paigeant.wire.usage import total

pytestmark = pytest.mark.anyio

SOON = 20
AT_ONCE = RetryPolicy(attempts=4, quick=1, delay=0)


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


async def used(app: Any, workflow: Any) -> tuple[int, int]:
    units = total(unit.usage for unit in await app.store.units(str(workflow)))
    return units.requests, units.tool_calls


# --- what tools may do -----------------------------------------------------------------------------------------------


def waiting_agent(model: Model, app: Any) -> Agent[None, str]:
    """An agent whose tools dispatch a child and wait for it, scatter, and sleep."""
    agent = Agent(model.model, name="boss")

    @app.activity
    async def child(n: int) -> int:
        return n * 2

    @agent.tool_plain
    def research(n: int) -> int:
        ctx = ActivityContext.current()
        return ctx.wait_for(ctx.dispatch(child.step(n=n)))

    @agent.tool_plain
    def survey(n: int) -> list[int]:
        results = ActivityContext.current().scatter(child.step(n=n), child.step(n=n + 1))
        return [one.output for one in results]

    @agent.tool_plain
    def nap() -> str:
        ActivityContext.current().sleep(0.05)
        return "slept"

    return agent


@pytest.mark.parametrize("together", [False, True])
async def test_what_a_tool_waits_for_comes(app, running, together):
    """The tools wait one after the other, or side by side."""
    calls = [
        ("research", {"n": 1}),
        ("survey", {"n": 2}),
        ("nap", {}),
        ("research", {"n": 4}),
        ("survey", {"n": 5}),
        ("nap", {}),
    ]
    model = Model(calls) if together else Model(*calls)
    boss = app.activity(waiting_agent(model, app))
    async with running(app):
        workflow = await app.dispatch(boss.step(prompt="?"))
        assert await workflow.result(SOON) == "done"
        assert model.heard() == [2, [4, 6], "slept", 8, [10, 12], "slept"]
        assert len(await app.store.workflows(parent=str(workflow))) == 6
    assert model.asked == ([0, 1] if together else [0, 1, 2, 3, 4, 5, 6])
    assert await used(app, workflow) == (len(model.asked), 6)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_that_ends_the_run_lets_those_beside_it_end(app, running, fails):
    """The other calls are recorded, so that their effects are not repeated."""
    log: list[str] = []
    failed: list[int] = []
    agent = Agent(Model([("pay", {}), ("stop", {})]).model, name="boss")

    @agent.tool_plain
    async def pay() -> str:
        log.append("charged")
        await asyncio.sleep(0.2)
        log.append("booked")
        return "paid"

    @agent.tool_plain
    async def stop() -> str:
        if fails and not failed:
            failed.append(1)
            raise ConnectionError("away")
        if not fails:
            ActivityContext.current().sleep(0.05)
        return "stopped"

    step = app.activity(agent, retry=AT_ONCE).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        assert await workflow.result(SOON) == "done"
    assert log == ["charged", "booked"]


def delegation(helper: Agent[None, str], model: Model) -> Agent[None, str]:
    boss = Agent(model.model, name="boss")

    @boss.tool
    async def delegate(ctx: RunContext[None]) -> str:
        return (await helper.run("x", usage=ctx.usage)).output

    return boss


@pytest.mark.parametrize("error", [ConnectionError("away"), UnexpectedModelBehavior("a page of HTML")])
async def test_an_agent_in_a_tool_goes_on_where_it_was(app, running, error):
    """Its finished requests and calls are paid for and counted once."""
    paid = []
    inner = Model(("pay", {"n": 0}), ("pay", {"n": 1}), away=(2,), error=error)
    helper = Agent(inner.model, name="helper", tools=[Tool(lambda n: paid.append(n), name="pay")])
    outer = Model(("delegate", {}), away=(1,))
    boss = app.activity(delegation(helper, outer), retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(boss.step(prompt="?"))
        await workflow.result(SOON)
    assert paid == [0, 1]
    assert (inner.asked, outer.asked) == ([0, 1, 2, 2], [0, 1, 1])
    assert await used(app, workflow) == (5, 3)
    assert (await workflow.record()).used.input_tokens == 50


async def test_an_approval_in_an_agent_in_a_tool_parks_the_step(app, running):
    """People decide it like any other approval."""
    paid = []
    helper = Agent(Model(("pay", {"n": 1})).model, name="helper")

    @helper.tool_plain(requires_approval=True)
    def pay(n: int) -> str:
        paid.append(n)
        return "paid"

    step = app.activity(delegation(helper, Model(("delegate", {})))).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        (asked,) = await until_async(lambda: app.store.held(str(workflow), "approval:"), SOON)
        assert paid == []
        await workflow.decide(True, question=asked.detail["question"])
        assert await workflow.result(SOON) == "done"
    assert paid == [1]


async def test_the_price_of_an_agent_in_a_tool_is_known(app, running):
    """A budget in dollars includes it."""
    helper = Agent(Model(name="gpt-4o-mini").model, name="helper")
    boss = app.activity(delegation(helper, Model(("delegate", {}), name="gpt-4o-mini")))
    async with running(app):
        workflow = await app.dispatch(boss.step(prompt="?"), budget=Budget(cost=1.0))
        assert await workflow.result(SOON) == "done"
    spent = (await workflow.record()).used
    assert spent.cost > 0
    assert (spent.requests, spent.unpriced) == (3, 0)


async def test_input_from_outside_is_a_signal(app, running):
    """The question is asked once, however often the step is interrupted."""
    if not hasattr(durable_exec, "external_event_scope"):
        pytest.skip("this release of pydantic-ai has no external events")
    from pydantic_ai.capabilities import RequestInput

    asked, paid = [], []

    async def ask(ctx: Any, requests: Any, token: str) -> None:
        asked.append(token)

    agent = Agent(Model(("refund", {"cents": 1}), away=(1,)).model, name="clerk", capabilities=[RequestInput(ask)])

    @agent.tool_plain(requires_approval=True)
    def refund(cents: int) -> str:
        paid.append(cents)
        return "paid"

    step = app.activity(agent, retry=AT_ONCE).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        await until_async(lambda: app.store.held(str(workflow), "signal:"), SOON)
        await workflow.signal(asked[0], {"approvals": {"c0.0": True}})
        assert await workflow.result(SOON) == "done"
    assert (len(asked), paid) == (1, [1])


# --- conversations ---------------------------------------------------------------------------------------------------


async def test_a_conversation_cannot_go_on_behind_branches_that_use_it(app):
    """The messages of the branches would be lost without notice."""
    talk = app.activity(Agent(Model().model), name="talk")

    def say(name: str | None) -> Any:
        return talk.step(prompt="x", conversation=name)

    refused: list[Callable[[], Any]] = [
        lambda: app.dispatch(say("t"), scatter(say("t"), say("u")), say("t")),
        lambda: app.dispatch(scatter([scatter(say("t")), say("t")])),
    ]
    for dispatch in refused:
        with pytest.raises(InvalidArguments, match="the conversation 't' goes on behind branches"):
            await dispatch()
    await app.dispatch(say("t"), scatter([say("t"), say("t")], say("u")), say("v"))


async def test_each_signal_is_given_to_one_of_two_calls_that_wait_side_by_side(app, running):
    """This holds even if the next run starts the two calls in the other order."""
    model = Model([("hear", {"who": "a"}), ("hear", {"who": "b"})])
    agent = Agent(model.model, name="listener")
    heard: dict[str, list[Any]] = {"a": [], "b": []}
    given = asyncio.Event()

    @agent.tool_plain
    async def hear(who: str) -> Any:
        ctx = ActivityContext.current()
        if who == "a" and ctx.message.received and not given.is_set():
            await given.wait()  # until the other one has what came first
        value = ctx.await_signal("news")
        given.set()
        heard[who].append(value)
        return value

    listener = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(listener.step(prompt="Listen."))
        for value in (1, 2):
            await until_async(lambda: app.store.held(str(workflow), "signal:news"), SOON)
            await workflow.signal("news", value)
            await until_async(lambda wanted=value: asyncio.sleep(0, any(wanted in one for one in heard.values())), SOON)
        assert await workflow.result(SOON) == "done"
    assert {who: values[-1] for who, values in heard.items()} == {"b": 1, "a": 2}
    answers = [part.content for one in model.seen[-1] for part in one.parts if part.part_kind == "tool-return"]
    assert answers == [2, 1]
