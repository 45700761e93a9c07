"""Scopes: an activity declares which of them the token of the user must have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tokens import Issuer

from paigeant import (
    ActivityContext,
    App,
    PaigeantAgent,
    PlannerAgentDeps,
    WorkflowDispatcher,
    create_planner_agent,
    scatter,
)
from paigeant.errors import ConfigurationError, InvalidArguments, ScopesMissing, WorkflowFailed
from paigeant.wire.slip import ActivitySpec, RoutingSlip

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def make(make_app: Callable[..., App], tmp_path: Path, issuer: Issuer) -> Callable[..., App]:
    def made(**options: Any) -> App:
        app = make_app(f"sqlite:///{tmp_path / 'here.db'}", **options)
        app.settings = app.settings.model_copy(update=issuer.settings | {"obo_algorithms": ("ES256",)})
        return app

    return made


@pytest.fixture
def app(make: Callable[..., App]) -> App:
    app = make()

    @app.activity(scopes=["refunds"])
    def refund(ctx: ActivityContext) -> list[str]:
        return sorted(ctx.scopes)

    return app


async def test_a_step_knows_the_scopes_of_its_user(app, running, issuer):
    """Those of the token; the offer of the activity says which it needs."""
    async with running(app):
        workflow = await app.dispatch("refund", obo_token=issuer.token(scope="refunds orders"))
        assert await workflow.result(SOON) == ["orders", "refunds"]
        (worker,) = await app.store.workers()
    assert [one.scopes for one in worker.offers] == [("refunds",)]


async def test_without_a_user_there_are_no_scopes(app, running):
    """No activity that needs some runs."""

    @app.activity
    def which(ctx: ActivityContext) -> list[str]:
        return sorted(ctx.scopes | ctx.scopes_for_agents)

    async with running(app):
        assert await (await app.dispatch("which")).result(SOON) == []


@pytest.mark.parametrize("token", [None, {}, {"scope": "orders"}, {"scp": ["refund"]}, "not a token"])
@pytest.mark.parametrize(
    "steps",
    [
        lambda refund: [refund],
        lambda refund: ["elsewhere", refund.step()],
        lambda refund: [scatter("elsewhere", [refund])],
        lambda refund: [ActivitySpec(name="elsewhere").options(otherwise=[refund.step()])],
    ],
    ids=["alone", "later", "in a branch", "otherwise"],
)
async def test_a_dispatch_without_the_scopes_is_refused(app, issuer, token, steps):
    """As early as possible, wherever the step is."""
    given = issuer.token(**token) if isinstance(token, dict) else token
    with pytest.raises(ScopesMissing, match="'refund' needs the scope 'refunds', and here it would have"):
        app.dispatch(*steps(app.activities["refund"]), obo_token=given)
    assert await app.store.workflows() == []


async def test_a_token_that_every_worker_would_refuse_is_not_dispatched(app, issuer):
    """Because of its size."""
    with pytest.raises(InvalidArguments, match="longer than 16,384 bytes"):
        app.dispatch("elsewhere", obo_token=issuer.token(pad="x" * 20_000))


@pytest.mark.parametrize("scope", ["orders", None])
async def test_a_worker_refuses_what_another_program_dispatched(app, make, running, issuer, scope):
    """It did not know what the activity needs. The message becomes a dead letter that names the scopes."""
    token = None if scope is None else issuer.token(scope=scope)
    await make().dispatch("refund", obo_token=token)
    async with running(app):
        (letter,) = await until_async(app.dead_letters.list, SOON)
    assert (letter.kind.value, letter.code) == ("untrusted", "token")
    assert "ScopesMissing: 'refund' needs the scope 'refunds'" in letter.reason


async def test_a_step_passes_on_no_more_than_it_has(app, running, issuer):
    """It is refused where it plans the step, inserted, dispatched or scattered."""

    @app.activity
    def insert(ctx: ActivityContext) -> None:
        ctx.insert("refund")

    @app.activity
    def dispatch(ctx: ActivityContext) -> str:
        return ctx.dispatch("refund")

    @app.activity
    def gather(ctx: ActivityContext) -> Any:
        return ctx.scatter("refund")

    async with running(app):
        for name in ("insert", "dispatch", "gather"):
            workflow = await app.dispatch(name, obo_token=issuer.token(scope="orders"))
            with pytest.raises(WorkflowFailed, match="ScopesMissing: 'refund' needs the scope 'refunds'"):
                await workflow.result(SOON)
        workflow = await app.dispatch("insert", obo_token=issuer.token(scope="refunds"))
        assert await workflow.result(SOON) == ["refunds"]
        child = await (await app.dispatch("dispatch", obo_token=issuer.token(scope="refunds"))).result(SOON)
        assert await app.workflow(child).result(SOON) == ["refunds"]


def refund_step() -> ActivitySpec:
    return ActivityContext.current().services.planning().specs(["refund"])[0]


def calling(tool: str, **arguments: Any) -> FunctionModel:
    """A model that calls a tool once, and then says what the tool answered."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart(str(getattr(last, "content", "")))])
        return ModelResponse(parts=[ToolCallPart(tool, arguments)])

    return FunctionModel(model)


@pytest.mark.parametrize("declared", [(), ("orders",), ("refunds",)], ids=["nothing", "another", "the scope"])
@pytest.mark.parametrize(
    ("plan", "durable"),
    [
        (lambda ctx: ctx.dispatch("refund"), "step"),
        (lambda ctx: ctx.dispatch("refund"), "full"),
        (lambda ctx: ctx.insert("refund"), "full"),
        (lambda ctx: ctx.scatter("refund"), "full"),
        (lambda ctx: ctx.gather([RoutingSlip(itinerary=(refund_step(),))]), "full"),
    ],
    ids=["dispatch", "dispatch in full", "insert", "scatter", "gather"],
)
async def test_an_agent_plans_only_what_its_activity_declares(app, running, issuer, declared, plan, durable):
    """Whatever its prompt became: the user's token alone is not enough."""
    agent = Agent(calling("pay_back"), name="clerk")

    @agent.tool_plain
    def pay_back() -> str:
        return str(plan(ActivityContext.current()))

    app.activity(agent, scopes=declared, durable=durable)
    token = issuer.token(scope="refunds orders")
    async with running(app):
        workflow = await app.dispatch(app.activities["clerk"].step(prompt="Pay back."), obo_token=token)
        if "refunds" in declared:
            assert await workflow.result(SOON)
        else:
            with pytest.raises(WorkflowFailed, match="ScopesMissing: 'refund' needs the scope 'refunds'"):
                await workflow.result(SOON)
            assert await app.store.workflows(parent=str(workflow)) == []


@pytest.mark.parametrize(
    ("scope", "declared", "is_shown"),
    [("refunds", ["refunds"], True), ("refunds", [], False), ("orders", ["orders"], False)],
)
async def test_a_planner_sees_only_what_it_may_plan(app, running, issuer, scope, declared, is_shown):
    """In a step: what both the user and the step's activity have. Outside of one: what the user has."""
    seen: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(info.instructions or "")
        return ModelResponse(parts=[TextPart("done")])

    app.activity(lambda: None, name="greet")
    dispatcher = WorkflowDispatcher(app=app)
    planner, token = create_planner_agent(FunctionModel(model)), issuer.token(scope=scope)

    @app.activity(scopes=declared)
    async def plan() -> str:
        return (await planner.run("Plan.", deps=PlannerAgentDeps(dispatcher))).output

    async with running(app):
        await (await app.dispatch("plan", obo_token=token)).result(SOON)
    await planner.run("Plan.", deps=PlannerAgentDeps(dispatcher, token))
    await planner.run("Plan.", deps=PlannerAgentDeps(dispatcher))
    assert [("- refund" in one, "- greet" in one) for one in seen] == [
        (is_shown, True),
        (scope == "refunds", True),
        (False, True),
    ]


async def test_an_agent_does_not_see_what_it_may_not_insert(app, running, issuer):
    """Although it is registered, and the user has the scope."""
    shown: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        shown.extend(tool.description or "" for tool in info.function_tools)
        return ModelResponse(parts=[TextPart("done")])

    app.activity(lambda prompt: None, name="greet")
    dispatcher = WorkflowDispatcher(app=app)
    editor = PaigeantAgent(FunctionModel(model), dispatcher=dispatcher, name="editor", can_edit_itinerary=True)
    dispatcher.register_activity("greet")
    dispatcher.register_activity("refund")
    editor.add_to_runway(prompt="Edit.")
    async with running(app):
        workflow = await dispatcher.dispatch_workflow(obo_token=issuer.token(scope="refunds"))
        await app.workflow(workflow).result(SOON)
    assert len(shown) == 1
    assert "greet" in shown[0]
    assert "refund" not in shown[0]


@pytest.mark.parametrize("scopes", ["refunds", ["two words"], [""], [5], ['"'], 5, ["x" * 256]])
def test_what_is_no_list_of_scopes_is_refused(make, scopes):
    """A text alone, for example, would be a list of its letters."""
    with pytest.raises(ConfigurationError, match="'pay'"):
        make().activity(name="pay", scopes=scopes)(lambda: None)


async def test_a_compensation_needs_the_scopes_of_its_activity(make, running, issuer):
    """Its context has those of the user."""
    app, undone = make(), []

    @app.activity(scopes=["seats"])
    def book() -> str:
        return "seat"

    @book.compensate
    def cancel(ctx: ActivityContext) -> None:
        undone.append(sorted(ctx.scopes))

    @app.activity
    def fail() -> None:
        raise ValueError("no")

    async with running(app):
        workflow = await app.dispatch("book", "fail", obo_token=issuer.token(scope="seats"))
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
    assert undone == [["seats"]]
