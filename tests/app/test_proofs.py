"""What a step has received is believed for its proof: a stranger who writes to the database changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from helpers import until_async
from signing import EVERYTHING, Deployment, sql

from paigeant import ActivityContext, App, RetryPolicy, Workflow, await_approval, await_signal
from paigeant.errors import WorkflowError

pytestmark = pytest.mark.anyio

SOON = 20
FOUR_EYES = '[activity."paigeant.await_approval"]\napproval = "four-eyes"\n'


@pytest.fixture(params=["joined", "rabbitmq and postgres"])
def make(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Any, monkeypatch: Any) -> Any:
    """Makes Apps of one deployment: ``shop`` runs and dispatches, ``ops`` answers, ``all`` does everything."""
    deployment = Deployment(tmp_path)
    deployment.add("shop", EVERYTHING | {"answer": [], "order": []})
    deployment.add("ops", {right: [] for right in EVERYTHING} | {"answer": ["*"], "order": ["*"]})
    deployment.add("all")
    urls = [f"sqlite:///{tmp_path / 'paigeant.db'}", None]
    if request.param != "joined":
        urls = [request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url")]

    def made(name: str, extra: str = "") -> App:
        if extra:
            deployment.extra = extra
            deployment.write()
        for setting, value in deployment.settings(name).items():
            monkeypatch.setenv(setting, value)
        app = make_app(*urls)
        app.activity(name="served")(lambda: None)
        assert app.notary is not None
        return app

    return made


def insert(app: App, workflow: Workflow, key: str, value: Any, proof: str | None = None) -> None:
    row = (workflow.correlation_id, key, json.dumps(value), "stranger", 1.0, proof)
    sql(
        app, 'INSERT INTO paigeant_signal (correlation_id, key, value, "by", at, proof) VALUES (?, ?, ?, ?, ?, ?)', *row
    )


async def held(app: App, workflow: Workflow) -> Any:
    """The row of the step that waits."""
    (row,) = await until_async(lambda: app.store.held(workflow.correlation_id))
    return row


async def doubted(workflow: Workflow, count: int = 1) -> list[str]:
    """The codes of what was not believed."""

    async def found() -> Any:
        store = workflow._required_store()
        codes = [one.data["code"] for one in await store.events(workflow.correlation_id) if one.type == "proof_failed"]
        return codes if len(codes) >= count else None

    return await until_async(found, SOON)


async def test_a_signal_that_a_stranger_inserts_is_not_received(make, running):
    """The step waits for the true one."""
    app, ops = make("shop"), make("ops")
    async with running(app):
        workflow = await app.dispatch(await_signal("word"))
        await held(app, workflow)
        insert(app, workflow, "signal:word", "forged")
        assert await doubted(workflow) == ["no-proof"]
        await held(app, workflow)
        await ops.workflow(workflow.correlation_id).signal("word", "true", by="ann")
        assert await workflow.result(SOON) == "true"
        (given,) = [one.data async for one in workflow.events() if one.type == "signal_received"]
    assert given["by"] == "ops"


async def test_a_signal_that_a_stranger_alters_is_not_received(make, running):
    """Nor one that was signed for another workflow, or by a key that may not answer."""
    app, ops = make("shop"), make("ops")
    workflow, other = await app.dispatch(await_signal("word")), await app.dispatch(await_signal("word"))
    await ops.workflow(workflow.correlation_id).signal("word", 5)
    sql(app, "UPDATE paigeant_signal SET value = '6'")
    async with running(app):
        assert await doubted(workflow) == ["other-value"]
        row = await held(app, workflow)
        insert(app, workflow, "signal:word", 5, ops.notary.answer(other.correlation_id, row.key, 5, 1.0))
        assert (await doubted(workflow, 2))[1:] == ["other-answer"]
        await held(app, workflow)
        insert(app, workflow, "signal:word", 5, app.notary.answer(workflow.correlation_id, row.key, 5, 1.0))
        assert (await doubted(workflow, 3))[2:] == ["answer"]
        await held(app, workflow)
        await ops.workflow(workflow.correlation_id).signal("word", 5)
        assert await workflow.result(SOON) == 5


async def test_a_timeout_counts_once_it_is_due(make, running):
    """Whatever the row says; a step that waits for an operator does not run for it."""
    app, ops, runs = make("shop"), make("ops"), []

    @app.activity(retry=RetryPolicy(attempts=1, exhausted="park"))
    def fails_once() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError("away")
        return "done"

    @app.activity
    def impatient(ctx: ActivityContext) -> str:
        return ctx.await_signal("word", timeout=3600.0)

    async with running(app):
        workflow, broken = await app.dispatch(impatient), await app.dispatch(fails_once)
        await held(app, workflow), await held(app, broken)
        sql(app, "UPDATE paigeant_wait SET due_at = 1.0")
        assert (await doubted(workflow), await doubted(broken)) == (["not-due"], ["not-due"])
        row = await held(app, broken)
        assert (row.key, len(runs)) == ("operator:1", 1)
        await held(app, workflow)
        await ops.workflow(workflow.correlation_id).signal("word", "true")
        assert await ops.workflow(broken.correlation_id).retry() == ["1"]
        assert (await workflow.result(SOON), await broken.result(SOON)) == ("true", "done")


async def test_an_approval_counts_for_what_was_signed(make, running):
    """Not for other arguments, and not without a right or a signature."""
    app, ops = make("shop"), make("ops")

    @app.activity
    def pay(ctx: ActivityContext) -> Any:
        return [(answer := ctx.await_approval("Pay?", details={"cents": 5})).arguments, answer.by]

    async with running(app):
        workflow = await app.dispatch(pay)
        row = await held(app, workflow)
        said = {"approved": True, "by": "ops", "reason": "", "arguments": {"cents": 5}}
        more = said | {"arguments": {"cents": 500}}
        proofs = [
            ops.notary.answer(workflow.correlation_id, row.key, said, 1.0, "", row.question),
            ops.notary.answer(workflow.correlation_id, row.key, more, 1.0, "", "another question"),
            app.notary.answer(workflow.correlation_id, row.key, more, 1.0, "", row.question),
        ]
        for count, proof in enumerate(proofs, start=1):
            insert(app, workflow, row.key, more, proof)
            await doubted(workflow, count)
            await held(app, workflow)
        assert await doubted(workflow, 3) == ["other-value", "other-question", "answer"]
        with pytest.raises(WorkflowError, match="'shop' may not answer"):
            await workflow.decide(True)
        await ops.workflow(workflow.correlation_id).decide(True, by="ann", arguments={"cents": 4})
        assert await workflow.result(SOON) == [{"cents": 4}, "ops"]


async def test_a_question_is_answered_as_it_was_asked(make, running):
    """Not as somebody has rewritten it in the store."""
    app, ops = make("shop"), make("ops")
    async with running(app):
        workflow = await app.dispatch(await_approval("Pay a million?"))
        row = await held(app, workflow)
        sql(app, "UPDATE paigeant_wait SET detail = ?", json.dumps(row.detail | {"asks": "Pay a cent?"}))
        with pytest.raises(WorkflowError, match="shows another question"):
            await ops.workflow(workflow.correlation_id).decide(True)
        sql(app, "UPDATE paigeant_wait SET detail = ?", json.dumps(row.detail))
        await ops.workflow(workflow.correlation_id).decide(True)
        await workflow.result(SOON)


async def test_who_dispatched_does_not_approve(make, running):
    """If the activity needs four eyes."""
    app = make("all", FOUR_EYES)
    ops = make("ops")
    async with running(app):
        workflow = await app.dispatch(await_approval("Pay?"))
        row = await held(app, workflow)
        with pytest.raises(WorkflowError, match="another one must approve"):
            await workflow.decide(True)
        said = {"approved": True, "by": "all", "reason": "", "arguments": None}
        proof = app.notary.answer(workflow.correlation_id, row.key, said, 1.0, "", row.question)
        insert(app, workflow, row.key, said, proof)
        assert await doubted(workflow) == ["four-eyes"]
        await held(app, workflow)
        await ops.workflow(workflow.correlation_id).decide(True)
        await workflow.result(SOON)
