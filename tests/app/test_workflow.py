"""Workflows from dispatch to result, in one process."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

import pytest
from pydantic import BaseModel
from sqlalchemy import func, select

from paigeant import ActivityContext, RetryPolicy
from paigeant.errors import ConfigurationError, StoreRequired, WorkflowError, WorkflowFailed, WorkflowNotFound
from paigeant.records.workflow import Status
from paigeant.stores.tables import outbox
from paigeant.wire.slip import ActivitySpec, RoutingSlip

pytestmark = pytest.mark.anyio

SOON = 20
"""Seconds a result may take on a busy machine; it is there in milliseconds."""


class Customer(BaseModel):
    name: str
    since: date


# --- the usual way ---------------------------------------------------------------------------------------------------


async def test_steps_run_in_order_and_hand_their_output_on(app, running):
    """The last one's output is the result."""

    @app.activity
    async def double(n: int) -> int:
        return n * 2

    @app.activity
    def increment(n: int) -> int:
        return n + 1

    async with running(app):
        workflow = await app.dispatch(double.step(n=5), increment, double)
        assert await workflow.result(SOON) == 22


async def test_a_step_may_run_more_than_once_in_a_workflow(app, running):
    """Each run is a step of its own in the record."""

    @app.activity
    async def double(n: int) -> int:
        return n * 2

    async with running(app):
        workflow = await app.dispatch(double.step(n=1), double, double)
        assert await workflow.result(SOON) == 8
        record = await workflow.record()
    assert [(step.id, step.output, step.status) for step in record.steps] == [
        ("1", 2, "completed"),
        ("2", 4, "completed"),
        ("3", 8, "completed"),
    ]


async def test_the_result_is_typed_by_the_return_annotation(app, running):
    """What was a model is a model again, on both ends."""

    @app.activity
    async def load(name: str) -> Customer:
        return Customer(name=name, since=date(2026, 1, 2))

    @app.activity
    async def later(customer: Customer, by: timedelta) -> Customer:
        return customer.model_copy(update={"since": customer.since + by})

    async with running(app):
        workflow = await app.dispatch(load.step(name="Ann"), later.step(by=timedelta(days=1)))
        assert await workflow.result(SOON) == Customer(name="Ann", since=date(2026, 1, 3))


async def test_an_output_that_its_own_type_cannot_read_fails_its_step(make_app, running):
    """The step that produced it fails, and not the one that would have read it."""
    app = make_app("memory://")

    @app.activity
    async def work() -> int:
        return "no number"  # type: ignore[return-value]

    async with running(app):
        workflow = await app.dispatch("work")
        with pytest.raises(WorkflowFailed, match="the output of 'work' cannot be read back as its declared type"):
            await workflow.result(SOON)


async def test_an_output_whose_annotation_pydantic_cannot_read_is_told_to_the_caller(make_app, running):
    """The workflow completed all the same, and the record has the output."""
    app = make_app("memory://")

    async def work():
        return "no number"

    work.__annotations__["return"] = ActivityContext
    app.activity(work)
    async with running(app):
        workflow = await app.dispatch("work")
        with pytest.raises(WorkflowError, match="completed, but its output does not fit") as caught:
            await workflow.result(SOON)
        assert "return annotation" in caught.value.hint
        assert (await workflow.record()).output == "no number"


async def test_the_status_tells_where_a_workflow_stands(app, running):
    """Before a worker runs, and at the end."""

    @app.activity
    async def work() -> None: ...

    workflow = await app.dispatch(work)
    assert await workflow.status() is Status.RUNNING
    async with running(app):
        await workflow.result(SOON)
        assert await workflow.status() is Status.COMPLETED


async def test_a_handle_can_be_made_again_from_the_id(app, running):
    """In another process, for example; an App that does not know the last activity gives its result as JSON."""

    @app.activity
    async def today() -> date:
        return date(2026, 1, 2)

    async with running(app):
        workflow = await app.dispatch(today)
        assert str(workflow) == workflow.correlation_id
        assert await app.workflow(str(workflow)).result(SOON) == date(2026, 1, 2)
        del app.activities["today"]
        assert await app.workflow(str(workflow)).result(SOON) == "2026-01-02"


async def test_everything_about_a_workflow_is_recorded(app, running):
    """Who ran which step when, and with what output."""

    @app.activity
    async def first(a: int) -> int:
        return a

    @app.activity
    async def second(b: int) -> list[int]:
        return [b]

    async with running(app, name="worker-7"):
        workflow = await app.dispatch(first.step(a=1), second, name="numbers", variables={"v": 1})
        await workflow.result(SOON)
        record = await workflow.record()
    assert (record.name, record.app, record.variables, record.output) == ("numbers", "test", {"v": 1}, [1])
    assert [(step.activity, step.worker, step.attempt, step.output) for step in record.steps] == [
        ("first", "worker-7", 1, 1),
        ("second", "worker-7", 1, [1]),
    ]
    times = [record.created_at, *[t for step in record.steps for t in (step.started_at, step.finished_at)]]
    assert times == sorted(times)
    assert record.finished_at == record.steps[-1].finished_at


async def test_a_ready_routing_slip_can_be_dispatched(app, running):
    """With its own variables and more."""

    @app.activity
    async def add(a: int, b: int) -> int:
        return a + b

    slip = RoutingSlip(itinerary=(ActivitySpec(name="add"),), variables={"a": 1, "b": 1})
    async with running(app):
        workflow = await app.dispatch(slip, variables={"b": 5})
        assert await workflow.result(SOON) == 6


async def test_a_slip_that_is_under_way_goes_on_where_it_is(app, running):
    """Its log counts as steps before the first."""

    @app.activity
    async def double(n: int) -> int:
        return n * 2

    slip = RoutingSlip(itinerary=(ActivitySpec(name="elsewhere"), ActivitySpec(name="double")))
    async with running(app):
        workflow = await app.dispatch(slip.mark_complete("elsewhere", output=21))
        assert await workflow.result(SOON) == 42


async def test_a_workflow_dispatched_twice_with_one_id_runs_once(app, running):
    """The id is the caller's key: repeating a dispatch after doubt is safe, even after the end."""
    runs = []

    @app.activity
    async def work(n: int) -> int:
        runs.append(n)
        return n

    async with running(app):
        first = await app.dispatch(work.step(n=1), work, id="order-1")
        assert await first.result(SOON) == 1
        again = await app.dispatch(work.step(n=1), work, id="order-1")
        other = await app.dispatch(work.step(n=2), id="order-2")
        assert await again.result(SOON) == 1
        assert await other.result(SOON) == 2
    assert runs == [1, 1, 2]


async def test_many_workflows_run_at_once(app, running):
    """And each gets its own result."""

    @app.activity
    async def double(n: int) -> int:
        return n * 2

    async with running(app, concurrency=10):
        workflows = [await app.dispatch(double.step(n=n), double) for n in range(40)]
        results = await asyncio.gather(*[workflow.result(SOON) for workflow in workflows])
    assert results == [n * 4 for n in range(40)]


# --- variables -------------------------------------------------------------------------------------------------------


async def test_variables_reach_later_steps_and_the_record(app, running):
    """Set, changed and deleted by a step; typed where they are read."""

    @app.activity
    async def first(ctx: ActivityContext, a: int) -> None:
        ctx.variables["due"] = date(2026, 1, 2)
        ctx.variables["a"] = a + 1
        del ctx.variables["gone"]

    @app.activity
    def second(ctx: ActivityContext, due: date, a: int) -> list[object]:
        return [due, a, "gone" in ctx.variables, ctx.variables.typed("due", date).year]

    async with running(app):
        workflow = await app.dispatch(first, second, variables={"a": 1, "gone": True})
        assert await workflow.result(SOON) == ["2026-01-02", 2, False, 2026]
        assert (await workflow.record()).variables == {"due": "2026-01-02", "a": 2}


async def test_variables_of_a_failed_attempt_are_forgotten(app, running):
    """The next attempt starts from the slip as it was."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    async def work(ctx: ActivityContext) -> bool:
        known = "mark" in ctx.variables
        ctx.variables["mark"] = ctx.attempt
        if ctx.attempt == 1:
            raise ValueError
        return known

    async with running(app):
        workflow = await app.dispatch(work)
        assert await workflow.result(SOON) is False
        assert (await workflow.record()).variables == {"mark": 2}


# --- sync functions --------------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_while_the_loop_stays_free(app, running):
    """The loop runs what the function waits for."""
    import threading

    done = threading.Event()

    @app.activity
    def waits() -> bool:
        return done.wait(10)

    async with running(app):
        workflow = await app.dispatch(waits)
        asyncio.get_running_loop().call_later(0.05, done.set)
        assert await workflow.result(SOON) is True


async def test_a_plain_function_sees_its_context(app, running):
    """Context variables are carried into the thread."""

    @app.activity
    def who() -> str:
        return ActivityContext.current().correlation_id

    async with running(app):
        workflow = await app.dispatch(who)
        assert await workflow.result(SOON) == workflow.correlation_id


async def test_outside_a_step_there_is_no_context():
    """A mistake is told, not answered with another step's context."""
    with pytest.raises(LookupError):
        ActivityContext.current()


# --- the context -----------------------------------------------------------------------------------------------------


async def test_earlier_outputs_are_read_typed(app, running):
    """By name or id."""

    @app.activity
    async def load() -> Customer:
        return Customer(name="Ann", since=date(2026, 1, 2))

    @app.activity
    async def between() -> None: ...

    @app.activity
    async def check(ctx: ActivityContext) -> list[object]:
        by_name, by_id = ctx.output("load", type=Customer), ctx.output("1", type=Customer)
        return [by_name == by_id, by_name.since.year, ctx.previous, ctx.step.id]

    async with running(app):
        workflow = await app.dispatch(load, between, check)
        assert await workflow.result(SOON) == [True, 2026, None, "3"]


async def test_the_idempotency_key_differs_from_step_to_step(app, running):
    """And from workflow to workflow."""
    keys = []

    @app.activity
    async def work(ctx: ActivityContext) -> None:
        keys.append(ctx.idempotency_key)

    async with running(app):
        for _ in range(2):
            await (await app.dispatch(work, work)).result(SOON)
    assert len(set(keys)) == 4


# --- set-ups ---------------------------------------------------------------------------------------------------------


async def test_without_a_store_workflows_still_run(make_app, broker, running):
    """Only nobody can ask about them."""
    app, done = make_app(broker, "none"), asyncio.Event()

    @app.activity
    async def first() -> int:
        return 1

    @app.activity
    async def second(n: int) -> None:
        assert n == 1
        done.set()

    async with running(app):
        workflow = await app.dispatch(first, second)
        await asyncio.wait_for(done.wait(), SOON)
        for question in (workflow.result(), workflow.status(), workflow.record(), anext(workflow.events())):
            with pytest.raises(StoreRequired, match="read from a store") as caught:
                await question
    assert "PAIGEANT_STORE_URL" in caught.value.hint


async def test_messages_and_history_may_live_in_two_databases(make_app, tmp_path, running):
    """Then the outbox carries what must be published; at the end it is empty."""
    app = make_app(f"sqlite:///{tmp_path / 'broker.db'}", f"sqlite:///{tmp_path / 'store.db'}")

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    async def flaky(n: int, ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return n + 1

    async with running(app):
        workflows = [await app.dispatch(flaky.step(n=n), flaky, flaky) for n in range(5)]
        assert await asyncio.gather(*[one.result(SOON) for one in workflows]) == [n + 3 for n in range(5)]
        store = app.store
        left = await store.access.run(
            lambda: store.access.reader.execute(select(func.count()).select_from(outbox)).scalar_one()
        )
        assert left == 0
    assert app.dispatcher.joined is False


async def test_in_one_database_nothing_is_kept_twice(make_app, tmp_path, running):
    """Record, publish and acknowledge are one transaction, so there is no outbox and no queue left."""
    app = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")

    @app.activity
    async def work() -> None: ...

    async with running(app):
        await (await app.dispatch(work, work)).result(SOON)
        assert app.dispatcher.joined is True
        assert set((await app.transport.queues()).values()) == {0}


async def test_an_unknown_workflow_is_told_as_such(app):
    """Perhaps the id has a typo, perhaps the store is another one."""
    with pytest.raises(WorkflowNotFound, match="no workflow 'nobody'"):
        await app.workflow("nobody").result(1)


async def test_plain_codes_result_is_refused_under_a_loop(app):
    """It would block every other task."""
    workflow = app.workflow("x")
    with pytest.raises(ConfigurationError, match="call for plain code") as caught:
        workflow.result_sync()
    assert caught.value.hint == "use await workflow.result()"


async def test_the_steps_are_shown_as_the_plan_is_now(app, running):
    """Steps that were left out as skipped, inserted ones in place."""

    @app.activity
    def choose(ctx: ActivityContext) -> int:
        ctx.skip("gift")
        ctx.insert("wrap")
        return 1

    @app.activity
    def wrap(n: int) -> int:
        return n

    @app.activity
    def gift(n: int) -> int:
        return n

    async with running(app):
        workflow = await app.dispatch(choose, gift, wrap)
        assert await workflow.result(20) == 1
        steps = [(step.activity, step.status) for step in (await workflow.record()).steps]
    assert steps == [("choose", "completed"), ("wrap", "completed"), ("gift", "skipped"), ("wrap", "completed")] or (
        steps == [("choose", "completed"), ("gift", "skipped"), ("wrap", "completed"), ("wrap", "completed")]
    )


async def test_what_only_asks_how_a_workflow_stands_reads_one_row(app, running, monkeypatch):
    """Neither its steps nor the units of its agents."""

    @app.activity
    def one() -> int:
        return 1

    async with running(app):
        workflow = await app.dispatch(one)
        assert await workflow.result(20) == 1

        async def nothing(*_: object) -> None:
            raise AssertionError("the whole history was read")

        monkeypatch.setattr(app.store, "workflow", nothing)
        assert (await workflow.status()).value == "completed"
        assert await workflow.result(20) == 1
        with pytest.raises(WorkflowError, match="none of its steps waits any more"):
            await workflow.signal("go")
