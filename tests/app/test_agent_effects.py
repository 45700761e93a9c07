"""What tool calls change and use in their step, when the run that made them is interrupted."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import until_async
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import ActivityContext, RetryPolicy

pytestmark = pytest.mark.anyio

SOON = 20


def agent_that_calls(tool: str, times: int) -> Agent[None, str]:
    """Its model calls a tool this often, one call after the other, and then says "done"."""

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = sum(isinstance(one, ModelResponse) for one in messages)
        if number == times:
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart(tool, {}, tool_call_id=f"c{number}")])

    return Agent(FunctionModel(respond), name="listener")


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


async def test_a_refused_call_has_used_the_signal_that_it_refused(app, running):
    """The next call waits for another signal, and a run that reads the refusal from the journal returns that one."""
    heard: list[Any] = []
    agent = agent_that_calls("hear", times=2)

    @agent.tool_plain(retries=5)
    def hear() -> Any:
        heard.append(ActivityContext.current().await_signal("news"))
        if heard[-1] == "bad":
            raise ModelRetry("a better one, please")
        return heard[-1]

    listener = app.activity(agent)
    async with running(app):
        workflow = await app.dispatch(listener.step(prompt="Listen."))
        for number, value in enumerate(["bad", "good"], start=1):
            await until_async(lambda: app.store.held(str(workflow), "signal:news"), SOON)
            await workflow.signal("news", value)
            await until_async(lambda wanted=number: _heard(heard, wanted), SOON)
        assert await workflow.result(SOON) == "done"
    assert heard == ["bad", "good"]


async def _heard(heard: list[Any], wanted: int) -> bool:
    return len(heard) >= wanted


@pytest.mark.parametrize("quick", [1, 0], ids=["in place", "with a message of its own"])
async def test_the_progress_that_a_tool_reports_reaches_the_next_attempt(app, running, quick):
    """As if the step had reported it itself."""
    found: list[Any] = []
    agent = agent_that_calls("read", times=1)

    @agent.tool_plain
    async def read() -> str:
        ctx = ActivityContext.current()
        found.append(ctx.progress)
        await ctx.heartbeat({"page": len(found)})
        if len(found) == 1:
            raise ConnectionError("away")
        return "read"

    listener = app.activity(agent, retry=RetryPolicy(attempts=2, quick=quick, delay=0))
    async with running(app):
        workflow = await app.dispatch(listener.step(prompt="Read."))
        assert await workflow.result(SOON) == "done"
    assert found == [None, {"page": 1}]


async def test_a_tool_may_change_a_list_that_the_step_has_read(app, running):
    """The step after it sees the change once, although the first attempt of the call had made it as well."""
    attempts: list[list[str]] = []
    agent = agent_that_calls("add", times=1)

    @agent.tool_plain
    def add() -> str:
        found = ActivityContext.current().variables["found"]
        found.append("x")
        attempts.append(list(found))
        if len(attempts) == 1:
            raise ConnectionError("away")
        return "added"

    @app.activity
    def tell(ctx: ActivityContext) -> Any:
        return ctx.variables["found"]

    listener = app.activity(agent, retry=RetryPolicy(attempts=2, quick=1, delay=0))
    async with running(app):
        workflow = await app.dispatch(listener.step(prompt="Add."), tell.step(), variables={"found": ["a"]})
        assert await workflow.result(SOON) == ["a", "x"]
    assert attempts == [["a", "x"], ["a", "x"]]
