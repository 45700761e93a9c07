"""The store records each signed statement with the event that it proves: one chain for each workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from signing import EVERYTHING, Deployment

from paigeant import ActivityContext, App, RetryPolicy, Workflow
from paigeant.errors import WorkflowFailed
from paigeant.wire.canonical import digest, digest_of
from paigeant.wire.proof import Link, Plan, Signed

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "rabbitmq and postgres"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Any, monkeypatch: Any) -> App:
    deployment = Deployment(tmp_path)
    deployment.add("shop", EVERYTHING)
    for setting, value in deployment.settings("shop").items():
        monkeypatch.setenv(setting, value)
    if request.param == "joined":
        return make_app(f"sqlite:///{tmp_path / 'paigeant.db'}", None)
    return make_app(request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url"))


async def chain(app: App, workflow: Workflow[Any]) -> tuple[Signed[Plan], list[Link]]:
    """The plan and the links of a workflow as its store has them, every one verified and fixed to the one before."""
    assert app.notary is not None
    found = await app.store.statements([workflow.correlation_id])
    [plan, *rest] = found[workflow.correlation_id]
    first = app.notary.verified(plan.token, Plan, "plan")  # type: ignore[arg-type]
    links = [app.notary.verified(one.token, Link, "link", "order").statement for one in rest]  # type: ignore[arg-type]
    links.sort(key=lambda one: one.n)
    tokens = {one.token for one in rest}
    assert {one.plan for one in links} == {first.digest}
    assert [one.prev for one in links] == [None, *(digest(token.encode()) for token in ordered(app, tokens))][:-1]
    return first, links


def ordered(app: App, tokens: set[str]) -> list[str]:
    assert app.notary is not None
    read = {token: app.notary.verified(token, Link, "link", "order").statement for token in tokens}  # type: ignore[arg-type]
    return sorted(tokens, key=lambda token: read[token].n)


async def test_a_plan_and_the_end_of_every_attempt_are_recorded(app: App, running: Any) -> None:
    tried = list[int]()

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    def flaky(context: ActivityContext) -> int:
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("once")
        context.variables["seen"] = 7
        return 42

    @app.activity
    def last() -> str:
        return "done"

    async with running(app):
        workflow = await app.dispatch(flaky.step(), last.step())
        assert await workflow.result(timeout=20) == "done"

    plan, links = await chain(app, workflow)
    assert [one.name for one in plan.statement.steps] == ["flaky", "last"]
    assert [(one.act, str(one.did), one.att, one.end) for one in links] == [
        ("flaky", "retried", 1, None),
        ("flaky", "completed", 2, None),
        ("last", "completed", 1, "completed"),
    ]
    assert [one.out for one in links] == [None, digest_of(42), digest_of("done")]
    assert links[1].vars == {"seen": digest_of(7)}
    record = await app.store.workflow(workflow.correlation_id)
    assert record is not None
    [proof] = (await app.store.proofs([record.steps[-1].message_id]))[record.steps[-1].message_id]
    assert proof.correlation_id == workflow.correlation_id


async def test_the_way_back_and_its_end_are_recorded(app: App, running: Any) -> None:
    @app.activity
    def charge() -> int:
        return 3

    @charge.compensate
    def refund() -> None: ...

    @app.activity
    def ship() -> None:
        raise ValueError("no ship")

    async with running(app):
        workflow = await app.dispatch(charge.step(), ship.step())
        with pytest.raises(WorkflowFailed, match="no ship"):
            await workflow.result(timeout=20)

    _, links = await chain(app, workflow)
    assert [(one.act, str(one.did), one.end) for one in links] == [
        ("charge", "completed", None),
        ("ship", "turned", None),
        ("charge", "undone", "compensated"),
    ]


async def test_a_child_has_a_chain_of_its_own(app: App, running: Any) -> None:
    @app.activity
    def inner() -> int:
        return 1

    @app.activity
    def outer(context: ActivityContext) -> str:
        return context.dispatch(inner.step())

    async with running(app):
        workflow = await app.dispatch(outer.step())
        child = app.workflow(await workflow.result(timeout=20))
        await child.result(timeout=20)

    parent, [link] = await chain(app, workflow)
    plan, [end] = await chain(app, child)
    assert plan.statement.origin is not None
    assert plan.statement.origin.plan == parent.digest
    assert link.begin == {child.correlation_id: plan.digest}
    assert end.end == "completed"
