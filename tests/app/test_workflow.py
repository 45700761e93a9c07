"""Workflows from dispatch to result, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest
from helpers import until_async
from pydantic import BaseModel
from sqlalchemy import func, select

from paigeant import ActivityContext, RetryPolicy
from paigeant.errors import (
    ConfigurationError,
    StoreRequired,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTimeout,
)
from paigeant.records import Status
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.stores.tables import outbox

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


@pytest.mark.parametrize("annotation", [int, ActivityContext], ids=["wrong", "no pydantic type"])
async def test_an_output_that_is_not_what_the_annotation_says_is_told_to_the_caller(make_app, running, annotation):
    """The workflow completed all the same, and the record has the output."""
    app = make_app("memory://")

    async def work():
        return "no number"

    work.__annotations__["return"] = annotation
    app.activity(work)
    async with running(app):
        workflow = await app.dispatch("work")
        with pytest.raises(WorkflowError, match="completed, but its output is no") as caught:
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
    """In another process, for example; without the annotation the result is JSON."""

    @app.activity
    async def today() -> date:
        return date(2026, 1, 2)

    async with running(app):
        workflow = await app.dispatch(today)
        assert str(workflow) == workflow.correlation_id
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


# --- failing ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """An error of the user's own."""


async def test_a_failed_step_ends_the_workflow_and_keeps_the_error(app, running):
    """Type, message and traceback; the steps after it stay pending."""

    @app.activity
    async def fails() -> None:
        raise Refused("not today")

    @app.activity
    async def never() -> None: ...

    async with running(app):
        workflow = await app.dispatch(fails, never)
        with pytest.raises(WorkflowFailed, match=r"failed: Refused: not today$") as caught:
            await workflow.result(SOON)
        record = await workflow.record()
    assert caught.value.correlation_id == workflow.correlation_id
    assert record.status is Status.FAILED
    assert [step.status for step in record.steps] == ["failed", "pending"]
    assert "in fails" in record.steps[0].error.traceback


async def test_a_failed_step_is_tried_again_as_its_policy_says(app, running):
    """Every attempt is recorded with its own error."""
    seen = []

    @app.activity(retry=RetryPolicy(attempts=3, delay=0.01))
    def flaky(ctx: ActivityContext) -> str:
        seen.append((ctx.attempt, ctx.deliveries, ctx.idempotency_key))
        if ctx.attempt < 3:
            raise ValueError(f"try {ctx.attempt}")
        return "done"

    async with running(app):
        workflow = await app.dispatch(flaky)
        assert await workflow.result(SOON) == "done"
        steps = (await workflow.record()).steps
    assert [(attempt, deliveries) for attempt, deliveries, _ in seen] == [(1, 1), (2, 1), (3, 1)]
    assert len({key for _, _, key in seen}) == 1
    assert [(step.attempt, step.status, step.error and step.error.message) for step in steps] == [
        (1, "retried", "try 1"),
        (2, "retried", "try 2"),
        (3, "completed", None),
    ]


async def test_a_step_that_never_succeeds_fails_after_its_attempts(app, running):
    """With the last error."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    async def hopeless(ctx: ActivityContext) -> None:
        raise ValueError(f"try {ctx.attempt}")

    async with running(app):
        workflow = await app.dispatch(hopeless)
        with pytest.raises(WorkflowFailed, match="try 2"):
            await workflow.result(SOON)


async def test_a_policy_of_the_step_wins_over_the_activitys(app, running):
    """Who plans the step knows best."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0))
    async def flaky() -> None:
        raise ValueError

    async with running(app):
        workflow = await app.dispatch(ActivitySpec(name="flaky", retry=RetryPolicy(attempts=1)))
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        assert len((await workflow.record()).steps) == 1


async def test_a_value_that_does_not_fit_fails_without_a_retry(app, running):
    """Trying again cannot help; the parameter is named."""

    @app.activity
    async def words() -> str:
        return "many"

    @app.activity(retry=RetryPolicy(attempts=5, delay=0))
    async def count(n: int) -> None: ...

    async with running(app):
        workflow = await app.dispatch(words, count)
        with pytest.raises(
            WorkflowFailed, match=r"InvalidInput: activity 'count', parameter 'n' \(the output of 'words'\)"
        ):
            await workflow.result(SOON)
        assert [step.attempt for step in (await workflow.record()).steps] == [1, 1]


async def test_an_output_that_cannot_be_written_fails_with_its_path(app, running):
    """A clear error, not a worker that tries for ever."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0))
    async def odd() -> object:
        return {"a": [object()]}

    async with running(app):
        workflow = await app.dispatch(odd)
        with pytest.raises(WorkflowFailed, match=r"NotSerializable: the output of 'odd'\['a'\]\[0\] cannot be written"):
            await workflow.result(SOON)


@pytest.mark.parametrize("bad", ["\ud800", {"\ud800": 1}, 10**5000], ids=["surrogate", "key", "digits"])
async def test_text_that_is_no_text_fails_with_a_clear_error(app, running, bad):
    """As file names can be."""

    @app.activity
    async def odd():
        return bad

    @app.activity
    async def after(value): ...

    async with running(app):
        workflow = await app.dispatch(odd, after)
        with pytest.raises(WorkflowFailed, match="NotSerializable: the output of 'odd'"):
            await workflow.result(SOON)


async def test_a_variable_too_large_to_be_kept_fails_with_its_size(make_app, broker, running):
    """The successor could not be sent."""
    app = make_app(broker, message_limit=5000)
    app.settings = app.settings.model_copy(update={"value_limit": 5000})

    @app.activity
    async def big(ctx: ActivityContext) -> None:
        ctx.variables["text"] = "x" * 6000

    @app.activity
    async def after() -> None: ...

    async with running(app):
        workflow = await app.dispatch(big, after)
        with pytest.raises(WorkflowFailed, match=r"MessageTooLarge: variables\['text'\] is 6,002 bytes"):
            await workflow.result(SOON)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        asyncio.CancelledError(),
        StopIteration(),
        StopAsyncIteration(),
        BaseException("base"),
        ExceptionGroup("many", [ValueError(1)]),
        Unreadable(),
        ValueError("\ud800\x00" + "x" * 100_000),
        TimeoutError(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_worker_survives_every_exception(make_app, running, kind, error):
    """It becomes the step's error, and the next step is served."""
    app = make_app("memory://")

    def raises():
        raise error

    async def raises_async():
        raise error

    fails = app.activity(name="fails")(raises if kind == "sync" else raises_async)

    @app.activity
    async def works() -> str:
        return "fine"

    async with running(app):
        workflow = await app.dispatch(fails)
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        assert await (await app.dispatch(works)).result(SOON) == "fine"


async def test_a_cancelled_task_inside_a_step_is_the_steps_failure(app, running):
    """Unlike the cancellation of the worker's own task."""

    @app.activity
    async def fails() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner

    async with running(app):
        workflow = await app.dispatch(fails)
        with pytest.raises(WorkflowFailed, match="CancelledError"):
            await workflow.result(SOON)


# --- time ------------------------------------------------------------------------------------------------------------


async def test_a_result_that_does_not_come_in_time_is_a_timeout_and_the_workflow_goes_on(app, running):
    """It is a TimeoutError as well, and can be waited for again."""

    @app.activity
    async def work() -> str:
        return "late"

    workflow = await app.dispatch(work)
    with pytest.raises(WorkflowTimeout, match=r"did not end within 0\.05 s") as caught:
        await workflow.result(timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    async with running(app):
        assert await workflow.result(SOON) == "late"


async def test_an_async_step_that_takes_too_long_fails(app, running):
    """It is cancelled, so that its clean-up runs."""
    cleaned = []

    @app.activity(timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async with running(app):
        workflow = await app.dispatch(slow)
        with pytest.raises(WorkflowFailed, match="TimeoutError: the step took longer than its timeout"):
            await workflow.result(SOON)
    assert cleaned == [True]


async def test_a_sync_step_that_takes_too_long_fails_while_its_thread_goes_on(app, running):
    """A thread cannot be stopped; nobody waits for it any more."""
    import threading

    release = threading.Event()

    @app.activity(timeout=0.05)
    def slow() -> None:
        release.wait(30)

    async with running(app):
        workflow = await app.dispatch(slow)
        with pytest.raises(WorkflowFailed, match="TimeoutError"):
            await workflow.result(SOON)
        release.set()


async def test_a_timeout_of_the_step_wins_over_the_activitys(app, running):
    """Who plans the step knows best."""

    @app.activity(timeout=600)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(ActivitySpec(name="slow", timeout=0.05))
        with pytest.raises(WorkflowFailed, match="TimeoutError"):
            await workflow.result(SOON)


async def test_a_stream_that_takes_too_long_fails(app, running):
    """The values it gave stay visible."""

    @app.activity(timeout=0.2)
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(slow)
        with pytest.raises(WorkflowFailed, match="TimeoutError"):
            await workflow.result(SOON)
        assert [event.data["value"] async for event in workflow.events() if event.type == "step_yielded"] == [1]


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


# --- streams and events ----------------------------------------------------------------------------------------------


async def test_a_streams_values_are_seen_before_it_ends_and_the_list_is_its_output(app, running):
    """The caller reads along."""
    go_on = asyncio.Event()

    @app.activity
    async def count(n: int) -> AsyncIterator[date]:
        for day in range(1, n + 1):
            yield date(2026, 1, day)
            await go_on.wait()

    async with running(app):
        workflow = await app.dispatch(count.step(n=3))
        async for event in workflow.events():
            if event.type == "step_yielded":
                assert await workflow.status() is Status.RUNNING
                break
        go_on.set()
        assert await workflow.result(SOON) == [date(2026, 1, day) for day in (1, 2, 3)]
        seen = [event.data async for event in workflow.events() if event.type == "step_yielded"]
    assert [(data["index"], data["value"]) for data in seen] == [
        (0, "2026-01-01"),
        (1, "2026-01-02"),
        (2, "2026-01-03"),
    ]


async def test_events_end_with_the_workflow_and_can_be_read_on_from_an_offset(app, running):
    """Also when everything has been read already."""

    @app.activity
    async def work() -> None: ...

    async with running(app):
        workflow = await app.dispatch(work)
        events = await asyncio.wait_for(_all(workflow.events()), SOON)
        assert [event.type for event in events] == ["workflow_dispatched", "step_completed", "workflow_completed"]
        assert await asyncio.wait_for(_all(workflow.events(after=events[0].offset)), SOON) == events[1:]
        assert await asyncio.wait_for(_all(workflow.events(after=events[-1].offset)), SOON) == []


async def _all(events):
    return [event async for event in events]


async def test_a_step_that_takes_its_time_is_seen_to_have_started(app, running):
    """Quick ones are recorded once, when they end."""
    go_on = asyncio.Event()

    @app.activity
    async def slow() -> None:
        await go_on.wait()

    async with running(app):
        workflow = await app.dispatch(slow)

        async def started():
            return (await workflow.record()).steps[0].status == "started"

        await until_async(started)
        go_on.set()
        await workflow.result(SOON)


async def test_a_heartbeat_shows_how_far_a_step_is(app, running):
    """To whoever reads the events."""

    @app.activity
    async def work(ctx: ActivityContext) -> None:
        await ctx.heartbeat()
        await ctx.heartbeat({"done": 5, "by": date(2026, 1, 2)})

    async with running(app):
        workflow = await app.dispatch(work)
        await workflow.result(SOON)
        seen = [event async for event in workflow.events() if event.type == "step_progressed"]
    assert [event.data["value"] for event in seen] == [{"done": 5, "by": "2026-01-02"}]


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
        left = await store._run(lambda: store._reader.execute(select(func.count()).select_from(outbox)).scalar_one())
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
