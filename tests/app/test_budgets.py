"""What a workflow may use, over its steps and branches."""

from __future__ import annotations

import asyncio
import json

import pytest
from helpers import until_async
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from paigeant import ActivityContext, ActivitySpec, Budget, Grant, RetryPolicy, scatter
from paigeant.errors import WorkflowFailed
from paigeant.events import Event, WorkflowEnded

pytestmark = pytest.mark.anyio

SOON = 20


class Chatter:
    """A model that calls a tool so many times, one after the other or all at once, before it answers."""

    def __init__(self, calls: int = 0, *, at_once: bool = False) -> None:
        self.calls, self.at_once, self.requests, self.tools = calls, at_once, 0, 0

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.requests += 1
        turn, usage = len(messages) // 2, RequestUsage(input_tokens=8, output_tokens=2)
        wanted = self.calls if self.at_once and turn == 0 else int(turn < self.calls and not self.at_once)
        calls = [ToolCallPart("look", {}, f"{turn}-{at}") for at in range(wanted)]
        return ModelResponse(calls or [TextPart("done")], usage=usage)

    def agent(self, **options: object) -> Agent:
        agent = Agent(FunctionModel(self, **options), name="chatter")

        @agent.tool_plain
        async def look() -> str:
            self.tools += 1
            return "seen"

        return agent


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


@pytest.mark.parametrize(
    ("budget", "why", "requests", "tools"),
    [
        (Budget(requests=2), "may make 2 model requests", 2, 2),
        (Budget(tokens=20), "may use 20 tokens, and has used 20", 2, 2),
        (Budget(tokens=15), "may use 15 tokens, and has used 20", 2, 2),
        (Budget(tool_calls=1), "may make 1 tool call", 2, 1),
        (Budget(cost=5), "nobody knows the price of 1 of its model requests", 1, 1),
    ],
)
async def test_what_would_exceed_a_budget_is_not_started(app, running, budget, why, requests, tools):
    """The step fails, and is not tried again."""
    model = Chatter(calls=3)
    chatter = app.activity(model.agent(), retry=RetryPolicy(attempts=3, delay=0))
    async with running(app):
        workflow = await app.dispatch(chatter.step(prompt="x"), budget=budget)
        with pytest.raises(WorkflowFailed, match=f"BudgetExceeded.*{why}"):
            await workflow.result(SOON)
    assert (model.requests, model.tools) == (requests, tools)
    record = await workflow.record()
    assert (record.used.requests, record.used.tool_calls) == (requests, tools)


async def test_tool_calls_at_once_count_before_they_end(app, running):
    """Of three, two are started."""
    model = Chatter(calls=3, at_once=True)
    chatter = app.activity(model.agent())
    async with running(app):
        with pytest.raises(WorkflowFailed, match="may make 2 tool calls"):
            await (await app.dispatch(chatter.step(prompt="x"), budget=Budget(tool_calls=2))).result(SOON)
    assert model.tools <= 2


async def test_a_budget_holds_over_all_steps(app, running):
    """Those of agents and of functions; the price of a known model is known."""
    chatter = app.activity(Chatter(calls=1).agent(model_name="gpt-4o"))

    @app.activity
    def between() -> None: ...

    async with running(app):
        fits = await app.dispatch(
            chatter.step(prompt="x"), between, chatter.step(prompt="y"), budget=Budget(requests=4)
        )
        assert await fits.result(SOON) == "done"
        steps = await app.dispatch(between, between, between, budget=Budget(steps=2))
        with pytest.raises(WorkflowFailed, match="may make 2 steps, and no more"):
            await steps.result(SOON)
        short = await app.dispatch(chatter.step(prompt="x"), chatter.step(prompt="y"), budget=Budget(requests=3))
        with pytest.raises(WorkflowFailed, match="may make 3 model requests"):
            await short.result(SOON)
    record = await fits.record()
    used = record.used
    assert (used.requests, used.tool_calls, used.tokens, used.steps, used.unpriced) == (4, 2, 40, 3, 0)
    assert used.cost == pytest.approx(32 * 2.5e-6 + 8 * 10e-6)
    assert [step.used.tokens for step in record.steps] == [20, 0, 20]


async def test_branches_share_what_is_left_and_give_back_what_they_used(app, running):
    """Each has its part; what they used is known after the gather, that of a failed one too."""
    modest, greedy = Chatter(calls=0), Chatter(calls=9)
    one = app.activity(modest.agent(), name="modest")
    other = app.activity(greedy.agent(), name="greedy")
    async with running(app):
        workflow = await app.dispatch(
            one.step(prompt="x"),
            scatter(one.step(prompt="a"), other.step(prompt="b"), policy="settled"),
            one.step(prompt="y"),
            budget=Budget(requests=7),
        )
        assert await workflow.result(SOON) == "done"
    record = await workflow.record()
    # One request before, one and three in branches of three each, one after.
    assert (modest.requests, greedy.requests) == (3, 3)
    assert record.used.requests == 6


async def test_without_a_store_what_failed_attempts_used_counts_as_well(make_app, running, redis_url):
    """It travels with the message."""
    seen: list[Event] = []
    app = make_app(redis_url, "none", observers=[seen.append])
    model = Chatter(calls=0)
    agent = model.agent()

    @agent.output_validator
    def fails(text: str) -> str:
        raise OSError("cannot say that")

    chatter = app.activity(agent, retry=RetryPolicy(attempts=9, delay=0))

    async def ended() -> list[Event]:
        return [event for event in seen if isinstance(event, WorkflowEnded)]

    async with running(app):
        await app.dispatch(chatter.step(prompt="x"), budget=Budget(requests=2))
        (end,) = await until_async(ended, SOON)
    assert "may make 2 model requests" in end.error.message
    assert model.requests == 2
    assert end.used["requests"] == 2


async def test_a_budget_of_time_ends_the_workflow(app, running):
    """Also while nothing runs."""

    @app.activity
    def wait(ctx: ActivityContext) -> None:
        ctx.sleep(3600)

    async with running(app):
        workflow = await app.dispatch(wait, deadline=60, budget=Budget(seconds=0.2))
        with pytest.raises(WorkflowFailed, match="DeadlineReached"):
            await workflow.result(SOON)


async def test_what_was_used_is_shown(app, running, monkeypatch):
    """For each step, and for the workflow."""
    from click.testing import CliRunner

    from paigeant.cli import cli

    priced, free = Chatter(calls=1), Chatter()
    app.activity(priced.agent(model_name="gpt-4o"), name="priced")
    app.activity(free.agent(), name="free")
    async with running(app):
        workflow = await app.dispatch(ActivitySpec(name="priced", prompt="x"), ActivitySpec(name="free", prompt="y"))
        await workflow.result(SOON)

    def shown(*more: str) -> str:
        done = CliRunner().invoke(cli, ["workflow", str(workflow), "--store", app.settings.broker_url, *more])
        assert done.exit_code == 0, done.output
        return done.output

    table = await asyncio.to_thread(shown)
    assert "30 tokens, 3 requests, 1 tool call, $0.0001 or more" in table
    assert [line.split()[-3:-1] for line in table.splitlines() if line.startswith(("1 ", "2 "))] == [
        ["20", "$0.0001"],
        ["10", "-"],
    ]
    data = json.loads(await asyncio.to_thread(shown, "--json"))
    assert data["used"]["input_tokens"] == 24
    assert data["steps"][1]["used"] == {"requests": 1, "input_tokens": 8, "output_tokens": 2, "unpriced": 1}


async def test_a_step_cannot_dispatch_itself_for_ever(make_app, running, tmp_path):
    """The workflows that it dispatches share its budget, and count for its grant."""
    app, runs = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}"), []

    @app.activity
    async def again(ctx: ActivityContext) -> None:
        runs.append(ctx.correlation_id)
        ctx.dispatch(again)

    async def are_over() -> bool:
        found = await app.store.workflows(limit=50)
        return len(found) > 1 and all(one.status.is_terminal for one in found)

    async with running(app):
        await app.dispatch(again, budget=Budget(steps=8))
        await until_async(are_over)
        assert len(runs) <= 8
        runs.clear()
        await app.dispatch(again, grant=Grant(depth=3))
        await until_async(are_over)
        assert len(runs) == 4


async def test_what_an_awaited_workflow_did_not_use_comes_back(make_app, running, tmp_path):
    """Half of the budget is set apart for it; what it used counts."""
    app = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")

    @app.activity
    async def small() -> None: ...

    @app.activity
    async def parent(ctx: ActivityContext) -> int:
        for _ in range(5):
            ctx.wait_for(ctx.dispatch(small))
        return 5

    async with running(app):
        workflow = await app.dispatch(parent, small, budget=Budget(steps=20))
        await workflow.result(30)
        assert (await workflow.record()).used.steps == 7
