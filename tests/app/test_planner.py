"""The planner: from a request to a workflow of what is known, here or by announcement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from helpers import until_async
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tokens import Issuer

from paigeant import ActivityContext, PlannerAgentDeps, RetryPolicy, WorkflowDispatcher, create_planner_agent

pytestmark = pytest.mark.anyio

SOON = 20


def is_refusal(part: Any) -> bool:
    """Whether the model is asked to correct a call: older releases of pydantic-ai have a part for that."""
    return isinstance(part, RetryPromptPart) or getattr(part, "outcome", None) == "retried"


class Plans:
    """A model that proposes these plans, one after the other, and then answers with the workflow's id."""

    def __init__(self, *plans: Sequence[str], variables: dict[str, Any] | None = None) -> None:
        self.plans, self.variables = [*plans], variables
        self.told: list[str] = []
        self.instructions = ""

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        self.instructions = info.instructions or ""
        if is_refusal(last):
            self.told.append(str(last.content))
        elif isinstance(last, ToolReturnPart):
            return ModelResponse(parts=[TextPart(str(last.content))])
        plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        given = {"activity_names": list(plan), "variables": self.variables}
        return ModelResponse(parts=[ToolCallPart("dispatch_workflow", given)])


@pytest.fixture
def dispatcher(make_app, tmp_path) -> WorkflowDispatcher:
    dispatcher = WorkflowDispatcher(app=make_app(f"sqlite:///{tmp_path / 'paigeant.db'}"))

    @dispatcher.app.activity
    def greet(name: str) -> str:
        """Greets somebody."""
        return f"Hello, {name}!"

    @dispatcher.app.activity
    def shout(text: str) -> str:
        return text.upper()

    return dispatcher


@pytest.fixture
def plan(dispatcher) -> Callable[..., Any]:
    """Has the planner work with this model; the id it answers with."""

    async def plan(model: Plans, **deps: Any) -> str:
        planner = create_planner_agent(FunctionModel(model))
        return (await planner.run("Welcome Ada.", deps=PlannerAgentDeps(dispatcher, **deps))).output

    return plan


async def test_a_plan_is_dispatched(dispatcher, plan, running):
    """The model sees what there is, with descriptions and arguments; the user's token travels with the workflow."""
    model = Plans(["greet", "shout"], variables={"name": "Ada"})
    issuer, seen = Issuer(), []
    dispatcher.app.settings = dispatcher.app.settings.model_copy(update=issuer.settings)
    dispatcher.app.before(lambda ctx: seen.append(ctx.principal))
    workflow = await plan(model, user_obo_token=issuer.token())
    async with running(dispatcher.app):
        assert await dispatcher.app.workflow(workflow).result(SOON) == "HELLO, ADA!"
    assert seen == ["ann", "ann"]
    assert '- greet: Greets somebody.\n  arguments: {"name": {"type": "string"}}' in model.instructions
    assert model.told == []


async def test_an_unknown_name_goes_back_to_the_model(dispatcher, plan, running):
    """With the names there are; nothing is dispatched until the plan is right."""
    model = Plans(["greet", "scream"], ["greet", "shout"], variables={"name": "Ada"})
    workflow = await plan(model)
    assert [one.correlation_id for one in await dispatcher.app.store.workflows()] == [workflow]
    assert model.told == ["There is no activity 'scream'. There are: greet, shout."]


@pytest.mark.parametrize(
    ("names", "variables", "told"),
    [
        (["greet"], {}, "needs 'name'"),
        (["greet"], {"name": 5}, "argument 'name'"),
        ([], {}, "nothing to dispatch"),
    ],
    ids=["an argument is missing", "an argument is wrong", "no step"],
)
async def test_a_plan_that_does_not_fit_goes_back_to_the_model(dispatcher, plan, names, variables, told):
    """As often as it may correct itself; then the run fails, and nothing was dispatched."""
    model = Plans(names, variables=variables)
    with pytest.raises(UnexpectedModelBehavior):
        await plan(model)
    assert len(model.told) == 3
    assert told in model.told[0]
    assert await dispatcher.app.store.workflows() == []


async def test_what_other_services_announce_can_be_planned(dispatcher, plan, make_app, prefix, running):
    """Without that anybody configured it here: by workers of another App, from queues of its own."""
    elsewhere = make_app(dispatcher.app.settings.broker_url, queue_prefix=f"{prefix}-elsewhere")

    @elsewhere.activity
    def whisper(text: str) -> str:
        """Says it quietly."""
        return text.lower()

    async def announced() -> bool:
        return "whisper" in await dispatcher.offers()

    assert not await announced()
    model = Plans(["greet", "whisper"], variables={"name": "Ada"})
    async with running(elsewhere), running(dispatcher.app):
        await until_async(announced)
        workflow = await plan(model)
        assert await dispatcher.app.workflow(workflow).result(SOON) == "hello, ada!"
    assert "- whisper: Says it quietly." in model.instructions
    assert not await announced()


async def test_a_planner_in_a_step_plans_once(dispatcher, running):
    """The workflow is the step's own: however often the step runs, it is one."""
    planner = create_planner_agent(FunctionModel(Plans(["greet"], variables={"name": "Ada"})))
    runs: list[int] = []

    @dispatcher.app.activity(retry=RetryPolicy(attempts=2, delay=0.01), name="organise")
    async def organised(ctx: ActivityContext) -> str:
        answer = (await planner.run("Welcome Ada.", deps=PlannerAgentDeps(dispatcher))).output
        runs.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("after the plan")
        return answer

    workflow = await dispatcher.dispatch_workflow(["organise"])
    async with running(dispatcher.app):
        child = await dispatcher.app.workflow(workflow).result(SOON)
        assert await dispatcher.app.workflow(child).result(SOON) == "Hello, Ada!"
        children = await dispatcher.app.store.workflows(parent=workflow)
    assert [one.correlation_id for one in children] == [child]
