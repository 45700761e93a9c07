"""Steps that are run under a condition, and left out otherwise."""

from __future__ import annotations

import pytest

from paigeant import ActivityContext, Condition, scatter
from paigeant.errors import InvalidArguments, WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 60


@pytest.fixture
def app(make_app, broker, tmp_path):
    """With a store that others can open."""
    return make_app(broker, f"sqlite:///{tmp_path / 'paigeant.db'}")


def judging(app):
    """A step that gives a verdict, and others."""

    @app.activity
    def judge(risk: int, ctx: ActivityContext) -> dict[str, int]:
        ctx.variables["risky"] = risk > 5
        return {"risk": risk}

    @app.activity
    def note(word: str) -> str:
        return word

    return judge, note


async def test_steps_are_run_if_their_conditions_hold(elsewhere, running):
    """On outputs and variables that come while the workflow runs; no worker is asked to skip a step."""
    app = elsewhere
    judge, note = judging(app)
    calm = note.step(word="calm").options(when=Condition(variable="risky", negated=True))
    alarm = note.step(word="alarm").options(when=Condition(output="judge", field="risk", among=[9, 10]))
    async with running(app):
        for risk, said, steps in ((3, "calm", 2), (9, "alarm", 2)):
            workflow = await app.dispatch(judge.step(risk=risk), calm, alarm)
            assert await workflow.result(SOON) == said
            assert [one.status for one in (await workflow.record()).steps].count("completed") == steps
        neither = await app.dispatch(judge.step(risk=7), calm, alarm)
        assert await neither.result(SOON) == {"risk": 7}


async def test_inserted_steps_and_branches_have_conditions_too(app, running):
    """Those of inserted steps are decided by what came before, however long ago."""
    judge, note = judging(app)

    @app.activity
    def insert(ctx: ActivityContext) -> None:
        yes, no = (Condition(output="judge", field="risk", among=[risk]) for risk in (9, 3))
        ctx.insert(note.step(word="no").options(when=no), note.step(word="yes").options(when=yes))

    @app.activity
    def apart(ctx: ActivityContext) -> list[str]:
        branch = [note.step(word="left out").options(when="nothing"), note.step(word="run").options(when="risky")]
        return [one.output for one in ctx.scatter(branch, note.step(word="always"))]

    fillers = [note.step(word="x")] * 9
    async with running(app):
        assert await (await app.dispatch(judge.step(risk=9), *fillers, insert)).result(SOON) == "yes"
        assert await (await app.dispatch(judge.step(risk=9), apart)).result(SOON) == ["run", "always"]
        empty = await app.dispatch(scatter(note.step(word="no").options(when="nothing")))
        with pytest.raises(WorkflowFailed, match="no step whose condition holds"):
            await empty.result(SOON)


async def test_a_workflow_begins_with_a_step_that_is_run(app, running):
    """Or not at all."""
    _, note = judging(app)
    maybe, surely = note.step(word="maybe").options(when="wanted"), note.step(word="surely")
    async with running(app):
        assert await (await app.dispatch(maybe, surely)).result(SOON) == "surely"
        assert await (await app.dispatch(maybe, variables={"wanted": 1})).result(SOON) == "maybe"
    with pytest.raises(InvalidArguments, match="no step whose condition holds"):
        app.dispatch(maybe, variables={"wanted": 0})
    with pytest.raises(InvalidArguments, match="option when"):
        surely.options(when={"variable": "a", "output": "b"})
