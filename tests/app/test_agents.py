"""pydantic-ai agents as steps."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant.errors import ConfigurationError, InvalidArguments, NotSerializable, WorkflowFailed
from paigeant.slip import ActivitySpec

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


async def test_the_previous_output_and_the_variables_are_instructions(app, writer, recorder, running):
    """The prompt is the user's own; what the workflow knows stands beside it."""

    @app.activity
    async def load() -> Letter:
        return Letter(subject="hi", lines=2)

    async with running(app):
        workflow = await app.dispatch(load, writer.step(prompt="Write."), variables={"tone": "warm"})
        await workflow.result(SOON)
    assert recorder.prompts == ["Write."]
    (instructions,) = recorder.instructions
    assert 'previous step (load), as JSON:\n{"subject":"hi","lines":2}' in instructions
    assert '{"tone":"warm"}' in instructions


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
    """Its own, or one that is given."""
    with pytest.raises(ConfigurationError, match="the agent has no name") as caught:
        app.activity(Agent(TestModel()))
    assert "name=" in caught.value.hint
    assert app.activity(Agent(TestModel()), name="given").name == "given"


async def test_an_agent_that_fails_is_a_failed_step(app, running):
    """With its error."""

    def broken(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("no model today")

    app.activity(Agent(FunctionModel(broken), name="broken"))
    async with running(app):
        with pytest.raises(WorkflowFailed, match="RuntimeError: no model today"):
            await (await app.dispatch(ActivitySpec(name="broken", prompt="x"))).result(SOON)
