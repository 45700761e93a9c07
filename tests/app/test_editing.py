"""An agent that edits its itinerary: within its limits, once however often its step runs, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant import ActivityContext, ActivitySpec, PaigeantAgent, RetryPolicy, WorkflowDependencies, WorkflowDispatcher
from paigeant.errors import WorkflowFailed
from paigeant.testing import Fault, FaultPlan, simulate
from paigeant.testing.faults import Point
from paigeant.testing.history import Struck

pytestmark = pytest.mark.anyio

SOON = 30
TOOL = "_edit_itinerary"


class Deps(WorkflowDependencies):
    channel: str = "general"


class Editor:
    """A model that makes these edits, one with each answer, and then says that it is done."""

    def __init__(self, *edits: dict[str, Any], tool: str = TOOL) -> None:
        self.edits, self.tool = edits, tool
        self.told: list[str] = []
        self.saw: list[AgentInfo] = []

    async def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.saw.append(info)
        answers = [part for message in messages[1:] for part in message.parts if message.kind == "request"]
        self.told = [str(part.content) for part in answers]
        if len(answers) < len(self.edits):
            return ModelResponse(parts=[ToolCallPart(self.tool, self.edits[len(answers)], f"call-{len(answers)}")])
        return ModelResponse(parts=[TextPart("edited")])


@pytest.fixture
def dispatcher(make_app, tmp_path) -> WorkflowDispatcher:
    """With two agents that may be inserted, and one that may not."""
    dispatcher = WorkflowDispatcher(app=make_app(f"sqlite:///{tmp_path / 'paigeant.db'}"))
    for name in ("notify", "archive", "secret"):
        agent = PaigeantAgent(TestModel(custom_output_text=name), dispatcher=dispatcher, name=name, deps_type=Deps)
        if name != "secret":
            agent.register_activity(f"Do {name}.", Deps(channel=name))
    dispatcher.app.activity(name="after")(lambda: "after")
    return dispatcher


@pytest.fixture
def steps_of(dispatcher, running) -> Callable[..., Any]:
    """Runs a workflow of these steps; its steps as (activity, output)."""

    async def steps_of(*steps: Any) -> list[tuple[str, Any]]:
        workflow = dispatcher.app.workflow(await dispatcher.dispatch_workflow(list(steps)))
        async with running(dispatcher.app):
            await workflow.result(SOON)
            return [(step.activity, step.output) for step in (await workflow.record()).steps]

    return steps_of


def editor(dispatcher: WorkflowDispatcher, model: Any, **options: Any) -> ActivitySpec:
    """A step of an agent that may edit."""
    given = {"can_edit_itinerary": True, "name": "editor"} | options
    PaigeantAgent(FunctionModel(model), dispatcher=dispatcher, **given)
    return ActivitySpec(name="editor", prompt="Edit.")


async def test_steps_are_inserted_right_after_in_order(dispatcher, steps_of):
    """With the prompt of the edit, or without one that of the registration; with the deps of the registration."""
    model = Editor({"archive": "File it.", "notify": ""})
    ran = await steps_of(editor(dispatcher, model), "after")
    assert ran == [("editor", "edited"), ("archive", "archive"), ("notify", "notify"), ("after", "after")]
    assert model.told == ["Inserted after this step: archive, notify."]


async def test_prompts_and_deps_reach_the_inserted_agents(dispatcher, running):
    """As registered, where the edit does not say otherwise."""
    workflow = dispatcher.app.workflow(
        await dispatcher.dispatch_workflow([editor(dispatcher, Editor({"archive": "File it.", "notify": ""}))])
    )
    seen: dict[str, Any] = {}

    @dispatcher.app.before
    def look(ctx: ActivityContext) -> None:
        seen[ctx.step.name] = (ctx.step.prompt, ctx.step.deps)

    async with running(dispatcher.app):
        await workflow.result(SOON)
    assert seen["archive"] == ("File it.", {"channel": "archive"})
    assert seen["notify"] == ("Do notify.", {"channel": "notify"})


async def test_the_model_sees_what_it_may_insert(dispatcher, steps_of):
    """The names, what they are for and how many are left, anew with each request; nothing when none is left."""
    model = Editor({"notify": "a", "archive": "b"}, {"notify": "c"})
    await steps_of(editor(dispatcher, model))
    first, second, third = model.saw
    (tool,) = first.function_tools
    assert tool.name == TOOL
    assert list(tool.parameters_json_schema["properties"]) == ["notify", "archive"]
    assert tool.parameters_json_schema["additionalProperties"] is False
    assert "At most 3 more." in tool.description
    assert "notify: Do notify." in tool.description
    assert "At most 1 more." in second.function_tools[0].description
    assert third.function_tools == []


async def test_beyond_the_limit_nothing_is_inserted(dispatcher, steps_of):
    """The model hears how many are left, and can correct itself."""
    model = Editor({"notify": "a", "archive": "b"}, {"notify": "a"})
    ran = await steps_of(editor(dispatcher, model, max_added_steps=1), "after")
    assert [name for name, _ in ran] == ["editor", "notify", "after"]
    assert model.told[0] == "Nothing was inserted: you may insert 1 more steps, and these are 2."


async def test_edits_of_one_step_are_counted_together(dispatcher, steps_of):
    """Two and two are more than three."""
    model = Editor({"notify": "a", "archive": "b"}, {"notify": "c", "archive": "d"})
    ran = await steps_of(editor(dispatcher, model), "after")
    assert [name for name, _ in ran] == ["editor", "notify", "archive", "after"]
    assert "you may insert 1 more" in model.told[1]


@pytest.mark.parametrize("name", ["secret", "nobody"], ids=["not registered", "unknown"])
async def test_an_unknown_name_inserts_nothing(dispatcher, steps_of, name):
    """Nor what stands beside it; the model hears which names there are."""
    model = Editor({"notify": "a", name: "b"}, {"notify": "a"})
    ran = await steps_of(editor(dispatcher, model), "after")
    assert [name for name, _ in ran] == ["editor", "notify", "after"]
    assert model.told[0] == f"Nothing was inserted: there is no {name!r}. You may insert: notify, archive."


async def test_a_prompt_that_is_no_text_inserts_nothing(dispatcher, steps_of):
    """Models send all sorts of things."""
    model = Editor({"notify": {"prompt": "a"}}, {"notify": None})
    ran = await steps_of(editor(dispatcher, model))
    assert [name for name, _ in ran] == ["editor", "notify"]
    assert "the prompt for 'notify' is not a string" in model.told[0]


async def test_a_model_that_insists_fails_its_step(dispatcher, steps_of):
    """After three corrections; nothing was inserted."""
    with pytest.raises(WorkflowFailed, match="UnexpectedModelBehavior"):
        await steps_of(editor(dispatcher, Editor(*[{"nobody": "x"}] * 9)), "after")


async def test_disabled_there_is_no_tool_and_no_way(dispatcher, steps_of):
    """A model that calls it all the same hears that there is none."""
    model = Editor({"notify": "a"})
    ran = await steps_of(editor(dispatcher, model, can_edit_itinerary=False), "after")
    assert [name for name, _ in ran] == ["editor", "after"]
    assert model.saw[0].function_tools == []
    assert "Unknown tool name: '_edit_itinerary'" in model.told[0]


async def test_the_engine_holds_every_tool_to_the_limit(dispatcher, steps_of):
    """An agent's own tool that inserts without asking is refused as well, when the step completes."""
    model = Editor({}, tool="sneak")
    step = editor(dispatcher, model, can_edit_itinerary=False)
    agent = dispatcher.app.activities["editor"].agent

    @agent.tool_plain
    def sneak() -> str:
        ActivityContext.current().insert("notify")
        return "ok"

    with pytest.raises(WorkflowFailed, match="1 steps would be inserted by 'editor', and 0 may be"):
        await steps_of(step, "after")


async def test_an_agent_that_inserts_itself_comes_to_an_end(dispatcher, steps_of):
    """Its limit is for all of its runs in the workflow: three more, of which the last are shown no tool."""
    model = Editor({"editor": "Again."})
    step = editor(dispatcher, model)
    dispatcher.register_activity("editor", "Again.")
    ran = await steps_of(step, "after")
    assert [name for name, _ in ran] == ["editor"] * 4 + ["after"]
    assert model.saw[-1].function_tools == []


async def test_an_agent_in_a_tool_of_another_does_not_edit(dispatcher, steps_of):
    """The itinerary is that of the step, and the step is the other agent's."""
    inner = Editor({"notify": "a"})
    helper = PaigeantAgent(FunctionModel(inner), dispatcher=dispatcher, can_edit_itinerary=True)
    step = editor(dispatcher, Editor({}, tool="ask"))
    agent = dispatcher.app.activities["editor"].agent

    @agent.tool_plain
    async def ask() -> str:
        return (await helper.run("Help.")).output

    ran = await steps_of(step, "after")
    assert [name for name, _ in ran] == ["editor", "after"]
    assert inner.saw[0].function_tools == []


async def test_a_step_that_fails_after_its_edit_inserts_once(dispatcher, running):
    """The tool call is not made again: what it changed is in the journal."""
    model = Editor({"notify": "a"})
    failures = [ConnectionError("the model is away")]

    async def failing(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if isinstance(messages[-1].parts[-1], ToolReturnPart) and failures:
            raise failures.pop()
        return await model(messages, info)

    agent = PaigeantAgent(FunctionModel(failing), name="editor", dispatcher=None, can_edit_itinerary=True)
    agent.dispatcher = dispatcher
    dispatcher.app.activity(agent, retry=RetryPolicy(attempts=2, delay=0.01))
    workflow = dispatcher.app.workflow(
        await dispatcher.dispatch_workflow([ActivitySpec(name="editor", prompt="Edit."), "after"])
    )
    async with running(dispatcher.app):
        await workflow.result(SOON)
    steps = [(step.activity, step.attempt) for step in (await workflow.record()).steps]
    assert steps == [("editor", 1), ("editor", 2), ("notify", 1), ("after", 1)]
    assert len(model.saw) == 2


def test_a_crash_between_edit_and_settlement_inserts_once(dispatcher):
    """The editor's worker dies before and after each act from its start on: every run ends with the same steps."""
    step = editor(dispatcher, Editor({"notify": "a", "archive": "b"}))
    ends: list[tuple[str, ...]] = []

    def check(run: Any) -> None:
        ends.append(tuple(one.activity for one in run.record.steps if one.status == "completed"))

    points: list[Point] = ["invoke", "record", "publish", "ack"]
    crashes = [Fault("crash", point, after=after) for point in points for after in (False, True)]  # the editor is first
    plans = [FaultPlan(0, (crash,)) for crash in crashes]
    report = simulate(dispatcher.app, step, "after", plans=plans, tiers=["at_least_once"], check=check)
    assert [any(isinstance(fact, Struck) for fact in run.history) for run in report.runs] == [False] + [True] * 8
    assert ends == [("editor", "notify", "archive", "after")] * (1 + len(crashes))


async def test_what_was_registered_where_it_was_dispatched_reaches_every_worker(make_app, running, tmp_path):
    """The dispatching program registers an agent; the worker, another program, has never heard of that."""
    url, ran = f"sqlite:///{tmp_path / 'paigeant.db'}", []

    def program() -> tuple[WorkflowDispatcher, PaigeantAgent, PaigeantAgent]:
        dispatcher = WorkflowDispatcher(app=make_app(url))
        notes = Notes()
        writer = PaigeantAgent(
            FunctionModel(notes.edits), dispatcher=dispatcher, name="writer", can_edit_itinerary=True
        )
        notifier = PaigeantAgent(
            FunctionModel(lambda messages, _: ran.append(_prompt(messages)) or ModelResponse([TextPart("sent")])),
            dispatcher=dispatcher,
            name="notifier",
        )
        return dispatcher, writer, notifier

    sender, writer, notifier = program()
    writer.add_to_runway("Write.")
    notifier.register_activity("Tell them.")
    workflow = await sender.dispatch_workflow()
    worker, *_ = program()
    async with running(worker.app):
        assert await worker.app.workflow(workflow).result(30) == "sent"
    assert ran == ["Tell them all."]


class Notes:
    """A model that inserts the notifier once."""

    def edits(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse([TextPart("written")])
        assert [tool.name for tool in info.function_tools] == ["_edit_itinerary"]
        return ModelResponse([ToolCallPart("_edit_itinerary", {"notifier": "Tell them all."})])


def _prompt(messages: list[ModelMessage]) -> str:
    return next(part.content for part in messages[0].parts if part.part_kind == "user-prompt")
