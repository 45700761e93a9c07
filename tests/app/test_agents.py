"""pydantic-ai agents as steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, RunContext, TextOutput, ToolOutput, UsageLimits
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant import OPEN, ActivityContext
from paigeant.agents import Conversation
from paigeant.agents.outputs import output_type
from paigeant.errors import ConfigurationError, InvalidArguments, NotSerializable, WorkflowFailed
from paigeant.wire.slip import ActivitySpec

pytestmark = pytest.mark.anyio

SOON = 20


class Letter(BaseModel):
    subject: str
    lines: int


class Recorder:
    """A model that keeps what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []
        self.instructions: list[str | None] = []

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.prompts.append(messages[0].parts[-1].content)
        self.instructions.append(info.instructions)
        return ModelResponse(parts=[TextPart("written")])


@pytest.fixture
def app(make_app):
    """One kind of broker is enough."""
    return make_app("memory://")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def writer(app, recorder):
    """An agent activity that keeps what its model is asked."""
    return app.activity(Agent(FunctionModel(recorder), name="writer"))


async def test_an_agent_runs_as_a_step(app, writer, running):
    """Its text is the output."""
    async with running(app):
        workflow = await app.dispatch(writer.step(prompt="Hello."))
        assert await workflow.result(SOON) == "written"


async def test_an_agents_output_is_typed(app, running):
    """By its output_type, for the caller and for the step after it."""
    author = app.activity(Agent(TestModel(), name="author", output_type=Letter))

    @app.activity
    async def send(letter: Letter) -> str:
        return type(letter).__name__

    async with running(app):
        assert isinstance(await (await app.dispatch(author.step(prompt="x"))).result(SOON), Letter)
        assert await (await app.dispatch(author.step(prompt="x"), send)).result(SOON) == "Letter"


@pytest.mark.parametrize(
    ("options", "previous", "tone", "password"),
    [
        ({}, True, False, False),
        ({"tells": ()}, False, False, False),
        ({"tells": ("previous", "tone")}, True, True, False),
        ({"tells": ["variables"]}, False, True, True),
    ],
    ids=repr,
)
async def test_an_agent_is_told_what_its_activity_says(app, recorder, running, options, previous, tone, password):
    """By default the previous output and no variable: those go to a model provider only if they are named."""

    @app.activity
    async def load() -> Letter:
        return Letter(subject="hi", lines=2)

    teller = app.activity(Agent(FunctionModel(recorder)), name="teller", **options)
    async with running(app):
        variables = {"tone": "warm", "password": "hunter2"}
        workflow = await app.dispatch(load, teller.step(prompt="Write."), variables=variables)
        await workflow.result(SOON)
    assert recorder.prompts == ["Write."]
    instructions = recorder.instructions[0] or ""
    assert ('previous step (load), as JSON:\n{"subject":"hi","lines":2}' in instructions) is previous
    assert ('"tone":"warm"' in instructions) is tone
    assert ("hunter2" in instructions) is password


@pytest.mark.parametrize("tells", ["previous", 5, [5]], ids=repr)
def test_what_an_agent_is_told_is_a_collection_of_names(app, recorder, tells):
    """A single text would be taken for its letters."""
    with pytest.raises(ConfigurationError, match="tells"):
        app.activity(Agent(FunctionModel(recorder)), name="teller", tells=tells)


async def test_the_first_step_has_no_instructions(app, writer, recorder, running):
    """There is nothing to know."""
    async with running(app):
        await (await app.dispatch(writer.step(prompt="Write."))).result(SOON)
    assert recorder.instructions == [None]


@pytest.mark.parametrize("prompt", ["Dear {name}, {0} {{x}} %s $y {", "", "ü\n\x00\U0001f600"])
async def test_the_prompt_arrives_untouched(app, writer, recorder, running, prompt):
    """Braces are no template, whatever the variables are called."""
    async with running(app):
        await (await app.dispatch(writer.step(prompt=prompt), variables={"name": "Ann"})).result(SOON)
    assert recorder.prompts == [prompt]


async def test_an_agent_without_a_prompt_takes_the_text_before_it(app, writer, recorder, running):
    """Or a variable of that name; like any activity its parameter."""

    @app.activity
    async def ask() -> str:
        return "Write about rain."

    async with running(app):
        await (await app.dispatch(ask, writer)).result(SOON)
        await (await app.dispatch(writer, variables={"prompt": "Write about snow."})).result(SOON)
    assert recorder.prompts == ["Write about rain.", "Write about snow."]


async def test_an_agent_with_no_prompt_at_all_is_refused(app, writer):
    """At dispatch, where nothing can come before it."""
    with pytest.raises(InvalidArguments, match="activity 'writer' needs 'prompt'"):
        app.dispatch(writer)


async def test_what_comes_before_an_agent_must_be_text_to_be_its_prompt(app, writer, running):
    """An object is told to be passed beside a prompt instead."""

    @app.activity
    async def load() -> Letter:
        return Letter(subject="hi", lines=2)

    async with running(app):
        with pytest.raises(WorkflowFailed, match=r"parameter 'prompt' \(the output of 'load'\)"):
            await (await app.dispatch(load, writer)).result(SOON)


async def test_the_source_documents_way_to_plan_an_agent_step_works(app, writer, recorder, running):
    """An ActivitySpec by agent_name with a prompt."""
    async with running(app):
        await (await app.dispatch(ActivitySpec(agent_name="writer", prompt="Write."))).result(SOON)
    assert recorder.prompts == ["Write."]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": 5}, "agent 'writer': prompt: Input should be a valid string"),
        ({"prompt": "x", "tone": "warm"}, "takes no argument 'tone'"),
    ],
    ids=["number", "unknown"],
)
async def test_an_agent_takes_a_prompt_and_nothing_else(writer, arguments, words):
    """Checked at once."""
    with pytest.raises(InvalidArguments, match=words):
        writer.step(**arguments)


async def test_a_prompt_that_is_no_text_is_refused_at_dispatch(app, writer):
    """A lone surrogate cannot be written as JSON."""
    with pytest.raises(NotSerializable, match="the message cannot be written as JSON"):
        app.dispatch(writer.step(prompt="\ud800"))


async def test_an_agent_needs_a_name(app):
    """One that is given, its own, or that of the variable that holds it."""
    with pytest.raises(ConfigurationError, match="the agent has no name") as caught:
        [app.activity(Agent(TestModel()))]
    assert "name=" in caught.value.hint
    assert app.activity(Agent(TestModel()), name="given").name == "given"
    critic = Agent(TestModel())
    assert app.activity(critic).name == "critic"
    drafter = app.activity(Agent(TestModel()))
    assert drafter.name == "drafter"


async def test_a_prompt_of_the_activity_is_for_steps_that_have_none(app, recorder, running):
    """What came before stays an instruction."""
    poet = app.activity(Agent(FunctionModel(recorder)), prompt="Rhyme.")

    @app.activity
    async def ask() -> str:
        return "Write about rain."

    async with running(app):
        await (await app.dispatch(poet)).result(SOON)
        await (await app.dispatch(ask, poet)).result(SOON)
        await (await app.dispatch(poet.step(prompt="Not today."))).result(SOON)
    assert recorder.prompts == ["Rhyme.", "Rhyme.", "Not today."]
    assert "Write about rain." in recorder.instructions[1]


@dataclass
class House:
    street: str
    number: int = 1


def living_in(house: type) -> Agent:
    """An agent whose tool says what its dependencies are."""
    agent = Agent(TestModel(), deps_type=house, name="resident")

    @agent.tool
    def address(ctx: RunContext) -> str:
        return f"{ctx.deps!r}"

    return agent


async def test_deps_travel_by_value_as_the_agents_deps_type(app, running):
    """Read again on the worker; the agent's tools have them."""
    resident = app.activity(living_in(House))
    async with running(app):
        output = await (await app.dispatch(resident.step(prompt="Where?", deps=House("Elm", 5)))).result(SOON)
    assert "House(street='Elm', number=5)" in output


def test_what_a_step_of_an_agent_leaves_open_is_left_out(app):
    """As in a step of a function."""
    resident = app.activity(living_in(House))
    assert resident.step(prompt=OPEN, deps=OPEN, conversation=OPEN) == resident.step()


async def test_deps_of_the_wrong_shape_are_refused(app):
    """When the step is planned, and at dispatch if it was written by hand."""
    resident = app.activity(living_in(House))
    with pytest.raises(InvalidArguments, match="agent 'resident', deps: "):
        resident.step(prompt="Where?", deps="Elm Street")
    with pytest.raises(InvalidArguments, match="argument 'deps': street: Field required"):
        app.dispatch(ActivitySpec(name="resident", prompt="Where?", deps={"town": "x"}))


async def test_deps_of_the_wrong_shape_from_elsewhere_fail_the_step(make_app, running, tmp_path):
    """A sender that does not know the activity cannot check; the worker goes on."""
    app, elsewhere = (make_app(f"sqlite:///{tmp_path / 'here.db'}") for _ in range(2))
    resident = app.activity(living_in(House))
    async with running(app):
        with pytest.raises(WorkflowFailed, match=r"parameter 'deps' \(argument\): street: Field required"):
            await (await elsewhere.dispatch(ActivitySpec(name="resident", prompt="x", deps={}))).result(SOON)
        step = ActivitySpec(name="resident", prompt="x", deps={"__type__": "os.system", "street": []})
        with pytest.raises(WorkflowFailed, match="street: Input should be a valid string"):
            await (await elsewhere.dispatch(step)).result(SOON)
        assert await (await app.dispatch(resident.step(prompt="x", deps=House("Elm")))).result(SOON)


class Connection:
    """What no message can carry."""

    def __init__(self, to: str) -> None:
        self.to = to

    def __repr__(self) -> str:
        return f"to {self.to}"


async def test_deps_that_cannot_travel_are_made_on_the_worker(app, running):
    """By a provider, with its clean-up and with the context."""
    closed = []

    async def connect(ctx: ActivityContext):
        yield Connection(ctx.variables["town"])
        closed.append(ctx.step.id)

    resident = app.activity(living_in(Connection), deps=connect)
    async with running(app):
        output = await (await app.dispatch(resident.step(prompt="x"), variables={"town": "Rome"})).result(SOON)
    assert "to Rome" in output
    assert closed == ["1"]
    with pytest.raises(InvalidArguments, match="'resident' makes its deps on the worker"):
        resident.step(prompt="x", deps=Connection("Oslo"))


async def test_deps_that_nothing_makes_are_refused(app):
    """With what to do."""
    resident = app.activity(living_in(Connection))
    with pytest.raises(InvalidArguments, match="its deps_type Connection cannot be read from JSON") as caught:
        resident.step(prompt="x", deps=Connection("Oslo"))
    assert "deps=make" in caught.value.hint


async def test_variables_are_no_deps_and_no_conversation(app, writer, running):
    """Only a step says these."""
    async with running(app):
        workflow = await app.dispatch(writer.step(prompt="x"), variables={"deps": 1, "conversation": "y"})
        assert await workflow.result(SOON) == "written"


async def test_a_conversation_goes_on_in_a_later_step(app, running):
    """With the messages and the usage of the steps before, of other agents too."""
    heard = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        heard.append([part.content for message in messages for part in message.parts])
        return ModelResponse(parts=[TextPart(f"answer {len(heard)}")])

    @app.activity
    async def spent(ctx: ActivityContext) -> int:
        return ctx.variables[Conversation("talk").variable]["usage"]["requests"]

    first, second = (app.activity(Agent(FunctionModel(answer)), name=name) for name in ("first", "second"))
    talk = Conversation("talk")
    async with running(app):
        workflow = await app.dispatch(
            first.step(prompt="One?", conversation=talk),
            second.step(prompt="Apart?"),
            second.step(prompt="Two?", conversation="talk"),
            spent,
        )
        assert await workflow.result(SOON) == 2
    assert heard == [["One?"], ["Apart?"], ["One?", "answer 1", "Two?"]]


async def test_a_variable_that_is_no_conversation_fails_the_step(app, writer, running):
    """Named, and not retried."""
    async with running(app):
        for junk in ({"messages": [{"kind": "?"}]}, [1], {"usage": "much"}):
            step, variables = writer.step(prompt="x", conversation="talk"), {"conversation.talk": junk}
            with pytest.raises(WorkflowFailed, match=r"'conversation\.talk' holds no conversation"):
                await (await app.dispatch(step, variables=variables)).result(SOON)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (str, str),
        (Letter, Letter),
        (list[Letter], list[Letter]),
        (Letter | None, Letter | None),
        ([Letter, str], Letter | str),
        (ToolOutput(Letter, name="letter"), Letter),
        ([ToolOutput(Letter), ToolOutput(House)], Letter | House),
        (NativeOutput([Letter, House]), Letter | House),
        (PromptedOutput(Letter), Letter),
        (TextOutput(len), Any),
        (Connection, Any),
    ],
)
def test_the_type_of_an_output_is_read_from_the_agents(declared, expected):
    """In each of pydantic-ai's ways to say it."""
    assert output_type(declared) == expected


async def test_a_union_of_outputs_is_read_as_what_it_was(app, running):
    """The caller gets the type, not its JSON."""
    author = app.activity(
        Agent(TestModel(call_tools=[]), output_type=[ToolOutput(Letter), ToolOutput(House)]), name="author"
    )
    async with running(app):
        assert isinstance(await (await app.dispatch(author.step(prompt="x"))).result(SOON), Letter)


async def test_planning_and_dispatching_needs_no_key(app, monkeypatch):
    """The model is looked up when the agent runs, by the worker."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    far = app.activity(Agent("anthropic:claude-sonnet-4-5", name="far", defer_model_check=True))
    workflow = await app.dispatch(far.step(prompt="x"))
    assert (await workflow.status()).value == "running"


async def test_usage_limits_hold_for_a_run(app, running):
    """The agent's own, beside what the App may say."""
    strict = app.activity(living_in(House), name="strict", usage_limits=UsageLimits(request_limit=1))
    async with running(app):
        with pytest.raises(WorkflowFailed, match="UsageLimitExceeded"):
            await (await app.dispatch(strict.step(prompt="x", deps=House("Elm")))).result(SOON)


async def test_an_agent_that_fails_is_a_failed_step(app, running):
    """With its error."""

    def broken(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("no model today")

    app.activity(Agent(FunctionModel(broken), name="broken"))
    async with running(app):
        with pytest.raises(WorkflowFailed, match="RuntimeError: no model today"):
            await (await app.dispatch(ActivitySpec(name="broken", prompt="x"))).result(SOON)
