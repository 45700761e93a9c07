"""Tokens and tool calls of agents reach the caller while the step runs, as pydantic-ai's own events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant import RetryPolicy
from paigeant.agents.streaming import agent_events
from paigeant.errors import StreamBroken

pytestmark = pytest.mark.anyio

SOON = 30
WORDS = ["Once ", "upon ", "a ", "time"]


class Teller:
    """Calls a tool, then tells a story word by word; before its last word it waits, and may break."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.requests = 0
        self.breaks = False

    async def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.requests += 1
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="look_up", json_args='{"hero": "Ada"}', tool_call_id="call-1")}
            return
        for word in WORDS[:-1]:
            yield word
        await self.go_on.wait()
        if self.breaks:
            self.breaks = False
            raise ConnectionError("the line broke")
        yield WORDS[-1]


def text_of(events: list[Any]) -> str:
    text = ""
    for event in events:
        match event:
            case PartStartEvent(part=TextPart(content=content)):
                text += content
            case PartDeltaEvent(delta=TextPartDelta(content_delta=content)):
                text += content
    return text


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def agent(teller: Teller) -> Agent[None, str]:
    made = Agent(FunctionModel(stream_function=teller), name="teller")

    @made.tool_plain
    def look_up(hero: str) -> str:
        return f"{hero} is known"

    return made


async def test_tokens_and_tool_calls_come_before_the_step_ends(elsewhere, running, agent, teller):
    """Over Redis with SQLite and RabbitMQ with PostgreSQL: the model waits until its first words were seen."""
    elsewhere.activity(agent, stream=True)
    async with running(elsewhere), asyncio.timeout(SOON):
        workflow = await elsewhere.dispatch(elsewhere.activities["teller"].step(prompt="Tell"))
        seen = []
        async for event in agent_events(workflow):
            seen.append(event)
            if text_of(seen) == "".join(WORDS[:-1]):
                teller.go_on.set()
        assert await workflow.result() == "".join(WORDS) == text_of(seen)
        assert [one async for one in agent_events(workflow, step="teller")] == seen
        assert [one async for one in agent_events(workflow, step="another")] == []
    (call,) = [one for one in seen if isinstance(one, FunctionToolCallEvent)]
    assert (call.part.tool_name, call.part.args_as_dict()) == ("look_up", {"hero": "Ada"})
    (result,) = [one for one in seen if isinstance(one, FunctionToolResultEvent)]
    assert result.part.content == "Ada is known"


async def test_without_stream_nothing_is_streamed(app, running):
    """Models that cannot stream work as before."""

    async def plain(messages: list[ModelMessage], info: AgentInfo) -> Any:
        from pydantic_ai.messages import ModelResponse

        return ModelResponse(parts=[TextPart("plain")])

    app.activity(Agent(FunctionModel(plain), name="plain"))
    async with running(app):
        workflow = await app.dispatch(app.activities["plain"].step(prompt="Say"))
        assert await workflow.result(SOON) == "plain"
        assert [one async for one in agent_events(workflow)] == []


async def test_a_run_that_begins_again_breaks_the_stream_and_reading_again_gives_the_whole(app, running, agent, teller):
    """Model requests that are finished are not made again, but their events are given again."""
    teller.breaks = True
    app.activity(agent, stream=True, retry=RetryPolicy(attempts=2, delay=0))
    async with running(app), asyncio.timeout(SOON):
        workflow = await app.dispatch(app.activities["teller"].step(prompt="Tell"))
        seen = []
        with pytest.raises(StreamBroken, match="'teller'"):
            await _read_until_it_breaks(workflow, seen, teller)
        assert text_of(seen) == "".join(WORDS[:-1])
        whole = [one async for one in agent_events(workflow)]
        assert text_of(whole) == "".join(WORDS) == await workflow.result()
    assert len([one for one in whole if isinstance(one, FunctionToolCallEvent)]) == 1
    assert teller.requests == 3


async def _read_until_it_breaks(workflow: Any, seen: list[Any], teller: Teller) -> None:
    async for event in agent_events(workflow):
        seen.append(event)
        if text_of(seen) == "".join(WORDS[:-1]):
            teller.go_on.set()


async def test_the_agents_own_handlers_still_see_everything(app, running):
    """A capability of the agent's is asked as well."""
    from pydantic_ai.capabilities import ProcessEventStream

    heard = []

    async def hear(_: Any, events: Any) -> None:
        async for event in events:
            heard.append(event)  # noqa: PERF401 - one by one, as they come

    agent = Agent(TestModel(custom_output_text="a b c"), name="heard", capabilities=[ProcessEventStream(hear)])
    app.activity(agent, stream=True)
    async with running(app):
        workflow = await app.dispatch(app.activities["heard"].step(prompt="Say"))
        assert await workflow.result(SOON) == "a b c"
        shown = [one async for one in agent_events(workflow)]
    assert text_of(shown) == text_of(heard) == "a b c"


async def test_what_cannot_be_written_is_left_out(app, running, agent, teller):
    """A tool may return anything; and a newer pydantic-ai may have events that this one does not know."""
    from paigeant.agents.streaming import _read, _serialized

    event = FunctionToolResultEvent(part=_Strange())
    assert _serialized(event)["unwritable"]
    assert _read(_serialized(event)) is None
    assert _read({"event_kind": "of another age"}) is None
    assert _read(None) is None


class _Strange:
    tool_call_id = "x"


async def test_the_events_feed_pydantic_ais_encoders(app, running, agent, teller):
    """AG-UI and Vercel AI, without a run input: what a browser gets is what its protocol says."""
    pytest.importorskip("ag_ui.core")
    pytest.importorskip("starlette")
    from pydantic_ai.ui.ag_ui import AGUIEventStream
    from pydantic_ai.ui.vercel_ai import VercelAIEventStream

    teller.go_on.set()
    app.activity(agent, stream=True)
    async with running(app):
        workflow = await app.dispatch(app.activities["teller"].step(prompt="Tell"))
        await workflow.result(SOON)
        encoders = (AGUIEventStream(), VercelAIEventStream())
        ag_ui, vercel = [
            [one async for one in encoder.encode_stream(encoder.transform_stream(agent_events(workflow)))]
            for encoder in encoders
        ]
    for stream, kinds in (
        (ag_ui, ["RUN_STARTED", "TOOL_CALL_START", "TOOL_CALL_RESULT", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"]),
        (vercel, ['"start"', '"tool-input-start"', '"tool-output-available"', '"text-delta"', '"finish"', "[DONE]"]),
    ):
        text = "".join(stream)
        positions = [text.find(kind) for kind in kinds]
        assert positions == sorted(positions), text
        assert -1 not in positions, text
