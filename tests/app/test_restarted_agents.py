"""Agent steps that an operator retries or restarts: which finished units are reused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers import until_async
from planned_models import ANSWER, UNITS, Script
from pydantic_ai import Agent, Tool
from pydantic_ai.models.function import FunctionModel

from paigeant import RetryPolicy, scatter
from paigeant.errors import WorkflowFailed
from paigeant.wire.usage import total

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'here.db'}")


async def test_a_journal_of_other_code_stops_the_step(app, running):
    """The step waits for an operator and is not compensated: nobody knows what the run would have done."""
    script = Script("request 3")
    agent = script.agent()
    weather = app.activity(agent, retry=RetryPolicy(attempts=3, delay=0, jitter=False))
    other = Agent(FunctionModel(script.respond), tools=[Tool(lambda town: town, name="hail")], retries=9)
    do = script.do

    def deployed(what: str) -> None:
        weather.agent = other if what == "request 3" else weather.agent
        do(what)

    script.do = deployed
    complaint = "the journal of step '1' does not match: the tool call 'tool:1:a' of 'rain' is finished, and not made"
    workflow = await app.dispatch(weather.step(prompt="Weather?"))

    async def complaints() -> int:
        events = await app.store.events(str(workflow))
        parked = [event.data["error"] for event in events if event.type == "step_parked"]
        return sum(error["type"] == "JournalMismatch" and complaint in error["message"] for error in parked)

    async def waits(times: int) -> bool:
        return await complaints() == times and bool(await app.store.held(str(workflow), "operator:"))

    async with running(app):
        await until_async(lambda: waits(1))
        await workflow.retry()  # it waits again each time, until somebody has it started from scratch
        await until_async(lambda: waits(2))
        weather.agent, script.do = agent, do
        await workflow.retry(fresh=True)
        assert await workflow.result(SOON) == ANSWER


class Retried:
    """A workflow of the agent whose step fails once and is retried by an operator."""

    def __init__(self, app: Any, running: Any, script: Script, **options: Any) -> None:
        self.app, self.running, self.script = app, running, script
        self.activity = app.activity(script.agent(), **options)

    async def failed(self, **step: Any) -> Any:
        workflow = await self.app.dispatch(self.activity.step(**{"prompt": "Weather?"} | step))
        async with self.running(self.app):
            with pytest.raises(WorkflowFailed):
                await workflow.result(SOON)
        return workflow

    async def output(self, workflow: Any) -> str:
        async with self.running(self.app):
            return await workflow.result(SOON)


async def test_what_an_operator_retries_goes_on_where_it_was(app, running):
    """Finished requests and tool calls are paid for once, however often the operator retries; usage is exact."""
    retried = Retried(app, running, Script("request 3"))
    workflow = await retried.failed()
    await workflow.retry()
    assert await retried.output(workflow) == ANSWER
    assert retried.script.done == Counter({**dict.fromkeys(UNITS, 1), "request 3": 2})
    used = total(unit.usage for unit in await app.store.units(str(workflow)))
    assert (used.requests, used.tool_calls, used.input_tokens) == (3, 3, 600)


@pytest.mark.parametrize("how", ["retry", "redrive", "parked"])
async def test_what_an_operator_wants_fresh_begins_anew(app, running, how):
    """This holds for a failed step, its dead letter, and a step that waits for the operator."""
    parks = {"retry": RetryPolicy(attempts=1, exhausted="park")} if how == "parked" else {}
    retried = Retried(app, running, Script("request 3"), **parks)
    if how == "parked":
        workflow = await app.dispatch(retried.activity.step(prompt="Weather?"))
        async with running(app):
            await until_async(lambda: app.store.held(str(workflow)), SOON)
    else:
        workflow = await retried.failed()
    if how == "redrive":
        (letter,) = await app.dead_letters.list()
        await app.dead_letters.redrive(letter.id, fresh=True)
    else:
        await workflow.retry(fresh=True)
    assert await retried.output(workflow) == ANSWER
    assert set(retried.script.done.values()) == {2}


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_branch_that_is_begun_again_goes_on_where_its_agent_was(app, running, fresh):
    """This holds for every restart, unless the operator asks for a fresh one."""
    script = Script("request 3")
    weather = app.activity(script.agent())
    workflow = await app.dispatch(scatter(weather.step(prompt="Weather?")))
    async with running(app):
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        script.done["request 3"] = 0  # it fails once more
        await workflow.retry()
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        assert {script.done[unit] for unit in UNITS} == {1}
        await workflow.retry(fresh=fresh)
        (result,) = await workflow.result(SOON)
    assert result.output == ANSWER
    assert {script.done[unit] for unit in UNITS[:-1]} == ({2} if fresh else {1})
    assert (await workflow.record()).used.requests == (5 if fresh else 3)


@pytest.mark.parametrize("change", [{"prompt": "Climate?"}, {"variables": {"season": "spring"}}])
async def test_an_edited_letter_begins_anew(app, running, change):
    """The finished units belong to other arguments."""
    retried = Retried(app, running, Script("request 3"))
    workflow = await retried.failed()
    (letter,) = await app.dead_letters.list()
    await app.dead_letters.edit(letter.id, **change)
    await app.dead_letters.redrive(letter.id)
    assert await retried.output(workflow) == ANSWER
    assert set(retried.script.done.values()) == {2}


async def test_another_deadline_changes_nothing_of_what_the_agent_did(app, running):
    """The agent resumes, with more time for the rest."""
    retried = Retried(app, running, Script("request 3"))
    workflow = await retried.failed()
    (letter,) = await app.dead_letters.list()
    await app.dead_letters.edit(letter.id, deadline=3600)
    await app.dead_letters.redrive(letter.id)
    assert await retried.output(workflow) == ANSWER
    assert retried.script.done["request 1"] == 1
