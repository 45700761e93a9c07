"""Steps that fail: what the record says, which failures are retried, and attempts that take too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from paigeant import ActivityContext, RetryPolicy
from paigeant.errors import WorkflowFailed, WorkflowTimeout
from paigeant.records.workflow import Status
from paigeant.wire.slip import ActivitySpec

pytestmark = pytest.mark.anyio

SOON = 20


# --- failing ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """An error of the user's own."""


async def test_a_failed_step_ends_the_workflow_and_keeps_the_error(app, running):
    """The record has its type, message and traceback; the steps after it stay pending."""

    @app.activity
    async def fails() -> None:
        raise Refused("not today")

    @app.activity
    async def never() -> None: ...

    async with running(app):
        workflow = await app.dispatch(fails, never)
        with pytest.raises(WorkflowFailed, match=r"(?m)failed: Refused: not today$") as caught:
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
    """The workflow fails with the error of the last attempt."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    async def hopeless(ctx: ActivityContext) -> None:
        raise ValueError(f"try {ctx.attempt}")

    async with running(app):
        workflow = await app.dispatch(hopeless)
        with pytest.raises(WorkflowFailed, match="try 2"):
            await workflow.result(SOON)


async def test_a_policy_of_the_step_wins_over_the_activitys(app, running):
    """The policy planned in the step replaces the one of the decorator."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0))
    async def flaky() -> None:
        raise ValueError

    async with running(app):
        workflow = await app.dispatch(ActivitySpec(name="flaky", retry=RetryPolicy(attempts=1)))
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        assert len((await workflow.record()).steps) == 1


async def test_a_value_that_does_not_fit_fails_without_a_retry(app, running):
    """A retry cannot help; the error names the parameter."""

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
    """The step fails with a clear error; the worker does not retry for ever."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0))
    async def odd() -> object:
        return {"a": [object()]}

    async with running(app):
        workflow = await app.dispatch(odd)
        with pytest.raises(WorkflowFailed, match=r"NotSerializable: the output of 'odd'\['a'\]\[0\] cannot be written"):
            await workflow.result(SOON)


@pytest.mark.parametrize("bad", ["\ud800", {"\ud800": 1}, 10**5000], ids=["surrogate", "key", "digits"])
async def test_text_that_is_no_text_fails_with_a_clear_error(app, running, bad):
    """File names can contain surrogates, which are not valid text."""

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
    """The step fails, because its successor could not be sent."""
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
    """The exception becomes the step's error, and the worker serves the next step."""
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
    """The worker tells it apart from a cancellation of its own task."""

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
    """The error is a TimeoutError as well, and the caller can wait again."""

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
    """The worker cancels it, so that its clean-up runs."""
    cleaned = []

    @app.activity(timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async with running(app):
        workflow = await app.dispatch(slow)
        with pytest.raises(WorkflowFailed, match=r"TimeoutError: the step took longer than its timeout of 0\.05 s"):
            await workflow.result(SOON)
    assert cleaned == [True]


async def test_a_sync_step_that_takes_too_long_fails_while_its_thread_goes_on(app, running):
    """A thread cannot be stopped; the worker no longer waits for it."""
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
    """The timeout planned in the step replaces the one of the decorator."""

    @app.activity(timeout=600)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(ActivitySpec(name="slow", timeout=0.05))
        with pytest.raises(WorkflowFailed, match="TimeoutError"):
            await workflow.result(SOON)


async def test_a_stream_that_takes_too_long_fails(app, running):
    """The values it yielded before stay visible."""

    @app.activity(timeout=0.2)
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(slow)
        with pytest.raises(WorkflowFailed, match="TimeoutError"):
            await workflow.result(SOON)
        assert [event.data["value"] async for event in workflow.events() if event.type == "step_yielded"] == [1]
