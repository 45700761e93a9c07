"""Rows of the store are believed for their proof: a stranger who edits them changes nothing, and it is recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from helpers import until_async
from planned_models import Model
from pydantic_ai import Agent
from signing import EVERYTHING, Deployment, sql

from paigeant import ActivityContext, App, Workflow, WorkflowDispatcher, await_signal, scatter, scatter_map
from paigeant.errors import DeadLetterError, WorkflowError, WorkflowFailed
from paigeant.worker.recovery import is_needed, refill

pytestmark = pytest.mark.anyio

SOON = 20
LARGE = "x" * 60


@pytest.fixture(params=["joined", "rabbitmq and postgres"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Any, monkeypatch: Any) -> App:
    deployment = Deployment(tmp_path)
    deployment.add("shop", EVERYTHING)
    for setting, value in deployment.settings("shop").items():
        monkeypatch.setenv(setting, value)
    urls = [f"sqlite:///{tmp_path / 'paigeant.db'}", None]
    if request.param != "joined":
        urls = [request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url")]
    return make_app(*urls)


async def doubted(app: App, workflow: Workflow[Any], count: int = 1) -> list[tuple[str, str]]:
    """The keys and codes of all that was not believed."""

    async def found() -> Any:
        events = await app.store.events(workflow.correlation_id)
        doubts = [(one.data["key"], one.data["code"]) for one in events if one.type == "proof_failed"]
        return doubts if len(doubts) >= count else None

    return await until_async(found, SOON)


async def test_an_output_that_a_stranger_changes_is_not_read(app: App, running: Any) -> None:
    @app.activity
    def first() -> str:
        return LARGE

    @app.activity
    def reads(ctx: ActivityContext) -> Any:
        return ctx.output("first")

    many = [app.activity(name=f"step{at}")(lambda: LARGE) for at in range(9)]
    async with running(app):
        honest = await app.dispatch(first.step(), *[one.step() for one in many], await_signal("go"), reads.step())
        await until_async(lambda: app.store.held(honest.correlation_id))
        forged = await app.dispatch(first.step(), *[one.step() for one in many], await_signal("go"), reads.step())
        await until_async(lambda: app.store.held(forged.correlation_id))
        changed = "UPDATE paigeant_step SET output = ? WHERE correlation_id = ? AND activity = 'first'"
        assert sql(app, changed, json.dumps("forged"), forged.correlation_id) == 1
        await honest.signal("go"), await forged.signal("go")
        assert await honest.result(SOON) == LARGE
        with pytest.raises(WorkflowFailed, match="UnprovedOutput: the output of 'first' in the store is not trusted"):
            await forged.result(SOON)
    assert await doubted(app, forged) == [("output:1", "other-output")]


async def test_a_result_that_a_stranger_changes_is_not_handed_out(app: App, running: Any) -> None:
    @app.activity
    def last() -> int:
        return 1

    async with running(app):
        workflow = await app.dispatch(last)
        assert await workflow.result(SOON) == 1
    sql(app, "UPDATE paigeant_workflow SET output = '2'")
    with pytest.raises(WorkflowError, match="signature belongs to another output"):
        await workflow.result(SOON)
    assert await doubted(app, workflow) == [("result", "other-output")]


async def test_an_end_that_a_stranger_writes_ends_nothing(app: App, running: Any) -> None:
    """Neither of a step that has not run, nor of its workflow; the caller gets no output of the stranger."""
    ran = []

    @app.activity
    def first() -> str:
        ran.append("first")
        return "true"

    workflow = await app.dispatch(first)
    sql(app, "UPDATE paigeant_workflow SET status = 'completed', finished_at = 1.0, output = '\"forged\"'")
    with pytest.raises(WorkflowError, match="is not trusted"):
        await workflow.result(SOON)
    async with running(app):
        await doubted(app, workflow, 2)
        await until_async(lambda: asyncio.sleep(0, ran))
        assert await workflow.result(SOON) == "true"
    assert await doubted(app, workflow) == [("result", "no-proof"), ("end", "no-proof")]


async def test_a_step_that_a_stranger_says_is_done_runs(app: App, running: Any) -> None:
    ran = []

    @app.activity
    def first() -> str:
        ran.append("first")
        return "true"

    workflow = await app.dispatch(first)
    [dispatched] = [one for one in await app.store.events(workflow.correlation_id) if one.type == "workflow_dispatched"]
    columns = "message_id, correlation_id, step_id, activity, attempt, deliveries, status, worker, started_at, heading"
    row = (
        dispatched.data["message_id"],
        workflow.correlation_id,
        "1",
        "first",
        1,
        1,
        "completed",
        "me",
        1.0,
        "forward",
    )
    marks = ", ".join("?" * len(row))
    sql(app, f"INSERT INTO paigeant_step ({columns}) VALUES ({marks})", *row)
    async with running(app):
        assert await workflow.result(SOON) == "true"
    assert ran == ["first"]
    assert await doubted(app, workflow) == [("done", "no-proof")]


async def test_the_end_of_a_child_is_what_the_child_signed(app: App, running: Any) -> None:
    """A forged end does not wake the parent, and a changed output does not either."""

    @app.activity
    def parent(ctx: ActivityContext) -> Any:
        return ctx.wait_for(ctx.dispatch(await_signal("go")))

    async with running(app):
        workflow = await app.dispatch(parent)
        await until_async(lambda: app.store.held(key="child:"))
        [waiting] = await app.store.held(workflow.correlation_id)
        end = {"status": "completed", "output": "forged", "error": None, "used": {}}
        insert = "INSERT INTO paigeant_signal (correlation_id, key, value, at) VALUES (?, ?, ?, 1.0)"
        sql(app, insert, workflow.correlation_id, waiting.key, json.dumps(end))
        assert await doubted(app, workflow) == [(waiting.key, "no-proof")]
        await until_async(lambda: app.store.held(workflow.correlation_id))
        child = app.workflow(waiting.key.removeprefix("child:"))
        await child.signal("go", "true")
        assert await workflow.result(SOON) == "true"
    assert len(await doubted(app, workflow)) == 1


async def test_the_ends_of_branches_are_what_they_signed(app: App, running: Any) -> None:
    @app.activity
    def part(what: str) -> str:
        return what

    async with running(app):
        workflow = await app.dispatch(scatter(part.step(what="a"), await_signal("go")))

        async def a_is_done() -> bool:
            return bool(sql(app, "UPDATE paigeant_branch SET status = status WHERE status = 'completed'"))

        await until_async(a_is_done)
        [waiting] = await app.store.held(workflow.correlation_id)
        insert = "INSERT INTO paigeant_signal (correlation_id, key, value, at) VALUES (?, ?, ?, 1.0)"
        for count, forged in enumerate(
            (
                [{"output": "a"}, {"output": "forged"}],
                [{"output": "forged"}, {"status": "cancelled"}],
                [{"output": "a"}, {"status": "cancelled"}],
                [{"output": "a"}],
            ),
            start=1,
        ):
            sql(app, insert, workflow.correlation_id, waiting.key, json.dumps(forged))
            await doubted(app, workflow, count)
            await until_async(lambda: app.store.held(workflow.correlation_id))
        codes = [code for _, code in await doubted(app, workflow, 4)]
        assert codes == ["no-proof", "other-output", "undecided", "branches"]
        [child] = await until_async(lambda: app.store.held(key="signal:go"), SOON)
        await app.workflow(child.correlation_id).signal("go", "b")
        assert [one.output for one in await workflow.result(SOON)] == ["a", "b"]


async def test_a_changed_branch_row_does_not_count(app: App, running: Any) -> None:
    """The join is decided by the store, which cannot verify; the step then waits, and does not believe it."""

    @app.activity
    def part(what: str) -> str:
        return what

    async with running(app):
        workflow = await app.dispatch(scatter(part.step(what="a"), await_signal("go")))

        async def forged() -> bool:
            change = "UPDATE paigeant_branch SET output = '\"forged\"' WHERE status = 'completed'"
            return bool(sql(app, change))

        await until_async(forged)
        [child] = await until_async(lambda: app.store.held(key="signal:go"), SOON)
        await app.workflow(child.correlation_id).signal("go", "b")
        assert [code for _, code in await doubted(app, workflow)] == ["other-output"]


async def test_any_plan_of_a_child_counts_that_its_parent_signed(app: App, running: Any) -> None:
    """A step that resumes signs the plans of its children again, and the second message may be the one that runs."""

    @app.activity
    def child() -> str:
        return "true"

    @app.activity
    def parent(ctx: ActivityContext) -> Any:
        begun = ctx.dispatch(child.step())
        ctx.await_signal("go")
        return ctx.wait_for(begun)

    async with running(app):
        workflow = await app.dispatch(parent)
        await until_async(lambda: app.store.held(workflow.correlation_id))
        await workflow.signal("go")
        assert await workflow.result(SOON) == "true"
        [begun] = await app.store.workflows(parent=workflow.correlation_id)
        found = (await app.store.statements([begun.correlation_id]))[begun.correlation_id]
    assert len(found) > 2  # several plans and a link
    assert [one for one in await app.store.events(workflow.correlation_id) if one.type == "proof_failed"] == []


async def test_a_unit_that_a_stranger_changes_is_asked_again(app: App, running: Any) -> None:
    model = Model(("nap", {}))
    agent: Agent[None, str] = Agent(model.model, name="boss")

    @agent.tool_plain
    def nap() -> str:
        ActivityContext.current().await_signal("go")
        return "slept"

    boss = app.activity(agent)
    async with running(app):
        honest, forged = await app.dispatch(boss.step(prompt="?")), await app.dispatch(boss.step(prompt="?"))
        for one in (honest, forged):
            await until_async(partial(app.store.held, one.correlation_id))
        assert model.asked == [0, 0]
        change = "UPDATE paigeant_unit SET value = 'null', usage = NULL WHERE correlation_id = ? AND key = 'model:1'"
        assert sql(app, change, forged.correlation_id) == 1
        await honest.signal("go")
        assert await honest.result(SOON) == "done"
        assert model.asked == [0, 0, 1]
        await forged.signal("go")
        assert await forged.result(SOON) == "done"
    assert model.asked == [0, 0, 1, 0, 1]
    assert await doubted(app, forged) == [("unit:model:1", "other-unit")]


async def test_recovery_and_redrive_do_not_send_what_a_stranger_changed(app: App, running: Any) -> None:
    @app.activity
    def fails() -> None:
        raise ValueError("no")

    @app.activity
    def reads(what: str) -> str:
        return what

    async with running(app):
        failed = await app.dispatch(fails)
        with pytest.raises(WorkflowFailed):
            await failed.result(SOON)
    [letter] = await app.dead_letters.list()
    forged = bytes(letter.body).replace(b'"fails"', b'"reads"')
    assert sql(app, "UPDATE paigeant_dead_letter SET body = ? WHERE id = ?", forged, letter.id) == 1
    with pytest.raises(DeadLetterError, match="cannot be read"):
        await app.dead_letters.redrive(letter.id)
    assert [one.id for one in await app.dead_letters.list()] == [letter.id]
    if is_needed(app.dispatcher):
        lost = await app.dispatch(reads.step(what="true"))
        changed = "convert_to(replace(convert_from(body, 'UTF8'), 'true', 'lies'), 'UTF8')"
        assert sql(app, f"UPDATE paigeant_outbox SET body = {changed}") == 1
        assert await refill(app.transport, app.store, 0.0, None, app.dispatcher) == []
        assert await doubted(app, lost) == [("outbox", "other-message")]


async def test_an_offer_that_nobody_signed_is_not_planned(app: App, running: Any) -> None:
    dispatcher = WorkflowDispatcher(app=app)

    @app.activity
    def serve() -> None: ...

    async with running(app):
        await until_async(lambda: app.store.workers())
        [worker] = await app.store.workers()
        [offer] = worker.offers
        assert app.notary is not None
        assert app.notary.trusts(offer)
        forged = [{**offer.said(), "name": "steal", "proof": offer.proof}, {**offer.said(), "name": "unsigned"}]
        sql(app, "UPDATE paigeant_worker SET offers = ?", json.dumps(forged))
        assert list(await dispatcher.offers()) == ["serve"]


async def test_a_thousand_branches_are_proved_in_seconds(app: App, running: Any) -> None:
    @app.activity
    def items() -> list[int]:
        return list(range(1000))

    @app.activity
    def double(value: int) -> int:
        return 2 * value

    @app.activity
    def add(value: list[Any]) -> int:
        return sum(one["output"] for one in value)

    spent = [0.0]
    real = app.dispatcher.proving.__class__._join

    async def timed(*given: Any) -> None:
        began = time.process_time()
        await real(*given)
        spent[0] = time.process_time() - began

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.dispatcher.proving.__class__, "_join", timed)
        async with running(app):
            workflow = await app.dispatch(items.step(), scatter_map(double.step()), add.step())
            assert await workflow.result(120) == 999_000
    assert 0 < spent[0] < 5
