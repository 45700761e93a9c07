"""Agent steps that are interrupted: what they have done is not done again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from helpers import until_async
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from planned_models import ANSWER, UNITS, Script
from pydantic_ai import Agent, InstrumentationSettings, ModelRetry, RunContext, durable_exec
from pydantic_ai.capabilities import Instrumentation, ProcessEventStream
from pydantic_ai.exceptions import ContentFilterError, ModelHTTPError, ToolFailed, UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from paigeant import ActivityContext, RetryPolicy
from paigeant.errors import WorkflowFailed
from paigeant.wire.usage import total

pytestmark = pytest.mark.anyio

SOON = 20
AT_ONCE = RetryPolicy(attempts=3, quick=1, delay=0)


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


@pytest.mark.parametrize("fails_at", UNITS)
async def test_no_finished_unit_is_done_again(app, running, fails_at):
    """Only the one that failed, and a sibling that was cut off with it."""
    script = Script(fails_at)
    weather = app.activity(script.agent(), retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(weather.step(prompt="Weather?"))
        assert await workflow.result(SOON) == ANSWER
    siblings = {"rain", "sun"} if fails_at in ("rain", "sun") else {fails_at}
    assert {name for name, times in script.done.items() if times > 1} - siblings == set()
    assert script.done[fails_at] == 2
    units = await app.store.units(str(workflow))
    assert [unit.key for unit in units if unit.name == "model"] == ["model:1", "model:2", "model:3"]
    used = total(unit.usage for unit in units)
    assert (used.requests, used.tool_calls, used.input_tokens, used.output_tokens) == (3, 3, 600, 30)


async def test_tool_calls_have_keys_of_their_own_that_stay(app, running):
    """Whatever the tool call is handed to can know a repetition."""
    script = Script("sun")
    weather = app.activity(script.agent(), retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(weather.step(prompt="Weather?"))
        await workflow.result(SOON)
    rain, sun = (f"{workflow}:1:tool:1:{call}:0" for call in "ab")
    assert set(script.keys) == {rain, sun}


async def test_level_model_runs_tools_again_and_no_request(app, running):
    """What its tools say now may differ: the responses stay."""
    script = Script("request 3")
    weather = app.activity(script.agent(), retry=AT_ONCE, durable="model")
    async with running(app):
        assert await (await app.dispatch(weather.step(prompt="Weather?"))).result(SOON) == ANSWER
    assert script.done == Counter({"request 1": 1, "rain": 2, "sun": 2, "request 2": 1, "snow": 2, "request 3": 2})


@pytest.mark.parametrize("without", ["journal", "store"])
async def test_without_a_journal_a_step_runs_again_from_the_beginning(make_app, running, tmp_path, without, redis_url):
    """By choice, or for want of a store."""
    app = make_app(redis_url, "none") if without == "store" else make_app(f"sqlite:///{tmp_path / 'here.db'}")
    script = Script("request 3")
    level = "full" if without == "store" else "step"
    weather = app.activity(script.agent(), retry=AT_ONCE, durable=level)
    ended = []

    @app.activity
    def end(text: str) -> None:
        ended.append(text)

    async def over() -> bool:
        return bool(ended)

    async with running(app):
        await app.dispatch(weather.step(prompt="Weather?"), end)
        await until_async(over, SOON)
    assert ended == [ANSWER]
    assert set(script.done.values()) == {2}


async def test_what_a_tool_tells_the_model_is_kept(app, running):
    """To try again, or that it failed: the model hears it again, the tool does not."""
    done: Counter[str] = Counter()

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done["request"] += 1
        said = [part for one in messages for part in one.parts if isinstance(part, RetryPromptPart | ToolReturnPart)]
        if len(said) < 2:
            return ModelResponse([ToolCallPart("draw" if not said else "sell", {}, f"call {len(said)}")])
        if done["request"] == 3:
            raise ConnectionError("interrupted")
        return ModelResponse([TextPart(" ".join(str(part.content) for part in said))])

    agent = Agent(FunctionModel(respond), name="painter")

    @agent.tool_plain
    def draw() -> str:
        done["draw"] += 1
        raise ModelRetry("with colours, please")

    @agent.tool_plain
    def sell() -> str:
        done["sell"] += 1
        raise ToolFailed("nobody buys it")

    painter = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        output = await (await app.dispatch(painter.step(prompt="Paint."))).result(SOON)
    assert output == "with colours, please nobody buys it"
    assert done == Counter({"request": 4, "draw": 1, "sell": 1})


async def test_what_a_tool_changes_in_the_workflow_is_kept(app, running):
    """Steps it inserted, variables it set and workflows it dispatched, once each."""
    script = Script("request 2")
    ran = []

    @app.activity
    def extra(ctx: ActivityContext) -> str:
        ran.append(ctx.step.name)
        return f"{ctx.variables['mood']} {'gone' not in ctx.variables}"

    agent = Agent(FunctionModel(script.respond), name="weather")

    @agent.tool_plain
    async def rain(town: str) -> str:
        ctx = ActivityContext.current()
        ctx.insert(extra.step())
        ctx.variables["mood"] = "wet"
        del ctx.variables["gone"]
        script.done["rain"] += 1
        return ctx.dispatch(extra.step(), variables={"mood": "child"})

    @agent.tool_plain
    def sun(town: str) -> str:
        return ActivityContext.current().dispatch(extra.step(), variables={"mood": "child"})

    @agent.tool_plain
    def snow() -> str:
        return "snow"

    weather = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(weather.step(prompt="Weather?"), variables={"gone": 1})
        assert await workflow.result(SOON) == "wet True"
        children = await app.store.workflows(parent=str(workflow))
        for child in children:
            assert await app.workflow(child.correlation_id).result(SOON) == "child True"
    assert script.done["rain"] == 1
    assert len(children) == 2
    assert ran == ["extra"] * 3


async def test_usage_of_an_agent_that_a_tool_runs_counts_once(app, running):
    """With the tool call; replayed it counts in the run's usage, and not in the journal a second time."""
    script = Script("request 3")
    inner = Agent(
        FunctionModel(lambda messages, info: ModelResponse([TextPart("in")], usage=RequestUsage(input_tokens=7)))
    )
    agent = Agent(FunctionModel(script.respond), name="weather")
    seen = []

    @agent.tool
    async def rain(ctx: RunContext, town: str) -> str:
        return (await inner.run("?", usage=ctx.usage)).output

    @agent.tool
    async def sun(ctx: RunContext, town: str) -> str:
        return (await inner.run("?", usage=ctx.usage)).output

    @agent.tool
    def snow(ctx: RunContext) -> str:
        seen.append(ctx.usage.input_tokens)
        return "snow"

    @agent.output_validator
    def look(ctx: RunContext, output: str) -> str:
        seen.append(ctx.usage.input_tokens)
        return output

    weather = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(weather.step(prompt="Weather?"))
        await workflow.result(SOON)
    used = total(unit.usage for unit in await app.store.units(str(workflow)))
    assert (used.requests, used.input_tokens) == (5, 614)
    assert seen == [314, 614]


async def test_a_dead_end_is_not_walked_into_again(app, running):
    """What a model answered that leads nowhere is forgotten before the next attempt."""
    answers = iter(["nonsense", "nonsense", "42"])
    agent = Agent(
        FunctionModel(lambda messages, info: ModelResponse([TextPart(next(answers))])), name="clerk", retries=1
    )

    @agent.output_validator
    def number(text: str) -> str:
        if not text.isdigit():
            raise ModelRetry("a number, please")
        return text

    clerk = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        workflow = await app.dispatch(clerk.step(prompt="How many?"))
        assert await workflow.result(SOON) == "42"
    units = await app.store.units(str(workflow))
    done = [unit for unit in units if unit.name == "model"]
    assert [unit.key for unit in done] == ["model:1", "model:2", "model:1~"]
    assert total(unit.usage for unit in units).requests == 3


async def test_a_result_that_cannot_be_written_fails_the_step(app, running):
    """Named, with what to do, and not tried again."""
    agent = Agent(TestModel(), name="lister")

    @agent.tool_plain
    def handle() -> Any:
        return object()

    lister = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        with pytest.raises(WorkflowFailed, match="NotSerializable: the result of tool 'handle' cannot be written"):
            await (await app.dispatch(lister.step(prompt="x"))).result(SOON)


async def test_a_test_model_takes_the_place_of_the_agents(app, running):
    """With pydantic-ai's own override; the worker runs in this process."""
    agent = Agent("anthropic:claude-sonnet-4-5", name="far", defer_model_check=True)
    far = app.activity(agent)
    with agent.override(model=TestModel(custom_output_text="near")):
        async with running(app):
            assert await (await app.dispatch(far.step(prompt="x"))).result(SOON) == "near"


async def test_a_streamed_response_is_kept_whole(app, running):
    """Also where somebody listens to the stream."""
    script = Script("snow")
    heard: list[int] = []

    async def listen(ctx: RunContext, events: Any) -> None:
        heard.append(len([event async for event in events]))

    async def stream(messages: list[ModelMessage], info: AgentInfo):
        response = script.respond(messages, info)
        for index, part in enumerate(response.parts):
            if isinstance(part, ToolCallPart):
                call = DeltaToolCall(part.tool_name, json.dumps(part.args), tool_call_id=part.tool_call_id)
                yield {index: call}
            else:
                yield part.content

    listening = [ProcessEventStream(listen)]
    model, tools = FunctionModel(stream_function=stream), script.agent().toolsets
    agent = Agent(model, name="weather", toolsets=tools, capabilities=listening)
    weather = app.activity(agent, retry=AT_ONCE)
    async with running(app):
        assert await (await app.dispatch(weather.step(prompt="Weather?"))).result(SOON) == ANSWER
    assert [script.done[f"request {turn}"] for turn in (1, 2, 3)] == [1, 1, 1]
    assert script.done["rain"] == script.done["sun"] == 1
    assert sum(heard) > 6


async def test_a_tool_may_wait(app, running):
    """The step is parked with it; what was finished before is not done again, and it waits once."""
    script = Script()
    agent = Agent(FunctionModel(script.respond), name="weather")

    @agent.tool_plain
    def rain(town: str) -> str:
        script.do("rain")
        ActivityContext.current().sleep(0.05)
        script.do("rained")
        return "rain"

    @agent.tool_plain
    async def sun(town: str) -> str:
        script.do("sun")
        return f"sun {ActivityContext.current().await_signal('clouds')}"

    @agent.tool_plain
    def snow() -> str:
        script.do("snow")
        return "snow"

    weather = app.activity(agent)
    async with running(app):
        workflow = await app.dispatch(weather.step(prompt="Weather?"))
        await workflow.signal("clouds", "soon")
        assert await workflow.result(SOON) == "rain sun soon snow"
    assert [script.done[f"request {turn}"] for turn in (1, 2, 3)] == [1, 1, 1]
    assert script.done["rained"] == script.done["snow"] == 1


class Provider:
    """A model that answers with these errors, one after the other, and then with a text."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if self.errors:
            raise self.errors.pop(0)
        return ModelResponse([TextPart("at last")])


class Busy(ModelHTTPError):
    """An error that says when to come again, whether its release of pydantic-ai sets that or works it out."""

    retry_after = property(lambda self: 0.05, lambda self, value: None)


def http(status: int) -> ModelHTTPError:
    return (Busy if status in (429, 529) else ModelHTTPError)(status, "some-model", body="says the provider")


async def test_a_provider_that_is_busy_is_asked_later(app, running):
    """As it says, and without using up attempts: this activity has but one."""
    provider = Provider(http(429), http(529), http(429))
    clerk = app.activity(Agent(FunctionModel(provider), name="clerk"))
    async with running(app):
        workflow = await app.dispatch(clerk.step(prompt="x"))
        assert await workflow.result(SOON) == "at last"
    retried = [event for event in await app.store.events(str(workflow)) if event.type == "step_retried"]
    assert [(event.data["counted"], event.data["delay"]) for event in retried] == [(False, 0.05)] * 3


async def test_a_provider_that_refuses_the_key_parks_the_step(app, running):
    """It says so, and goes on when an operator lets it."""
    clerk = app.activity(Agent(FunctionModel(Provider(http(401))), name="clerk"))
    async with running(app):
        workflow = await app.dispatch(clerk.step(prompt="x"))

        async def parked() -> bool:
            (step,) = (await workflow.record()).steps
            return step.status == "parked" and "401" in step.error.message

        await until_async(parked, SOON)
        await workflow.retry()
        assert await workflow.result(SOON) == "at last"


@pytest.mark.parametrize("error", [http(400), UsageLimitExceeded("enough"), ContentFilterError("no")])
async def test_what_would_be_refused_again_is_not_tried_again(app, running, error):
    """Whatever the retry policy allows."""
    provider = Provider(error)
    clerk = app.activity(Agent(FunctionModel(provider), name="clerk"), retry=AT_ONCE)
    async with running(app):
        with pytest.raises(WorkflowFailed, match=type(error).__name__):
            await (await app.dispatch(clerk.step(prompt="x"))).result(SOON)
    assert provider.errors == []


async def test_what_is_replayed_is_not_traced_twice(app, running):
    """Each request and tool call has one span, and that of the second run says what it did not do."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    script = Script("request 3")
    told = Instrumentation(settings=InstrumentationSettings(tracer_provider=provider))
    agent = Agent(FunctionModel(script.respond), toolsets=script.agent().toolsets, capabilities=[told])
    weather = app.activity(agent, name="weather", retry=AT_ONCE)
    async with running(app):
        await (await app.dispatch(weather.step(prompt="Weather?"))).result(SOON)
    spans = exporter.get_finished_spans()
    names = Counter(span.name.split(" ")[0] for span in spans)
    marks = [
        span.attributes["paigeant.units.replayed"] for span in spans if "paigeant.units.replayed" in span.attributes
    ]
    assert marks == [5]
    if hasattr(durable_exec, "replay_scope"):  # three requests and the one that failed; three tool calls
        assert (names["chat"], names["execute_tool"]) == (4, 3)
