"""Tool calls that wait for people, or for other systems."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers import until_async
from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import scatter
from paigeant.errors import WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 20


class Clerk:
    """An agent that calls these tools at once, and then says what they gave."""

    def __init__(self, *calls: ToolCallPart) -> None:
        self.calls = calls
        self.done: Counter[str] = Counter()
        self.agent = Agent(FunctionModel(self.respond), name="clerk")

        @self.agent.tool_plain(requires_approval=True)
        def refund(cents: int) -> str:
            self.done[f"refund {cents}"] += 1
            return f"refunded {cents}"

        @self.agent.tool
        def delete(ctx: RunContext, file: str) -> str:
            if not ctx.tool_call_approved:
                raise ApprovalRequired()
            self.done[f"delete {file}"] += 1
            return f"deleted {file}"

        @self.agent.tool_plain
        def ask_elsewhere(what: str) -> str:
            raise CallDeferred()

        @self.agent.tool_plain
        async def look() -> str:
            self.done["look"] += 1
            return "looked"

    def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.done["request"] += 1
        heard = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
        if not heard:
            return ModelResponse(list(self.calls))
        return ModelResponse([TextPart(", ".join(map(str, heard)))])


def call(tool: str, arguments: dict[str, Any], key: str) -> ToolCallPart:
    return ToolCallPart(tool, arguments, key)


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


async def asked(app: Any, what: str) -> Any:
    """What waits, once something of this tool does."""

    async def waiting() -> Any:
        return [one for one in await app.store.held() if what in str(one.detail)]

    (one,) = await until_async(waiting, SOON)
    return one


async def test_an_approval_comes_three_restarts_later_with_other_arguments(app, running):
    """The tool runs once, with them; what was done before is not done again."""
    clerk = Clerk(call("refund", {"cents": 900}, "a"), call("look", {}, "b"))
    activity = app.activity(clerk.agent)
    async with running(app):
        workflow = await app.dispatch(activity.step(prompt="x"))
        one = await asked(app, "refund")
    assert one.detail == {
        "asks": "clerk wants to call refund",
        "details": {"tool": "refund", "arguments": {"cents": 900}},
        "question": one.question,
    }
    for _ in range(2):
        async with running(app):
            assert (await workflow.status()).value == "running"
    await workflow.decide(True, by="ann", arguments={"cents": 500})
    async with running(app):
        assert await workflow.result(SOON) in ("refunded 500, looked", "looked, refunded 500")
    assert clerk.done == Counter({"request": 2, "refund 500": 1, "look": 1})


async def test_a_call_that_is_denied_is_not_made(app, running):
    """The model hears why."""
    clerk = Clerk(call("refund", {"cents": 900}, "a"))
    activity = app.activity(clerk.agent)
    async with running(app):
        workflow = await app.dispatch(activity.step(prompt="x"))
        await asked(app, "refund")
        await workflow.decide(False, by="ann", reason="too much")
        assert await workflow.result(SOON) == "too much"
    assert clerk.done == Counter({"request": 2})


async def test_an_approval_is_of_this_call_and_no_other(app, running):
    """A model that is asked again and wants something else is not let through by what was approved before."""
    clerk = Clerk(call("refund", {"cents": 900}, "a"))
    activity = app.activity(clerk.agent, durable="step")
    async with running(app):
        workflow = await app.dispatch(activity.step(prompt="x"))
        await asked(app, "900")
        clerk.calls = (call("refund", {"cents": 90_000}, "a"),)
        await workflow.decide(True)
        await asked(app, "90000")
        await workflow.decide(False, reason="too much")
        assert await workflow.result(SOON) == "too much"
    assert clerk.done == Counter({"request": 4})


async def test_what_was_approved_is_not_asked_again_in_a_branch_that_is_begun_again(app, running):
    """It is done already."""
    clerk = Clerk(call("refund", {"cents": 900}, "a"))
    respond, broken = clerk.respond, ["once"]

    def breaks(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "refunded" in str(messages) and broken:
            raise ConnectionError(broken.pop())
        return respond(messages, info)

    activity = app.activity(Agent(FunctionModel(breaks), toolsets=clerk.agent.toolsets), name="clerk")
    workflow = await app.dispatch(scatter(activity.step(prompt="x")))
    async with running(app):
        one = await asked(app, "refund")
        await app.workflow(one.correlation_id).decide(True, arguments={"cents": 500})
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        await workflow.retry()
        (result,) = await workflow.result(SOON)
    assert result.output == "refunded 500"
    assert clerk.done == Counter({"request": 2, "refund 500": 1})


async def test_what_was_denied_stays_denied_when_an_operator_retries(app, running):
    """What the model said next builds on it; an agent that begins anew asks anew."""
    clerk = Clerk(call("refund", {"cents": 900}, "a"))
    respond, broken = clerk.respond, ["once", "twice"]

    def breaks(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "too much" in str(messages) and "look" not in str(messages):
            return ModelResponse([call("look", {}, "b")])
        if "looked" in str(messages) and broken:
            raise ConnectionError(broken.pop())
        return respond(messages, info)

    activity = app.activity(Agent(FunctionModel(breaks), toolsets=clerk.agent.toolsets), name="clerk")
    workflow = await app.dispatch(activity.step(prompt="x"))
    async with running(app):
        await asked(app, "refund")
        await workflow.decide(False, reason="too much")
        for _ in range(2):
            with pytest.raises(WorkflowFailed):
                await workflow.result(SOON)
            await workflow.retry(fresh=not broken)
        await asked(app, "refund")
        await workflow.decide(True)
        assert await workflow.result(SOON) == "refunded 900"
    assert (clerk.done["refund 900"], clerk.done["look"]) == (1, 1)


async def test_several_calls_are_asked_about_one_after_the_other(app, running):
    """Also one that finds out itself that it needs approval."""
    clerk = Clerk(call("refund", {"cents": 9}, "a"), call("delete", {"file": "x"}, "b"))
    activity = app.activity(clerk.agent)
    async with running(app):
        workflow = await app.dispatch(activity.step(prompt="x"))
        for _ in range(2):
            one = await asked(app, "wants to call")
            refunds = "refund" in one.detail["asks"]
            await workflow.decide(refunds, reason="" if refunds else "keep it")

            async def gone(one: Any = one) -> bool:
                return one.wait_id not in {still.wait_id for still in await app.store.held()}

            await until_async(gone, SOON)
        assert sorted((await workflow.result(SOON)).split(", ")) == ["keep it", "refunded 9"]
    assert clerk.done == Counter({"request": 2, "refund 9": 1})


async def test_a_call_may_be_answered_from_elsewhere(app, running):
    """By a signal under the id of the call."""
    clerk = Clerk(call("ask_elsewhere", {"what": "time"}, "call-1"))
    activity = app.activity(clerk.agent)
    async with running(app):
        workflow = await app.dispatch(activity.step(prompt="x"))
        await asked(app, "call-1")
        await workflow.signal("call-1", "noon")
        assert await workflow.result(SOON) == "noon"
