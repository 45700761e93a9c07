"""What steps may change in the itinerary: within the workflow's grant, whatever the step thinks."""

from __future__ import annotations

import asyncio

import pytest

from paigeant import ActivityContext, Grant, Terminate
from paigeant.errors import WorkflowFailed
from paigeant.testing import simulate

pytestmark = pytest.mark.anyio

SOON = 60


@pytest.fixture
def app(make_app, broker, tmp_path):
    """With a store that others can open."""
    return make_app(broker, f"sqlite:///{tmp_path / 'paigeant.db'}")


def editing(app):
    """Activities that change the itinerary."""

    @app.activity
    def note(word: str) -> str:
        return word

    @app.activity
    def insert(ctx: ActivityContext, words: list[str]) -> None:
        ctx.insert(*[note.step(word=word) for word in words])

    @app.activity
    def repeat(ctx: ActivityContext) -> None:
        ctx.insert("repeat")

    @app.activity
    def skip(ctx: ActivityContext, what: str) -> None:
        ctx.skip(what)

    @app.activity
    def end() -> None:
        raise Terminate("early")

    return {one.name: one for one in (note, insert, repeat, skip, end)}


async def test_beyond_its_grant_a_step_changes_nothing(elsewhere, running):
    """Its message is set aside with the reason, its workflow fails, and the worker goes on."""
    app = elsewhere
    steps = editing(app)
    three, none = Grant(steps=3, activities=("note",)), Grant(editors=())
    beyond = [
        (steps["insert"].step(words=["a", "b", "c", "d"]), three, "4 steps would be inserted in all, and 3 may be"),
        (steps["repeat"], three, "'repeat' may not be inserted; 'note' may"),
        (steps["skip"].step(what="note"), none, "'skip' may not change the itinerary; none may"),
        (steps["end"], none, "'end' may not change the itinerary"),
    ]
    async with running(app):
        for step, grant, why in beyond:
            workflow = await app.dispatch(step, steps["note"], grant=grant)
            with pytest.raises(WorkflowFailed, match=f"GrantExceeded: outside the grant: {why}"):
                await workflow.result(SOON)
        assert len(await app.store.dead_letters()) == len(beyond)
        within = await app.dispatch(steps["insert"].step(words=["a", "b", "c"]), steps["note"], grant=three)
        assert await within.result(SOON) == "c"
        assert [step.activity for step in (await within.record()).steps] == ["insert", *["note"] * 4]


async def test_a_step_cannot_insert_itself_for_ever(app, running):
    """By default it may for ten generations, and a hundred steps are inserted in all."""
    steps = editing(app)
    async with running(app):
        endless = await app.dispatch(steps["repeat"])
        many = await app.dispatch(steps["insert"].step(words=["w"] * 101))
        with pytest.raises(WorkflowFailed, match="11 deep, inserted by inserted ones, and 10 is the limit"):
            await endless.result(SOON)
        with pytest.raises(WorkflowFailed, match="101 steps would be inserted in all, and 100 may be"):
            await many.result(SOON)
        assert len((await endless.record()).steps) == 11


async def test_a_workflow_that_a_step_dispatches_has_its_grant(app, running):
    """It is no way around it; nor is a branch."""
    steps = editing(app)

    @app.activity
    def around(ctx: ActivityContext) -> str:
        return ctx.dispatch(steps["end"])

    @app.activity
    def across(ctx: ActivityContext) -> None:
        ctx.scatter(steps["end"])

    async with running(app):
        child = await (await app.dispatch(around, grant=Grant(editors=()))).result(SOON)
        with pytest.raises(WorkflowFailed, match="'end' may not change the itinerary"):
            await app.workflow(child).result(SOON)
        with pytest.raises(WorkflowFailed, match="BranchesFailed"):
            await (await app.dispatch(across, grant=Grant(editors=()))).result(SOON)


def test_a_step_that_runs_twice_inserts_once(make_app):
    """Every message comes twice, and workers die at every point at which one can."""
    app = make_app("memory://")
    steps = editing(app)

    def check(ran):
        done = [step for step in ran.record.steps if step.status == "completed"]
        assert sorted(step.activity for step in done) == ["insert", "note", "note", "note"]
        assert {step.id for step in done} == {"1", "2", "3", "4"}
        assert len({step.id for step in done}) == len(done)

    options = {"crash_at": "every_point", "duplicate": "every_delivery", "check": check}
    simulate(app, steps["insert"].step(words=["a", "b"]), steps["note"], tiers=("atomic",), **options)


async def test_two_runs_at_the_same_time_insert_once(app, running):
    """One of them is refused, or finds that it was done before."""
    steps = editing(app)
    async with running(app), running(app):
        workflow = await app.dispatch(steps["insert"].step(words=["a", "b"]), steps["note"])
        await asyncio.gather(*[app.dispatcher.transport.send([await _again(app, workflow)]) for _ in range(3)])
        await workflow.result(SOON)
    ids = [step.id for step in (await workflow.record()).steps if step.status == "completed"]
    assert sorted(ids) == ["1", "2", "3", "4"]


async def _again(app, workflow):
    from paigeant.wire.message import PaigeantMessage

    slip = app.catalog.slip([app.activities["insert"].step(words=["a", "b"]), app.activities["note"]], {})
    return app.dispatcher.packing.encoded(PaigeantMessage(correlation_id=workflow.correlation_id, routing_slip=slip))
