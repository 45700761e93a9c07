"""Steps that run instead of one that fails for good, on each kind of broker and store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import until_async

from paigeant import ActivityContext, ActivitySpec, App, RetryPolicy, scatter
from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Execution, Poisoned
from paigeant.errors import DeadLetterError, IdempotencyConflict, InvalidArguments, UnknownActivity, WorkflowFailed
from paigeant.events import ErrorInfo
from paigeant.records.workflow import Status
from paigeant.wire import codec

pytestmark = pytest.mark.anyio

SOON = 10


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    made = make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)
    _activities(made)
    return made


def _activities(app: App) -> None:
    did: list[str] = []
    app.did = did  # type: ignore[attr-defined]

    @app.activity
    def order(number: int = 7) -> int:
        did.append("order")
        return number

    @order.compensate
    def cancel_order(output: int) -> None:
        did.append("-order")

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.01))
    def pay(number: int, ctx: ActivityContext) -> str:
        did.append(f"pay {ctx.attempt}")
        raise ValueError("no funds")

    @app.activity
    def invoice(number: int, days: int = 14) -> str:
        did.append("invoice")
        return f"order {number} by invoice in {days} days"

    @invoice.compensate
    def cancel_invoice(output: str) -> None:
        did.append("-invoice")

    @app.activity
    def ship(how: str) -> str:
        return f"shipped: {how}"

    @app.activity
    def fail() -> None:
        raise ValueError("no truck")


async def test_the_workflow_goes_on_with_the_other_steps(app, running):
    """After the attempts of its retry policy; the output before it is that of the step before the failed one."""
    act = app.activities
    async with running(app):
        workflow = await app.dispatch(act["order"], act["pay"].step().options(otherwise=act["invoice"]), act["ship"])
        assert await workflow.result(SOON) == "shipped: order 7 by invoice in 14 days"
    record = await workflow.record()
    assert app.did == ["order", "pay 1", "pay 2", "invoice"]
    assert [(step.id, step.activity, step.status) for step in record.steps] == [
        ("1", "order", "completed"),
        ("2", "pay", "retried"),
        ("2", "pay", "failed"),
        ("4", "invoice", "completed"),
        ("3", "ship", "completed"),
    ]
    assert (record.status, record.error) == (Status.COMPLETED, None)
    assert await app.dead_letters.list() == []


async def test_what_the_other_steps_did_is_taken_back(app, running):
    """As they are steps like all others."""
    act = app.activities
    paying = act["pay"].step().options(otherwise=[act["invoice"].step(days=30)])
    async with running(app):
        workflow = await app.dispatch(act["order"], paying, act["fail"])
        with pytest.raises(WorkflowFailed, match="no truck; compensated"):
            await workflow.result(SOON)
    assert app.did == ["order", "pay 1", "pay 2", "invoice", "-invoice", "-order"]


async def test_the_last_of_the_other_steps_fails_the_workflow(app, running):
    """With its own error; an operator's retry goes on there."""
    act = app.activities
    async with running(app):
        workflow = await app.dispatch(act["fail"].step().options(otherwise=["fail", "fail"]), act["ship"])
        with pytest.raises(WorkflowFailed, match="no truck"):
            await workflow.result(SOON)
        [letter] = await app.dead_letters.list()
        assert letter.step_id == "3"
        steps = [(step.id, step.status) for step in (await workflow.record()).steps]
        assert steps == [("1", "failed"), ("3", "failed"), ("4", "pending"), ("2", "pending")]
        assert await workflow.retry() == ["3"]
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)


async def test_a_failed_scatter_is_replaced(app, running):
    """What its branches did is taken back with the rest, and is not the output before the step in its place."""
    act = app.activities

    @app.activity
    async def fail_last(ctx: ActivityContext) -> None:
        async def is_done() -> bool:
            beside = await app.store.workflows(parent=ctx.message.parent)
            return any(one.status is Status.COMPLETED for one in beside)

        await until_async(is_done)
        raise ValueError("too late")

    branches = scatter(act["order"].step(number=8), fail_last).options(otherwise=[act["invoice"]])
    async with running(app):
        workflow = await app.dispatch(act["order"], branches, act["fail"])
        with pytest.raises(WorkflowFailed, match="no truck; compensated"):
            await workflow.result(SOON)
    outputs = {step.activity: step.output for step in (await workflow.record()).steps if step.output}
    assert outputs["invoice"] == "order 7 by invoice in 14 days"
    assert app.did == ["order", "order", "invoice", "-invoice", "-order", "-order"]


async def test_a_branch_has_other_steps_as_well(app, running):
    """The branch completes with what they gave."""
    act = app.activities
    paying = [act["order"], act["pay"].step().options(otherwise=act["invoice"])]
    async with running(app):
        workflow = await app.dispatch(scatter(paying, act["order"]))
        outputs = [branch.output for branch in await workflow.result(SOON)]
    assert outputs == ["order 7 by invoice in 14 days", 7]


async def test_a_workflow_can_be_forked_where_other_steps_went(app, running):
    """From the step that failed, and from those in its place."""
    act = app.activities
    async with running(app):
        workflow = await app.dispatch(act["order"], act["pay"].step().options(otherwise=act["invoice"]), act["ship"])
        await workflow.result(SOON)
        again = await workflow.fork("invoice", arguments={"days": 60})
        assert await again.result(SOON) == "shipped: order 7 by invoice in 60 days"
        before = len(app.did)
        from_failed = await workflow.fork("pay")
        assert await from_failed.result(SOON) == "shipped: order 7 by invoice in 14 days"
    assert app.did[before:] == ["pay 1", "pay 2", "invoice"]


async def test_a_step_that_kills_its_worker_is_replaced_and_set_aside(app, running):
    """Its dead letter stays for a look, and cannot go on: the workflow has."""
    act, dispatcher = app.activities, app.dispatcher
    workflow = await app.dispatch(act["pay"].step(number=1).options(otherwise=act["invoice"].step(number=1)))
    await app.connect()
    flow = app.transport.consume([app.queue_of(act["pay"])], 1)
    [delivery] = await anext(flow)
    message = codec.decode(delivery.body, 10**6)
    now = app.clock.now()
    execution = Execution(worker="w", deliveries=5, started_at=now, finished_at=now)
    plan = decide(message, Poisoned(execution, ErrorInfo(type="Poisoned", message="died")))
    packed = dispatcher.packing.packed(plan, now)
    await dispatcher.settling.carry_out(plan, delivery, packed, cause=message.id, worker="w", at=now)
    await flow.aclose()

    async with running(app):
        assert await workflow.result(SOON) == "order 1 by invoice in 14 days"
    [letter] = await app.dead_letters.list()
    with pytest.raises(DeadLetterError, match="is completed"):
        await app.dead_letters.redrive(letter.id)


def test_wrong_other_steps_are_refused_where_they_are_written(make_app):
    """As steps are; their queues and arguments are checked at dispatch."""
    app = make_app("memory://", unknown_activities="refuse")
    _activities(app)
    act = app.activities
    with pytest.raises(InvalidArguments, match="otherwise: 7 is not a step"):
        act["pay"].step(number=1).options(otherwise=[7])
    with pytest.raises(InvalidArguments, match="otherwise: <class 'int'> is not a step"):
        act["pay"].step(number=1).options(otherwise=int)
    with pytest.raises(InvalidArguments, match="takes no argument 'dayz'") as caught:
        app.dispatch(act["pay"].step(number=1).options(otherwise=ActivitySpec(name="invoice", arguments={"dayz": 1})))
    assert caught.value.hint == "did you mean 'days'?"
    with pytest.raises(UnknownActivity, match="'invoise'"):
        app.dispatch(act["pay"].step(number=1).options(otherwise="invoise"))


async def test_a_key_stands_for_the_other_steps_too(app):
    """Another plan under the same key is refused."""
    paying = app.activities["pay"].step(number=1)
    first = await app.dispatch(paying.options(otherwise="invoice"), idempotency_key="k")
    same = await app.dispatch(paying.options(otherwise="invoice"), idempotency_key="k")
    assert same.correlation_id == first.correlation_id
    with pytest.raises(IdempotencyConflict):
        await app.dispatch(paying.options(otherwise="ship"), idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await app.dispatch(paying, idempotency_key="k")


async def test_a_step_inserts_steps_with_others(app, running):
    """Planned by a running step, as at dispatch."""

    @app.activity
    def plan(ctx: ActivityContext) -> int:
        ctx.insert(app.activities["pay"].step(number=2).options(otherwise=app.activities["invoice"].step(number=2)))
        return 1

    async with running(app):
        workflow = await app.dispatch(plan)
        assert await workflow.result(SOON) == "order 2 by invoice in 14 days"
