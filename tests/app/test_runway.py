"""The names of the source documents, beyond what their own blocks show."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from paigeant import (
    ActivityExecutor,
    ActivitySpec,
    InMemoryTransport,
    PaigeantAgent,
    PreviousOutput,
    WorkflowDependencies,
    WorkflowDispatcher,
    get_transport,
)
from paigeant.errors import AppNotFound, ConfigurationError, DuplicateActivity, InvalidArguments, NotSerializable

pytestmark = pytest.mark.anyio

SOON = 20


class Deps(WorkflowDependencies):
    tone: str = "dry"


@pytest.fixture
def dispatcher(make_app):
    return WorkflowDispatcher(app=make_app("memory://"))


@pytest.fixture
def module(monkeypatch) -> ModuleType:
    """An empty module that can be imported as ``service``."""
    made = ModuleType("service")
    monkeypatch.setitem(sys.modules, "service", made)
    return made


def says(text: str) -> TestModel:
    return TestModel(custom_output_text=text)


# --- agents ----------------------------------------------------------------------------------------------------------


async def test_outside_of_a_workflow_it_is_an_agent(dispatcher):
    """Of pydantic-ai, with its options; the tool that edits is not there."""
    model = TestModel()
    writer = PaigeantAgent(model, dispatcher=dispatcher, can_edit_itinerary=True, output_type=int)
    writer.register_activity()
    assert isinstance(writer, Agent)
    assert isinstance((await writer.run("x")).output, int)
    assert model.last_model_request_parameters.function_tools == []


def test_an_agent_is_called_after_its_variable(dispatcher):
    """Wherever the variable is; a name that is given is stronger."""
    writer = PaigeantAgent(TestModel(), dispatcher=dispatcher)
    named = PaigeantAgent(TestModel(), dispatcher=dispatcher, name="critic")
    by_argument = PaigeantAgent("notifier-agent", dispatcher=dispatcher)
    agents = [PaigeantAgent(TestModel(), dispatcher=dispatcher)]
    assert (writer.name, named.name, by_argument.name, agents[0].name) == ("writer", "critic", "notifier-agent", None)
    assert by_argument.model is None
    assert list(dispatcher.app.activities) == ["writer", "critic", "notifier-agent"]


def test_a_late_variable_is_found_when_the_agent_is_lined_up(dispatcher):
    """The name then is that of the variable that holds it."""
    (late,) = [PaigeantAgent(TestModel(), dispatcher=dispatcher)]
    late.add_to_runway("Go.")
    assert (late.name, dispatcher.runway[0].name) == ("late", "late")


def test_an_agent_that_nothing_names_is_refused(dispatcher):
    """With what to do."""
    with pytest.raises(ConfigurationError, match="no name") as caught:
        [PaigeantAgent(TestModel(), dispatcher=dispatcher)][0].add_to_runway("Go.")
    assert "name=" in caught.value.hint


def test_two_agents_of_one_name_are_refused(dispatcher):
    """Their steps could not be told apart."""
    PaigeantAgent(TestModel(), dispatcher=dispatcher, name="writer")
    with pytest.raises(DuplicateActivity):
        PaigeantAgent(TestModel(), dispatcher=dispatcher, name="writer")


def test_an_agent_without_a_dispatcher_has_no_runway():
    """It says what it needs."""
    loner = PaigeantAgent(TestModel())
    with pytest.raises(ConfigurationError, match="'loner' has no dispatcher"):
        loner.add_to_runway("Go.")


@pytest.mark.parametrize(
    ("deps", "error"), [(Deps(tone="dry").model_dump() | {"tone": 1}, InvalidArguments), (object(), InvalidArguments)]
)
def test_wrong_deps_are_refused_when_the_agent_is_lined_up(dispatcher, deps, error):
    """Not on a worker, later."""
    writer = PaigeantAgent(TestModel(), dispatcher=dispatcher, deps_type=Deps)
    with pytest.raises(error):
        writer.add_to_runway("Go.", deps)


def test_deps_for_elsewhere_must_be_json(dispatcher):
    """Of an agent that lives elsewhere no type is known."""
    with pytest.raises(NotSerializable, match="the deps of 'elsewhere'"):
        dispatcher.add_to_runway("elsewhere", deps=object())


async def test_deps_know_what_came_before(dispatcher, running):
    """The first step finds nothing; the field is never carried, so it cannot be wrong."""
    seen: list[Any] = []
    first = PaigeantAgent(says("1"), dispatcher=dispatcher, deps_type=Deps)
    second = PaigeantAgent(says("2"), dispatcher=dispatcher, deps_type=Deps)
    for one in (first, second):
        one.instructions(lambda ctx: seen.append(ctx.deps))
        one.add_to_runway("Go.", Deps(tone="warm", previous_output=PreviousOutput(agent_name="nobody")))
    workflow = await dispatcher.dispatch_workflow()
    async with running(dispatcher.app):
        assert await dispatcher.app.workflow(workflow).result(SOON) == "2"
    assert [(deps.tone, deps.previous_output) for deps in seen] == [
        ("warm", None),
        ("warm", PreviousOutput(agent_name="first", output="1")),
    ]
    assert "previous_output" not in dispatcher.runway[0].deps


# --- dispatching -----------------------------------------------------------------------------------------------------


async def test_a_draft_ends_with_its_dispatch(dispatcher, running):
    """Dispatched again without a change it is the same; the first step that is added begins a new one."""
    ran: list[str] = []

    @dispatcher.app.activity
    def note(what: str) -> None:
        ran.append(what)

    dispatcher.add_to_runway(note.step(what="once"))
    workflows = [await dispatcher.dispatch_workflow() for _ in range(2)]
    dispatcher.add_to_runway(note.step(what="then"))
    dispatcher.add_to_runway(note.step(what="at last"))
    workflows.append(await asyncio.ensure_future(dispatcher.dispatch_workflow()))
    dispatcher.add_to_runway(note.step(what="alone"))
    workflows.append(await dispatcher.dispatch_workflow())
    assert len(set(workflows)) == 4
    async with running(dispatcher.app):
        for workflow in workflows:
            await dispatcher.app.workflow(workflow).result(SOON)
    assert sorted(ran) == ["alone", "at last", "once", "once", "then"]


async def test_requests_at_the_same_time_do_not_see_each_other(dispatcher):
    """Each task has a draft of its own, which begins with what was lined up before."""
    dispatcher.add_to_runway("common")

    async def request(name: str) -> list[str]:
        dispatcher.add_to_runway(name)
        await asyncio.sleep(0)
        dispatcher.add_to_runway("last")
        return [step.name for step in dispatcher.runway]

    seen = await asyncio.gather(request("a"), request("b"))
    assert seen == [["common", "a", "last"], ["common", "b", "last"]]
    assert [step.name for step in dispatcher.runway] == ["common"]


@pytest.mark.parametrize("given", [(), ([],), (5,)], ids=["an empty draft", "no activities", "a number"])
async def test_what_cannot_be_dispatched_is_refused(dispatcher, given):
    """Nothing is sent."""
    with pytest.raises(InvalidArguments):
        await dispatcher.dispatch_workflow(*given)


async def test_agents_activities_steps_and_names_are_dispatched(dispatcher, running):
    """Side by side; a plain agent becomes an activity by that."""
    writer = PaigeantAgent(says("a"))
    plain = Agent(says("b"), name="plain")

    @dispatcher.app.activity
    def shout(text: str) -> str:
        return text.upper()

    steps = [ActivitySpec(name="writer", prompt="x"), shout, "shout"]
    dispatcher.add(writer)
    workflow = await dispatcher.dispatch_workflow(steps, variables={"prompt": "x"})
    another = await dispatcher.dispatch_workflow([plain, shout], variables={"prompt": "x"})
    async with running(dispatcher.app):
        assert await dispatcher.app.workflow(workflow).result(SOON) == "A"
        assert await dispatcher.app.workflow(another).result(SOON) == "B"


async def test_a_transport_is_taken_from_wherever_it_is_given(dispatcher, tmp_path, prefix):
    """By the dispatcher, by dispatching, by name; the App of each has the same activities."""
    here, there = get_transport("inmemory"), get_transport(f"sqlite:///{tmp_path / 'there.db'}")
    assert dispatcher.app.on(here) is dispatcher.app
    assert isinstance(here, InMemoryTransport)
    await dispatcher.dispatch_workflow(["note"])
    await dispatcher.dispatch_workflow(here, activities=["note"])
    await dispatcher.dispatch_workflow("inmemory", activities=["note"])
    await dispatcher.dispatch_workflow(["note"], transport=there)
    depths = [await one.depth(f"{prefix}.note") for one in (here, there)]
    elsewhere = dispatcher.app.on(there)
    assert elsewhere.activities is dispatcher.app.activities
    assert elsewhere is dispatcher.app.on(there)
    await dispatcher.close()
    assert depths == [3, 1]


# --- executors -------------------------------------------------------------------------------------------------------


def test_an_executor_says_what_it_does_not_find(module):
    """The module, or the activity in it."""
    module.writer = PaigeantAgent(TestModel())
    with pytest.raises(AppNotFound, match="no module 'nowhere'"):
        ActivityExecutor("memory://", "writer", "nowhere")
    with pytest.raises(AppNotFound, match="no activity 'critic' in service") as caught:
        ActivityExecutor("memory://", "critic", "service")
    assert caught.value.hint == "it has: writer"


async def test_an_executor_serves_its_activity_alone(dispatcher, prefix):
    """What is another's stays in its queue."""
    ran: list[str] = []
    dispatcher.app.activity(name="mine")(lambda: ran.append("mine"))
    dispatcher.app.activity(name="yours")(lambda: ran.append("yours"))
    for name in ("mine", "yours"):
        await dispatcher.dispatch_workflow([name])
    executor = ActivityExecutor("inmemory", "mine", dispatcher, burst=True)
    await executor.start()
    assert ran == ["mine"]
    assert await get_transport("inmemory").depth(f"{prefix}.yours") == 1


async def test_a_handler_may_not_complete_two_steps(dispatcher, running):
    """Nor another's."""

    async def handler(message: Any) -> None:
        message.routing_slip.mark_complete("first", {"n": 1})
        assert message.routing_slip.next_step().name == "second"
        assert not message.routing_slip.is_finished()
        with pytest.raises(ValueError, match="the one step it was given"):
            message.routing_slip.mark_complete("second")
        await dispatcher.app.transport.publish("workflows", message)

    dispatcher.app.activity(name="second")(lambda n: n)
    workflow = await dispatcher.dispatch_workflow(["first", "second"])
    executor = ActivityExecutor(dispatcher.app.transport, "first", handler)
    executor.app.prefix = dispatcher.app.prefix
    async with running(dispatcher.app), running(executor.app):
        assert await dispatcher.app.workflow(workflow).result(SOON) == {"n": 1}
        assert await get_transport("inmemory").depth("workflows") == 0
