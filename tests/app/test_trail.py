"""The audit trail of a workflow proves what happened, or says what is wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async
from signing import EVERYTHING, Deployment, sql

from paigeant import ActivityContext, App, RetryPolicy, Workflow, await_signal
from paigeant.decisions.audit import Audited
from paigeant.errors import WorkflowError
from paigeant.runner.ordered import Orders
from paigeant.security.trail import gathered, read, verified
from paigeant.security.verifying import verifier_of

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.add("shop", EVERYTHING | {"answer": [], "order": []})
    made.add("ops", {right: [] for right in EVERYTHING} | {"answer": ["*"]})
    return made


@pytest.fixture(params=["joined", "rabbitmq and postgres"])
def make(
    request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path, monkeypatch: Any, deployment: Any
) -> Callable[..., App]:
    urls = [f"sqlite:///{tmp_path / 'paigeant.db'}", None]
    if request.param != "joined":
        urls = [request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url")]

    def made(name: str = "shop", signing: str = "required") -> App:
        for setting, value in deployment.settings(name, signing).items():
            monkeypatch.setenv(setting, value)
        return make_app(*urls)

    return made


def declare(app: App) -> Any:
    tried = list[int]()

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    def check() -> int:
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("once")
        return 1

    @app.activity
    def ship() -> str:
        return "shipped"

    return [check.step(), ship.step()]


async def ran(app: App, running: Any, steps: Sequence[Any], count: int = 1) -> list[Workflow[Any]]:
    """Workflows of these steps that have completed."""
    async with running(app):
        workflows = [await app.dispatch(*steps) for _ in range(count)]
        for one in workflows:
            await one.result(timeout=SOON)
    return workflows


async def audit(app: App, workflow: Any, *, has_family: bool = False) -> Sequence[Audited]:
    """Export the trail as a file has it, read it again, and verify it with the public keys only."""
    trails = await gathered(app.store, str(workflow), has_family=has_family)
    lines = [json.dumps(one) for one in trails.lines()]
    return verified(read(lines), verifier_of(Path(app.settings.trust), app.settings))


def codes(found: Sequence[Audited]) -> list[tuple[str, str]]:
    return [(one.workflow, one.code) for trail in found for one in trail.faults]


async def token_of(app: App, workflow: Any, place: int) -> str:
    """The token of the plan (0) or of a link."""
    found = (await app.store.statements([str(workflow)]))[str(workflow)]
    return found[place].token


async def test_a_trail_says_who_did_what(make, running):
    app = make()
    [workflow] = await ran(app, running, declare(app))
    [found] = await audit(app, workflow)
    assert found.faults == ()
    assert (found.workflow, found.status) == (str(workflow), "completed")
    assert [(one.key, one.did, one.step, one.activity) for one in found.deeds] == [
        ("shop", "dispatched", None, None),
        ("shop", "retried", "1", "check"),
        ("shop", "completed", "1", "check"),
        ("shop", "completed", "2", "ship"),
    ]
    assert found.deeds[-1].text == "completed step 2 ship; the workflow ended: completed"


async def test_answers_and_children_are_part_of_it(make, running):
    """The whole family is verified; without it, the audit says what it does not cover."""
    app, ops = make(), make("ops")

    @app.activity
    def inner() -> int:
        return 1

    @app.activity
    def outer(context: ActivityContext) -> str:
        return context.dispatch(inner.step())

    async with running(app):
        workflow = await app.dispatch(await_signal("word"), outer.step())
        await ops.workflow(str(workflow)).signal("word", 5)
        child = app.workflow(await workflow.result(timeout=SOON))
        await child.result(timeout=SOON)

    found = await audit(app, workflow, has_family=True)
    assert codes(found) == []
    assert [(one.workflow, one.status) for one in found] == [(str(workflow), "completed"), (str(child), "completed")]
    assert ("ops", "sent the signal 'signal:word'") in [(one.key, one.text) for one in found[0].deeds]
    [alone] = await audit(app, workflow)
    assert (alone.faults, alone.missing) == ((), (str(child),))
    [below] = await audit(app, child)
    assert below.faults == ()
    assert below.deeds[0].text == f"dispatched the workflow 'test' from step 2 outer of workflow {workflow}"

    sql(app, "DELETE FROM paigeant_statement WHERE correlation_id = ?", str(child))
    # In the order of the workflows: what the parent says of its child comes first.
    assert codes(await audit(app, workflow, has_family=True)) == [(str(child), "other-plan"), (str(child), "no-plan")]


async def test_orders_are_part_of_it(make, deployment):
    """They name the key, not free text. The order about a parent proves that its children were cancelled."""
    deployment.rules["ops"] = {"order": ["cancel", "pause", "resume"]}
    deployment.write()
    app, ops = make(), make("ops")
    workflow = await app.dispatch(*declare(app))
    steered = ops.workflow(str(workflow))
    await steered.pause(by="somebody else")
    await steered.resume()
    await steered.cancel(reason="enough")
    [found] = await audit(app, workflow)
    assert found.faults == ()
    assert found.status == "cancelled"
    assert [(one.key, one.order, one.text) for one in found.deeds[1:]] == [
        ("ops", "pause", "ordered 'pause'"),
        ("ops", "resume", "ordered 'resume'"),
        ("ops", "cancel", "ordered 'cancel': enough"),
    ]
    events = await app.store.events(str(workflow))
    assert {one.data["by"] for one in events if "by" in one.data} == {"ops"}

    deployment.rules["ops"] = {"order": ["pause"]}
    deployment.write()
    assert {code for _, code in codes(await audit(app, workflow))} == {"order", "cut"}


async def test_an_order_without_the_right_is_refused_at_once(make):
    app = make()
    workflow = await app.dispatch(*declare(app))
    for steer in (workflow.cancel, workflow.pause, workflow.resume):
        with pytest.raises(WorkflowError, match="may not") as refused:
            await steer()
        assert "order = [" in (refused.value.hint or "")
    assert (await app.store.brief(str(workflow))).status == "running"


@pytest.mark.parametrize(
    ("change", "order"),
    [
        ('cancel = \'{"at": 1.0, "compensate": true}\'', "cancel"),
        ("status = 'paused'", "pause"),
        ("status = 'cancelled'", "cancel"),
    ],
)
async def test_a_cancellation_that_nobody_ordered_is_not_obeyed(make, running, change, order):
    """Nor a pause: the steps run, and the history says that somebody wrote to the database."""
    app = make()
    done = list[str]()

    @app.activity
    def check() -> None:
        done.append("check")

    @app.activity
    def ship() -> None:
        done.append("ship")

    workflow = await app.dispatch(check.step(), ship.step())
    sql(app, f"UPDATE paigeant_workflow SET {change} WHERE correlation_id = ?", str(workflow))
    async with running(app):
        await until_async(lambda: _is(done == ["check", "ship"]), SOON)
        await workflow.result(timeout=SOON)
    events = await app.store.events(str(workflow))
    assert {(one.data["key"], one.data["code"]) for one in events if one.type == "proof_failed"} == {
        (order, "no-order")
    }


async def _is(value: bool) -> bool:
    return value


async def test_a_running_step_stops_only_for_an_order(make, running, deployment, monkeypatch):
    """A stranger writes a cancellation while the step runs: it runs on, and an operator's order stops it."""
    deployment.rules["ops"] = {"order": ["cancel"]}
    deployment.write()
    app, ops = make(), make("ops")
    begun, looked = asyncio.Event(), list[bool]()
    believed = Orders.believed

    async def counted(self: Orders, *args: Any, **options: Any) -> Any:
        found = await believed(self, *args, **options)
        if not options.get("is_noted", True):
            looked.append(found.cancellation is not None)
        return found

    monkeypatch.setattr(Orders, "believed", counted)

    @app.activity
    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(slow.step())
        await begun.wait()
        forged = '{"at": 1.0, "compensate": true}'
        sql(app, "UPDATE paigeant_workflow SET cancel = ? WHERE correlation_id = ?", forged, str(workflow))
        await until_async(lambda: _is(looked == [False]), SOON)
        await ops.workflow(str(workflow)).cancel(compensate=True)
        with pytest.raises(WorkflowError, match="cancelled"):
            await workflow.result(timeout=SOON)
    assert looked[-1]


async def test_a_pause_that_was_ordered_is_obeyed(make, running, deployment):
    """Until it is resumed; an order to pause from before that does not count again."""
    deployment.rules["ops"] = {"order": ["pause", "resume"]}
    deployment.write()
    app, ops = make(), make("ops")
    workflow = await app.dispatch(*declare(app))
    steered = ops.workflow(str(workflow))
    await steered.pause()
    async with running(app):
        await until_async(lambda: app.store.held(str(workflow)))
        await steered.resume()
        assert await workflow.result(timeout=SOON) == "shipped"
    assert "proof_failed" not in {one.type for one in await app.store.events(str(workflow))}


async def test_the_order_about_a_parent_cancels_its_children(make, running, deployment):
    deployment.rules["ops"] = {"order": ["cancel"]}
    deployment.write()
    app, ops = make(), make("ops")

    @app.activity
    def outer(context: ActivityContext) -> str:
        return context.dispatch(await_signal("word"))

    async with running(app):
        workflow = await app.dispatch(outer.step(), await_signal("never"))
        [child] = await until_async(lambda: app.store.workflows(parent=str(workflow)))
        await until_async(lambda: app.store.held(child.correlation_id))
        await ops.workflow(str(workflow)).cancel()
    found = await audit(app, workflow, has_family=True)
    assert codes(found) == []
    assert [one.status for one in found] == ["cancelled", "cancelled"]
    assert codes(await audit(app, child.correlation_id)) == []


@pytest.mark.parametrize(("place", "code"), [(0, "no-plan"), (1, "missing-link"), (2, "missing-link"), (3, "cut")])
async def test_a_deleted_statement_is_noticed(make, running, place, code):
    """The plan, the beginning, the middle and the end."""
    app = make()
    [workflow] = await ran(app, running, declare(app))
    sql(app, "DELETE FROM paigeant_statement WHERE token = ?", await token_of(app, workflow, place))
    assert (str(workflow), code) in codes(await audit(app, workflow))


async def test_links_that_change_places_are_noticed(make, running):
    app = make()
    one, other = await ran(app, running, declare(app), count=2)
    sql(
        app,
        "UPDATE paigeant_statement SET correlation_id = CASE WHEN token = ? THEN ? ELSE ? END WHERE token IN (?, ?)",
        *(await token_of(app, one, 1), str(other), str(one)),
        *(await token_of(app, one, 1), await token_of(app, other, 1)),
    )
    for workflow in (one, other):
        assert {code for _, code in codes(await audit(app, workflow))} >= {"other-plan", "missing-link"}


async def test_an_edited_statement_is_noticed(make, running):
    app = make()
    [workflow] = await ran(app, running, declare(app))
    token = await token_of(app, workflow, 2)
    head, _, signature = token.split(".")
    payload = (await token_of(app, workflow, 3)).split(".")[1]
    edited = f"{head}.{payload}.{signature}"
    sql(app, "UPDATE paigeant_statement SET token = ? WHERE token = ?", edited, token)
    assert {code for _, code in codes(await audit(app, workflow))} == {"signature", "missing-link"}


async def test_a_changed_status_is_noticed(make, running):
    app = make()
    [workflow] = await ran(app, running, declare(app))
    sql(app, "UPDATE paigeant_workflow SET status = 'cancelled' WHERE correlation_id = ?", str(workflow))
    assert codes(await audit(app, workflow)) == [(str(workflow), "status")]


@pytest.mark.parametrize("state", ["gone", "revoked", "no right"])
async def test_a_key_that_is_not_trusted_proves_nothing(make, running, deployment, state):
    app = make()
    [workflow] = await ran(app, running, declare(app))
    jwk = deployment.folder / "keys" / "shop-1.jwk"
    if state == "gone":
        jwk.unlink()
    elif state == "revoked":
        parsed = json.loads(jwk.read_text())
        parsed["paigeant"]["state"] = "revoked"
        jwk.write_text(json.dumps(parsed))
    else:
        deployment.rules["shop"] = {"dispatch": ["*"], "run": ["check"]}
        deployment.write()
    expected = {"gone": {"unknown-key", "no-plan"}, "revoked": {"revoked", "no-plan"}, "no right": {"run"}}[state]
    assert {code for _, code in codes(await audit(app, workflow))} >= expected


async def test_a_workflow_that_nobody_signed_is_not_proved(make, running):
    app = make(signing="off")
    [workflow] = await ran(app, running, declare(app))
    assert codes(await audit(make(), workflow)) == [(str(workflow), "no-plan")]
