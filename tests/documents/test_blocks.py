"""Every Python block of the source documents runs as printed; where a model was named, a test model answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from documents.blocks import block, every_block, shown, shows
from helpers import until_async
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from tokens import Issuer

from paigeant import (
    ActivityContext,
    ActivityExecutor,
    ActivitySpec,
    App,
    PaigeantAgent,
    Worker,
    WorkflowDependencies,
    WorkflowDispatcher,
    get_transport,
)
from paigeant.errors import WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 20
LONG, SHORT = "paigeant-conceptual-guide-long", "paigeant-conceptual-guide-short"
README, GUIDES = "paigeant-readme", "paigeant-guides-readme"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a broker of its own, as a reader has them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setenv("PAIGEANT_BROKER_URL", f"sqlite:///{tmp_path / 'paigeant.db'}")
    return tmp_path


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module whose text is the block."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    return module


@pytest.fixture
async def dispatcher() -> AsyncIterator[WorkflowDispatcher]:
    dispatcher = WorkflowDispatcher()
    yield dispatcher
    await dispatcher.close()


@pytest.fixture
def module(place: Path) -> Iterator[Any]:
    """Writes a module that the block names; it is forgotten at the end."""
    written: set[str] = set()

    def write(name: str, source: str) -> None:
        path = place.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        written.update((name, name.partition(".")[0]))

    yield write
    for name in written:
        sys.modules.pop(name, None)


def activities(app: App, *names: str) -> list[str]:
    """Gives the App activities of these names; what ran is in the list."""
    ran: list[str] = []
    for name in names:

        def run(ctx: ActivityContext) -> str:
            ran.append(ctx.step.name)
            return ctx.step.name

        app.activity(name=name)(run)
    return ran


def believing(dispatcher: WorkflowDispatcher) -> Issuer:
    """The issuer of the tokens that are believed behind this dispatcher."""
    issuer = Issuer()
    dispatcher.app.settings = dispatcher.app.settings.model_copy(update=issuer.settings)
    return issuer


async def worked_off(app: App, workflow: str) -> Any:
    """The output of the workflow, after a worker did all there is to do."""
    await Worker(app, burst=True).run()
    return await app.workflow(workflow).result(SOON)


# --- the README ------------------------------------------------------------------------------------------------------


@shows(README, "Define a workflow and dispatch it")
async def test_the_quick_start(page: ModuleType) -> None:
    """Two agents on the runway; the second inserts the helper agent, which runs after it with that prompt."""
    await block(README, "Define a workflow and dispatch it").run(page)
    told: list[Any] = []

    def write(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if isinstance(messages[-1].parts[-1], ToolReturnPart):
            return ModelResponse(parts=[TextPart("Why did the cat cross the road?")])
        return ModelResponse(parts=[ToolCallPart("_edit_itinerary", {"notifier-agent": "Send the joke to Slack"})])

    def notify(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told.extend((messages[0].parts[-1].content, info.instructions))
        return ModelResponse(parts=[TextPart("sent")])

    with (
        page.extractor.override(model=TestModel(custom_output_text="cats")),
        page.writer.override(model=FunctionModel(write)),
        page.notifier.override(model=FunctionModel(notify)),
    ):
        for name in ("extractor", "writer", "notifier-agent"):
            await ActivityExecutor(page.transport, name, "page", burst=True).start()
    record = await page.dispatcher.app.workflow(page.correlation_id).record()
    await page.dispatcher.close()

    assert [(step.activity, step.output) for step in record.steps] == [
        ("extractor", "cats"),
        ("writer", "Why did the cat cross the road?"),
        ("notifier-agent", "sent"),
    ]
    assert told[0] == "Send the joke to Slack"
    assert "Why did the cat cross the road?" in told[1]


# --- the guides ------------------------------------------------------------------------------------------------------


@shows(GUIDES, "1. PaigeantAgent vs Direct Calls")
async def test_an_agent_without_a_dispatcher(page: ModuleType, dispatcher: WorkflowDispatcher) -> None:
    """It is found in its module by the variable that holds it."""

    class JokeWorkflowDeps(WorkflowDependencies):
        topic: str

    step = ActivitySpec(agent_name="joke_agent", prompt="A joke, please.", deps={"topic": "cats"})
    vars(page).update(PaigeantAgent=PaigeantAgent, JokeWorkflowDeps=JokeWorkflowDeps)
    vars(page).update(dispatcher=dispatcher, activities=[step])
    await block(GUIDES, "1. PaigeantAgent vs Direct Calls").run(page)

    seen: list[Any] = []
    page.joke_agent.instructions(lambda ctx: seen.append(ctx.deps))
    with page.joke_agent.override(model=TestModel(custom_output_text="ha")):
        executor = ActivityExecutor(dispatcher.app.transport, "joke_agent", page, burst=True)
        await executor.start()
    assert await dispatcher.app.workflow(page.correlation_id).result(SOON) == "ha"
    assert seen == [JokeWorkflowDeps(topic="cats")]


AGENT = """
from pydantic_ai.models.test import TestModel
from paigeant import PaigeantAgent, WorkflowDependencies, WorkflowDispatcher

dispatcher = WorkflowDispatcher()
agent = PaigeantAgent(
    TestModel(custom_output_text="done"), dispatcher=dispatcher, deps_type=WorkflowDependencies, name={name!r}
)
"""


@shows(GUIDES, "2. Activity Execution")
async def test_an_executor_listens(page: ModuleType, module: Any, dispatcher: WorkflowDispatcher) -> None:
    """Until it is stopped."""
    module("guides.dispatcher_example", AGENT.format(name="joke-generator"))
    vars(page).update(ActivityExecutor=ActivityExecutor, transport=get_transport())
    running = asyncio.create_task(block(GUIDES, "2. Activity Execution").run(page))
    workflow = await dispatcher.dispatch_workflow([ActivitySpec(name="joke-generator", prompt="A joke, please.")])
    assert await dispatcher.app.workflow(workflow).result(SOON) == "done"
    page.executor.stop()
    await asyncio.wait_for(running, SOON)


@shows(GUIDES, "On-Behalf-Of (OBO) Tokens and Delegated Identity")
async def test_a_token_travels_with_the_workflow(page: ModuleType, dispatcher: WorkflowDispatcher) -> None:
    """To every step of it, which is told what it says."""
    claims: list[Any] = []
    issuer = believing(dispatcher)

    @dispatcher.app.activity
    def look(ctx: ActivityContext) -> None:
        claims.append((ctx.user_claims or {})["sub"])

    vars(page).update(dispatcher=dispatcher, user_token=issuer.token(), activities=[look, look])
    obo = block(GUIDES, "On-Behalf-Of (OBO) Tokens and Delegated Identity")
    await obo.with_(
        ("...", "activities"), ("dispatcher.dispatch_workflow(", "id = await dispatcher.dispatch_workflow(")
    ).run(page)
    await worked_off(dispatcher.app, page.id)
    assert claims == ["ann", "ann"]


# --- the long conceptual guide ---------------------------------------------------------------------------------------


@shows(LONG, "1. The Routing Slip Pattern")
async def test_an_itinerary_of_names(page: ModuleType, dispatcher: WorkflowDispatcher) -> None:
    """They run in the order of the list."""
    await block(LONG, "1. The Routing Slip Pattern").run(page)
    ran = activities(dispatcher.app, *page.itinerary)
    await worked_off(dispatcher.app, await dispatcher.dispatch_workflow(page.itinerary))
    assert ran == page.itinerary


@shows(LONG, "1. Asynchronous-First Communication", 0)
async def test_the_fragile_way(page: ModuleType) -> None:
    """What the guide advises against: direct calls, where the first one that fails is the end."""

    def fail(result: str) -> str:
        raise ConnectionError("agent_b is down")

    stand_ins = {name: SimpleNamespace(process=lambda data: f"{data}+") for name in ("agent_a", "agent_b", "agent_c")}
    fragile = block(LONG, "1. Asynchronous-First Communication", 0)
    vars(page).update(stand_ins, data="data")
    await fragile.run(page)
    assert page.result3 == "data+++"
    page.agent_b = SimpleNamespace(process=fail)
    with pytest.raises(ConnectionError):
        await fragile.run(page)


@shows(LONG, "1. Asynchronous-First Communication", 1)
async def test_the_resilient_way(page: ModuleType, dispatcher: WorkflowDispatcher) -> None:
    """The list of activities is the first argument, and nobody need be there to serve them."""
    page.dispatcher = dispatcher
    await block(LONG, "1. Asynchronous-First Communication", 1).run(page)
    ran = activities(dispatcher.app, "process-with-agent-a", "process-with-agent-b", "process-with-agent-c")
    await Worker(dispatcher.app, burst=True).run()
    assert ran == ["process-with-agent-a", "process-with-agent-b", "process-with-agent-c"]


@shows(LONG, "Step 1: Define Your Workflow")
@shows(LONG, "Step 2: Dispatch the Workflow")
async def test_define_and_dispatch(page: ModuleType) -> None:
    """A dispatcher with a transport; the variables reach every step."""
    await block(LONG, "Step 1: Define Your Workflow").run(page)
    await block(LONG, "Step 2: Dispatch the Workflow").run(page)
    seen: list[tuple[str, str]] = []

    def run(customer_email: str, subscription_tier: str) -> None:
        seen.append((customer_email, subscription_tier))

    for step in page.onboarding_steps:
        page.dispatcher.app.activity(name=step.name)(run)
    await worked_off(page.dispatcher.app, page.correlation_id)
    await page.dispatcher.close()
    assert seen == [("new.customer@example.com", "premium")] * 4


@shows(LONG, "Step 3: Build Workers to Handle Each Step")
@pytest.mark.parametrize("valid", [True, False])
async def test_a_handler_by_hand(page: ModuleType, dispatcher: WorkflowDispatcher, valid: bool) -> None:
    """It marks its step complete and the workflow goes on; where it does not, the workflow ends with the reason."""
    invalid: list[str] = []

    async def validate(email: str) -> bool:
        return valid and email == "a@example.com"

    async def handle_validation_error(message: Any) -> None:
        invalid.append(message.payload["customer_email"])

    page.customer_validator_agent = SimpleNamespace(validate=validate)
    page.handle_validation_error = handle_validation_error
    page.transport = dispatcher.app.transport
    await block(LONG, "Step 3: Build Workers to Handle Each Step").run(page)
    ran = activities(dispatcher.app, "create-customer-account")
    workflow = await dispatcher.dispatch_workflow(
        ["validate-customer-data", "create-customer-account"], variables={"customer_email": "a@example.com"}
    )
    executor = ActivityExecutor(page.transport, "validate-customer-data", page.handle_validation, burst=True)
    await executor.start()
    if valid:
        await worked_off(dispatcher.app, workflow)
        assert (ran, invalid) == (["create-customer-account"], [])
    else:
        with pytest.raises(WorkflowFailed, match="did not complete its step"):
            await worked_off(dispatcher.app, workflow)
        assert (ran, invalid) == ([], ["a@example.com"])


@shows(LONG, "Using Paigeant with pydantic-ai")
async def test_a_planner(page: ModuleType, dispatcher: WorkflowDispatcher) -> None:
    """It dispatches what it planned, with the user's token."""
    onboarding = ["validate-customer-data", "create-customer-account"]
    ran = activities(dispatcher.app, *onboarding)

    def plan(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse(parts=[TextPart(str(last.content))])
        given = {"activity_names": onboarding, "variables": {"customer_email": "john@example.com"}}
        return ModelResponse(parts=[ToolCallPart("dispatch_workflow", given)])

    token = believing(dispatcher).token()
    vars(page).update(dispatcher=dispatcher, model=FunctionModel(plan))
    planning = block(LONG, "Using Paigeant with pydantic-ai").with_(('"openai:gpt-4"', "model"))
    await planning.with_(('"user-session-token"', repr(token))).run(page)
    await worked_off(dispatcher.app, page.result.output)
    assert ran == onboarding


@shows(LONG, "Workflow Workers Can Use Agents Too")
async def test_a_handler_with_an_agent(page: ModuleType, dispatcher: WorkflowDispatcher) -> None:
    """What it puts into the payload is there for the steps after it."""
    page.transport, page.Agent = dispatcher.app.transport, Agent
    page.model = TestModel(custom_output_text="high")
    handler = block(LONG, "Workflow Workers Can Use Agents Too")
    await handler.with_(('"openai:gpt-4"', "model"), ("analysis.data", "analysis.output")).run(page)

    @dispatcher.app.activity(name="route-to-specialist-team")
    def route(analysis: str) -> str:
        return analysis

    steps = ["analyze-ticket", "route-to-specialist-team"]
    workflow = await dispatcher.dispatch_workflow(steps, variables={"text": "The site is down."})
    await ActivityExecutor(page.transport, steps[0], page.handle_customer_support_ticket, burst=True).start()
    assert await worked_off(dispatcher.app, workflow) == "high"


@shows(LONG, "E-commerce Order Processing")
@shows(LONG, "Customer Support Automation")
@pytest.mark.parametrize(
    ("heading", "variable"),
    [("E-commerce Order Processing", "order_workflow"), ("Customer Support Automation", "support_workflow")],
)
async def test_the_scenarios(page: ModuleType, dispatcher: WorkflowDispatcher, heading: str, variable: str) -> None:
    """Their steps run in order."""
    page.ActivitySpec = ActivitySpec
    await block(LONG, heading).run(page)
    steps = getattr(page, variable)
    ran = activities(dispatcher.app, *(step.name for step in steps))
    await worked_off(dispatcher.app, await dispatcher.dispatch_workflow(steps))
    assert ran == [step.name for step in steps]


# --- the short conceptual guide --------------------------------------------------------------------------------------


@shows(SHORT, "Basic Usage")
async def test_basic_usage(page: ModuleType, module: Any) -> None:
    """The agent's name is that of its variable; its executor finds it in the module."""
    module("module.path", AGENT.format(name=None))
    running = asyncio.create_task(block(SHORT, "Basic Usage").run(page))

    async def dispatched() -> str | None:
        assert not running.done(), running.result()
        return vars(page).get("correlation_id")

    workflow = await until_async(dispatched, SOON)
    assert await page.dispatcher.app.workflow(workflow).result(SOON) == "done"
    page.executor.stop()
    await asyncio.wait_for(running, SOON)
    await page.dispatcher.close()


# --- all of them -----------------------------------------------------------------------------------------------------


def test_every_block_is_run() -> None:
    """None is left out of this file, and none of its names is wrong."""
    assert {(one.document, one.heading, one.number) for one in every_block()} == shown
