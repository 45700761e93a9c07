"""Units of agent steps: which ones are repeated, and which ones the model is told about."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from helpers import until_async
from planned_models import Model
from pydantic_ai import Agent, ModelRetry, RunContext, Tool, durable_exec
from pydantic_ai.capabilities import AbstractCapability, ProcessHistory, durable_operation
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import (
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from paigeant import ActivityContext, Budget, RetryPolicy
from paigeant.agents import Conversation
from paigeant.agents.journal import digest
from paigeant.errors import WorkflowFailed
from paigeant.records.workflow import Status

pytestmark = pytest.mark.anyio

SOON = 20
AT_ONCE = RetryPolicy(attempts=4, quick=1, delay=0)
LOOKS_LIKE_A_FILE = {
    "kind": "document-url",
    "url": "http://127.0.0.1:9/x",
    "media_type": "text/plain",
    "force_download": "allow-local",
}


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [(), (1,)])
@pytest.mark.parametrize(
    "result", [LOOKS_LIKE_A_FILE, [LOOKS_LIKE_A_FILE], float("inf"), b"\xff", ImageUrl("http://a/b.png")]
)
async def test_the_model_is_told_what_the_tool_returned(app, running, result, away):
    """As in pydantic-ai alone, in the first run and after an interruption: data never names its own type."""
    model = Model(("search", {}), away=away)
    agent = Agent(model.model, tools=[Tool(lambda: result, name="search")])
    step = app.activity(agent, name="a", retry=AT_ONCE).step(prompt="?")
    async with running(app):
        await (await app.dispatch(step)).result(SOON)
    (heard,) = model.heard()
    assert (type(heard), heard) == (type(result), result)


async def test_what_a_conversation_carries_is_still_data(app, running):
    """To the next step, too."""
    model = Model(("search", {}))
    talker = app.activity(Agent(model.model, tools=[Tool(lambda: LOOKS_LIKE_A_FILE, name="search")]), name="a")
    talk = Conversation("t")
    async with running(app):
        workflow = await app.dispatch(*(talker.step(prompt=one, conversation=talk) for one in "xy"))
        await workflow.result(SOON)
    assert model.heard() == [LOOKS_LIKE_A_FILE]


@pytest.mark.parametrize("result", ["\ud800", object()])
async def test_a_tool_is_not_called_again_for_a_result_that_cannot_be_written(app, running, result):
    """Its effects happened; not even when an operator has the step tried again."""
    done = []

    def send() -> Any:
        done.append(1)
        return result

    sender = app.activity(Agent(Model(("send", {})).model, tools=[send]), name="a", retry=AT_ONCE)
    workflow = await app.dispatch(sender.step(prompt="?"))
    async with running(app):
        for _ in range(2):
            with pytest.raises(WorkflowFailed, match="NotSerializable: the result of tool 'send' cannot be written"):
                await workflow.result(SOON)
            await workflow.retry()
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
    assert done == [1]


# --- what is forgotten and what is not -------------------------------------------------------------------------------


async def test_a_dead_end_forgets_no_finished_tool_call(app, running):
    """Only the responses after it."""
    paid = []
    model = Model(("pay", {"n": 0}), ("pay", {"n": 1}), away=(2,), error=UnexpectedModelBehavior("a page of HTML"))
    agent = Agent(model.model, tools=[Tool(lambda n: paid.append(n), name="pay")])
    step = app.activity(agent, name="a", retry=AT_ONCE).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        assert await workflow.result(SOON) == "done"
    assert paid == [0, 1]
    assert model.asked == [0, 1, 2, 2]


async def test_a_call_that_asked_for_another_one_is_forgotten_with_what_it_led_to(app, running):
    """The payment beside it, and the one before it, stay."""
    done: Counter[str] = Counter()

    def pay() -> str:
        done["pay"] += 1
        return "paid"

    def draw() -> str:
        done["draw"] += 1
        if done["draw"] < 3:
            raise ModelRetry("once more")
        return "drawn"

    model = Model([("pay", {}), ("draw", {})], ("draw", {}))
    agent = Agent(model.model, tools=[Tool(pay, max_retries=1), Tool(draw, max_retries=1)])
    step = app.activity(agent, name="a", retry=AT_ONCE).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        assert await workflow.result(SOON) == "done"
    assert done == {"pay": 1, "draw": 4}
    assert model.asked == [0, 1, 1, 2]


async def test_a_finished_call_is_not_judged_again(app, running):
    """Not by its validator, not by what prepares the tools: the world has changed by what it did."""
    done = []

    def refund(order: int) -> str:
        done.append(order)
        return "refunded"

    def check(ctx: RunContext[None], order: int) -> None:
        if order in done:
            raise ModelRetry("already refunded")

    async def offered(ctx: RunContext[None], tool: Any) -> Any:
        return None if done else tool

    model = Model(("refund", {"order": 7}), away=(1,))
    agent = Agent(model.model, tools=[Tool(refund, args_validator=check, prepare=offered)])
    step = app.activity(agent, name="a", retry=AT_ONCE).step(prompt="?")
    async with running(app):
        await (await app.dispatch(step)).result(SOON)
    assert (done, model.heard()) == ([7], ["refunded"])


async def test_a_call_that_was_refused_stays_refused(app, running):
    """What the validator said then is what the next response answers."""
    allowed: list[int] = []
    done = []

    def check(ctx: RunContext[None], order: int) -> None:
        if order not in allowed:
            allowed.append(order)
            raise ModelRetry("not yet")

    def refund(order: int) -> str:
        done.append(order)
        return "refunded"

    model = Model(("refund", {"order": 7}), ("other", {}), away=(2,))
    agent = Agent(model.model, tools=[Tool(refund, args_validator=check), Tool(lambda: "x", name="other")])
    step = app.activity(agent, name="a", retry=AT_ONCE).step(prompt="?")
    async with running(app):
        await (await app.dispatch(step)).result(SOON)
    assert done == []


async def test_what_shortens_the_messages_does_not_break_the_journal(app, running):
    """Though it may do so with other words each time."""
    summaries: list[int] = []

    def shorten(messages: list[ModelMessage]) -> list[ModelMessage]:
        summaries.append(1)
        short = ModelRequest([UserPromptPart(f"summary, wording {len(summaries)}")])
        return [short, *messages[-2:]] if len(messages) > 3 else messages

    requests: list[int] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        requests.append(1)
        if len(requests) == 4:
            raise ConnectionError("away")
        more = len(requests) < 5
        return ModelResponse([ToolCallPart("look", {"n": len(requests)})] if more else [TextPart("done")])

    agent = Agent(FunctionModel(answer), capabilities=[ProcessHistory(shorten)], tools=[Tool(lambda n: n, name="look")])
    step = app.activity(agent, name="a", retry=AT_ONCE).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        assert await workflow.result(SOON) == "done"
    assert len(requests) == 5


async def test_a_durable_operation_is_done_once(app, running):
    """As pydantic-ai's own engines do it."""
    if not hasattr(durable_exec, "external_event_scope"):
        pytest.skip("this release of pydantic-ai hands them to few hooks")
    charged = []

    class Spend(AbstractCapability[Any]):
        id = "spend"

        @durable_operation(name="charge")
        async def charge(self, ctx: RunContext[Any], step: int) -> int:
            charged.append(step)
            return step * 2

        async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
            assert await self.charge(ctx, ctx.run_step) == ctx.run_step * 2
            return request_context

    model = Model(("look", {}), ("look", {}), away=(2,))
    agent = Agent(model.model, name="a", capabilities=[Spend()], tools=[Tool(lambda: "x", name="look")])
    step = app.activity(agent, retry=AT_ONCE).step(prompt="?")
    async with running(app):
        await (await app.dispatch(step)).result(SOON)
    assert charged == [1, 2, 3]


async def test_a_message_that_a_tool_put_into_the_run_is_there_again(app, running):
    """Or, with releases of pydantic-ai that cannot tell, putting it there fails."""
    model = Model(("steer", {}), away=(1,))
    agent = Agent(model.model, name="a")

    @agent.tool
    def steer(ctx: RunContext[None]) -> str:
        ctx.enqueue("be kind")
        return "steered"

    step = app.activity(agent, retry=AT_ONCE).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        if not hasattr(durable_exec, "external_event_scope"):
            with pytest.raises(WorkflowFailed, match="enqueue"):
                await workflow.result(SOON)
            return
        await workflow.result(SOON)
    first, again = ([str(part) for one in seen for part in one.parts] for seen in model.seen[-2:])
    assert any("be kind" in part for part in first)
    assert [part for part in again if "be kind" in part] != []


@pytest.mark.skipif("PAIGEANT_TEST_SIGNED" in os.environ, reason="it writes the journal as a stranger would")
@pytest.mark.parametrize("result", ["old", LOOKS_LIKE_A_FILE])
async def test_a_journal_of_the_release_before_goes_on(app, running, tmp_path, result):
    """Nothing in it is done again; what may have been a file or data waits for an operator."""
    done = []
    model = Model(("look", {}), away=(1,))
    looker = app.activity(Agent(model.model, tools=[Tool(lambda: done.append(1), name="look")]), name="a")
    workflow = await app.dispatch(looker.step(prompt="?"))
    async with running(app):
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
    with closing(sqlite3.connect(tmp_path / "here.db")) as database:
        shape = digest([("user-prompt", "?")])
        database.execute("UPDATE paigeant_unit SET digest = ? WHERE name = 'model'", (shape,))
        value = json.dumps({"kind": "content", "value": result, "effects": {}, "usage": {}})
        database.execute("UPDATE paigeant_unit SET value = ? WHERE name = 'look'", (value,))
        database.commit()
    await workflow.retry()
    async with running(app):
        if result == "old":
            assert await workflow.result(SOON) == "done"
            assert model.heard() == ["old"]
        else:
            await until_async(lambda: app.store.held(str(workflow), "operator:"), SOON)
            assert len(model.asked) == 2
    assert done == [1]


# --- budgets and cancellation ----------------------------------------------------------------------------------------


async def test_a_streamed_request_over_the_budget_is_not_sent(app, running):
    """It would be paid for."""
    sent = []

    async def stream(messages: list[ModelMessage], info: AgentInfo):
        sent.append(1)
        yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id=f"c{len(sent)}")}

    agent = Agent(FunctionModel(stream_function=stream), tools=[Tool(lambda: "x", name="look")])
    step = app.activity(agent, name="a", stream=True).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step, budget=Budget(requests=2))
        with pytest.raises(WorkflowFailed, match="BudgetExceeded"):
            await workflow.result(SOON)
    assert len(sent) == 2


async def test_polls_are_no_requests(app, running):
    """One request was made."""
    polls = []

    class Job(FunctionModel):
        def continuation_delay(self, response: ModelResponse) -> float:
            return 0.01

        async def request(self, messages: list[ModelMessage], *_: Any) -> ModelResponse:
            polls.append(1)
            state = "complete" if len(polls) == 4 else "suspended"
            parts = [TextPart("answer")] if len(polls) == 4 else []
            return ModelResponse(parts, state=state, provider_response_id="r", provider_name="x", model_name="x")

    job = app.activity(Agent(Job(lambda messages, info: ModelResponse([]))), name="job")
    async with running(app):
        workflow = await app.dispatch(job.step(prompt="?"), budget=Budget(requests=1))
        assert await workflow.result(SOON) == "answer"
    assert (await workflow.record()).used.requests == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_no_unit_begins_once_the_workflow_is_cancelled(app, running, stream):
    """The one that runs may end."""
    begun = []

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        begun.append("request")
        return ModelResponse([ToolCallPart("alert", {})])

    async def streamed(messages: list[ModelMessage], info: AgentInfo):
        begun.append("request")
        yield {0: DeltaToolCall(name="alert", json_args="{}", tool_call_id=f"c{len(begun)}")}

    model = FunctionModel(stream_function=streamed) if stream else FunctionModel(respond)
    told, ended = asyncio.Event(), []
    agent = Agent(model, name="alarm")

    @agent.tool_plain
    async def alert() -> str:
        begun.append("alert")
        context = ActivityContext.current()
        told.set()
        await until_async(lambda: asyncio.sleep(0, context.cancelled), SOON)
        ended.append(1)
        return "sent"

    step = app.activity(agent, stream=stream).step(prompt="?")
    async with running(app):
        workflow = await app.dispatch(step)
        await asyncio.wait_for(told.wait(), SOON)
        await workflow.cancel()
        await until_async(lambda: _is_over(app, workflow), SOON)
    assert (begun, ended) == (["request", "alert"], [1])


async def _is_over(app: Any, workflow: Any) -> bool:
    return any(event.type == "step_cancelled" for event in await app.store.events(str(workflow))) or (
        (await workflow.status()) is Status.CANCELLED
    )
