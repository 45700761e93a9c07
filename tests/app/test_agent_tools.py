"""Tools by which agents reach their workflow."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant.agents import workflow_tools
from paigeant.errors import ConfigurationError

pytestmark = pytest.mark.anyio

SOON = 20


class Caller:
    """A model that makes these calls, one after the other, and then says what it heard."""

    def __init__(self, *calls: ToolCallPart) -> None:
        self.calls = list(calls)
        self.tools: dict[str, Any] = {}

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.tools = {tool.name: tool.parameters_json_schema for tool in info.function_tools}
        if self.calls:
            return ModelResponse([self.calls.pop(0)])
        heard = [part for one in messages for part in one.parts if isinstance(part, ToolReturnPart | RetryPromptPart)]
        return ModelResponse([TextPart(" | ".join(str(part.content) for part in heard))])


@pytest.fixture
def app(make_app):
    return make_app("memory://")


async def test_an_agent_reads_what_an_earlier_step_gave(app, running):
    """Also of a step long past; a wrong name is told to the model with the right ones."""
    model = Caller(ToolCallPart("read_output", {"step": "lod"}), ToolCallPart("read_output", {"step": "load"}))
    reader = app.activity(Agent(FunctionModel(model), toolsets=[workflow_tools()]), name="reader")

    @app.activity
    def load() -> dict[str, int]:
        return {"pages": 7}

    @app.activity
    def between() -> None: ...

    async with running(app):
        output = await (await app.dispatch(load, *[between] * 9, reader.step(prompt="x"))).result(SOON)
    assert (
        output == f"No step 'lod' has completed. Completed: {', '.join(['load', *['between'] * 9])}. | {{'pages': 7}}"
    )
    assert set(model.tools) == {"read_output"}


async def test_an_agent_sends_a_workflow_on_its_way(app, running):
    """Over activities that it may use; another name goes back to the model."""
    asked = {"activities": ["ship"], "variables": {"box": 3}}
    model = Caller(
        ToolCallPart("dispatch_workflow", {"activities": ["destroy"]}), ToolCallPart("dispatch_workflow", asked)
    )
    tools = [workflow_tools(may_dispatch=["ship", "bill"])]
    clerk = app.activity(Agent(FunctionModel(model), toolsets=tools), name="clerk")

    @app.activity
    def ship(box: int) -> str:
        return f"shipped {box}"

    @app.activity
    def destroy() -> None:
        raise AssertionError("nobody may")

    async with running(app):
        workflow = await app.dispatch(clerk.step(prompt="x"))
        refused, _, sent = (await workflow.result(SOON)).partition(" | ")
        assert await app.workflow(sent).result(SOON) == "shipped 3"
    assert "'ship' or 'bill'" in refused
    assert model.tools["dispatch_workflow"]["properties"]["activities"]["items"]["enum"] == ["ship", "bill"]


async def test_an_agent_sends_something_to_another_activity(app, running):
    """With arguments; what does not fit goes back to the model, and so does an activity that it may not use."""
    calls = [
        ToolCallPart("send_to_activity", {"activity": "destroy"}),
        ToolCallPart("send_to_activity", {"activity": "ship", "arguments": {"crate": 3}}),
        ToolCallPart("send_to_activity", {"activity": "ship", "arguments": {"box": 3}}),
    ]
    model = Caller(*calls)
    clerk = Agent(FunctionModel(model), toolsets=[workflow_tools(may_dispatch=["ship"])], retries=2)
    app.activity(clerk, name="clerk")

    @app.activity
    def ship(box: int) -> str:
        return f"shipped {box}"

    async with running(app):
        workflow = await app.dispatch(app.activities["clerk"].step(prompt="x"))
        refused, wrong, sent = (await workflow.result(SOON)).split(" | ")
        assert await app.workflow(sent).result(SOON) == "shipped 3"
    assert "'ship'" in refused
    assert "This cannot be sent: activity 'ship' takes no argument 'crate'" in wrong


async def test_only_names_may_be_dispatched():
    """Of activities, wherever they are served."""
    with pytest.raises(ConfigurationError, match="may_dispatch takes names"):
        workflow_tools(may_dispatch=[print])
