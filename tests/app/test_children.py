"""Steps that dispatch workflows and wait for them; with broker and store in one database and apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, RetryPolicy
from paigeant.errors import ChildFailed, WorkflowError, WorkflowFailed
from paigeant.wire.condition import Condition

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


async def test_a_step_dispatches_a_workflow_and_waits_for_it(app, running):
    """It dispatches one workflow, however often the step runs."""

    @app.activity
    def child(value: int) -> int:
        return value * 10

    @app.activity
    def bad() -> None:
        raise ValueError("no")

    @app.activity
    def parent(ctx: ActivityContext) -> list[Any]:
        good, failing = ctx.dispatch(child.step(value=4), name="child"), ctx.dispatch(bad)
        output = ctx.wait_for(good, type=int)
        try:
            ctx.wait_for(failing)
        except ChildFailed as error:
            return [output, str(error)]
        raise AssertionError

    async with running(app):
        workflow = await app.dispatch(parent)
        output, error = await workflow.result(20)
        assert output == 40
        assert "failed: ValueError: no" in error
        assert app.store is not None
        assert len(await app.store.workflows()) == 3


@pytest.mark.parametrize("by", ["its policy", "an operator"])
async def test_a_step_that_is_tried_again_dispatches_anew_what_had_failed(app, running, by):
    """It does not repeat the children that completed."""
    ran, broken = list[str](), [True]

    @app.activity
    def child(name: str) -> str:
        ran.append(name)
        if name == "b" and broken and broken.pop():
            raise OSError("down")
        return name

    policy = {"its policy": RetryPolicy(attempts=2, delay=0), "an operator": RetryPolicy(exhausted="park", attempts=1)}

    @app.activity(retry=policy[by])
    def parent(ctx: ActivityContext) -> list[str]:
        children = [ctx.dispatch(child.step(name=name)) for name in "ab"]
        return [ctx.wait_for(one, type=str) for one in children]

    async with running(app):
        workflow = await app.dispatch(parent)
        if by == "an operator":
            await until_async(lambda: app.store.held(key="operator:"))
            tries = [workflow.retry(), workflow.retry()]
            said = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(one, WorkflowError) for one in said) == 1
        assert await workflow.result(20) == ["a", "b"]
    assert sorted(ran) == ["a", "b", "b"]


async def test_children_that_nobody_waits_for_leave_nothing_behind(app, running):
    """This holds if they end before their parent or after it, and for a signal that no step waited for."""
    go_on = asyncio.Event()

    @app.activity
    async def slow() -> None:
        await go_on.wait()

    @app.activity
    def quick() -> None:
        pass

    @app.activity
    def parent(ctx: ActivityContext) -> list[str]:
        ctx.await_signal("begin")
        return [ctx.dispatch(one) for one in (slow, quick)]

    async with running(app):
        workflow = await app.dispatch(parent)
        await workflow.signal("unheard", 1)
        await workflow.signal("begin")
        children = await workflow.result(20)
        go_on.set()
        for child in children:
            await app.workflow(child).result(20)
        assert await app.store.access.run(lambda: _signals(app)) == 0


def _signals(app: App) -> int:
    return app.store.access.reader.exec_driver_sql("SELECT count(*) FROM paigeant_signal").scalar_one()


@pytest.mark.parametrize("keys", [(None, None), ("a", "a")], ids=["by number", "by key"])
async def test_another_workflow_in_the_place_of_one_that_was_dispatched_is_refused(app, running, keys):
    """The step fails with the reason, because either workflow would be dropped without notice."""
    shipped = []

    @app.activity
    def ship(order: int) -> None:
        shipped.append(order)

    @app.activity
    def decide(ctx: ActivityContext) -> None:
        has_waited = bool(ctx.message.received)
        ctx.dispatch(ship.step(order=2 if has_waited else 1), key=keys[has_waited])
        ctx.sleep(0.05)

    async with running(app):
        with pytest.raises(WorkflowFailed, match="IdempotencyConflict: step 'decide' dispatched"):
            await (await app.dispatch(decide)).result(timeout=30)
        await until_async(lambda: asyncio.sleep(0, shipped == [1]))


async def test_keys_tell_the_workflows_of_a_list_apart(app, running):
    """The list may change while the step waits; workflows without a key are numbered separately."""
    shipped = []

    @app.activity
    def ship(order: int) -> int:
        shipped.append(order)
        return order

    @app.activity
    def decide(ctx: ActivityContext) -> list[int]:
        orders = [2, 3] if ctx.message.received else [1, 2]
        keyed = [ctx.dispatch(ship.step(order=order), key=f"order {order}") for order in orders]
        last = ctx.dispatch(ship.step(order=9))
        return [ctx.wait_for(one, type=int) for one in (*keyed, last)]

    async with running(app):
        assert await (await app.dispatch(decide)).result(timeout=30) == [2, 3, 9]
        await until_async(lambda: asyncio.sleep(0, len(shipped) >= 4))
    assert sorted(shipped) == [1, 2, 3, 9]


@pytest.mark.parametrize("key", ["", 5, "twice"])
async def test_a_key_is_a_text_and_used_once(app, running, key):
    """Other keys could not tell two workflows apart."""

    @app.activity
    def ship() -> None: ...

    @app.activity
    def decide(ctx: ActivityContext) -> None:
        ctx.dispatch(ship, key=key)
        ctx.dispatch(ship, key=key)

    async with running(app):
        with pytest.raises(WorkflowFailed, match="key: "):
            await (await app.dispatch(decide)).result(timeout=30)


@pytest.mark.parametrize(("before", "after"), [(2_000, 65_536), (65_536, 2_000)])
async def test_the_same_workflow_is_not_refused_when_its_values_travel_in_another_way(
    make_app, running, tmp_path, monkeypatch, before, after
):
    """The worker restarted with another size limit for values in messages."""
    broker, waited = f"sqlite:///{tmp_path / 'paigeant.db'}", []

    def made(limit: int) -> App:
        monkeypatch.setenv("PAIGEANT_CLAIM_CHECK_FROM", str(limit))
        app = make_app(broker)

        @app.activity
        def measure(text: str) -> int:
            return len(text)

        @app.activity
        def parent(ctx: ActivityContext) -> int:
            child = ctx.dispatch(measure.step(text="x" * 5_000))
            waited.append(ctx.await_signal("go"))
            return ctx.wait_for(child, type=int)

        return app

    first, second = made(before), made(after)
    async with running(first):
        workflow = await first.dispatch("parent")
        await until_async(lambda: first.store.held(str(workflow), "signal:go"))
    async with running(second):
        await second.workflow(workflow.correlation_id).signal("go", 1)
        assert await second.workflow(workflow.correlation_id).result(20) == 5_000


async def test_another_condition_makes_another_workflow(app, running):
    """The condition of a step is part of the workflow's definition."""

    @app.activity
    def ship() -> None: ...

    @app.activity
    def decide(ctx: ActivityContext) -> None:
        wanted = Condition(variable="rush", among=(bool(ctx.message.received),))
        ctx.dispatch(ship, ship.step().options(when=wanted), variables={"rush": True})
        ctx.sleep(0.05)

    async with running(app):
        with pytest.raises(WorkflowFailed, match="IdempotencyConflict: step 'decide' dispatched"):
            await (await app.dispatch(decide)).result(timeout=30)
