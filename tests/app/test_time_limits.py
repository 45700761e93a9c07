"""Attempts that take too long, are silent too long, or come too late; workflows that begin later."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, RetryPolicy, Workflow, scatter, sleep
from paigeant.context.pulse import Pulse
from paigeant.errors import AttemptEnded, ConfigurationError, InvalidArguments, StoreRequired, WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


async def attempts(workflow: Workflow) -> list[tuple[int, str, str | None]]:
    steps = (await workflow.record()).steps
    return [(step.attempt, step.status, step.error.type if step.error else None) for step in steps]


async def parked(workflow: Workflow) -> None:
    async def waits() -> bool:
        return any(status == "parked" for _, status, _ in await attempts(workflow))

    await until_async(waits)


# --- signs of life ---------------------------------------------------------------------------------------------------


async def test_a_silent_step_is_ended_and_the_next_attempt_has_what_it_reported(app, running):
    """However long its timeout is."""

    @app.activity(timeout=3600, heartbeat_timeout=0.5, retry=RetryPolicy(attempts=2, delay=0))
    async def copy(ctx: ActivityContext) -> Any:
        if ctx.progress is None:
            await ctx.heartbeat({"row": 11})
            await asyncio.Event().wait()
        return ctx.progress

    async with running(app):
        workflow = await app.dispatch(copy)
        assert await workflow.result(SOON) == {"row": 11}
    assert await attempts(workflow) == [(1, "retried", "HeartbeatTimeout"), (2, "completed", None)]


async def test_a_silent_thread_is_left_behind_and_its_next_sign_of_life_ends_it(app, running):
    """It cannot be killed; whatever it returns is refused."""
    released, ended = threading.Event(), threading.Event()

    @app.activity(heartbeat_timeout=1, retry=RetryPolicy(attempts=2, delay=0))
    def copy(ctx: ActivityContext) -> Any:
        if ctx.attempt == 2:
            return ctx.progress
        ctx.heartbeat_sync("begun")
        released.wait(SOON)
        with suppress(AttemptEnded):
            ctx.heartbeat_sync("late")
            return "never"
        ended.set()
        return "too late"

    async with running(app):
        workflow = await app.dispatch(copy)
        try:
            assert await workflow.result(SOON) == "begun"
        finally:
            released.set()
        assert await asyncio.to_thread(ended.wait, SOON)
    reported = [event.data["value"] async for event in workflow.events() if event.type == "step_progressed"]
    assert reported == ["begun"]


async def test_a_value_of_a_stream_is_a_sign_of_life(app, running, monkeypatch):
    """A generator need not say it twice."""
    beats = []
    monkeypatch.setattr(Pulse, "beat", lambda pulse: beats.append(pulse))

    @app.activity(heartbeat_timeout=60)
    async def count() -> Any:
        for number in range(12):
            yield number

    async with running(app):
        assert await (await app.dispatch(count)).result(SOON) == list(range(12))
    assert len(beats) == 12


async def test_the_heartbeat_of_plain_functions_is_refused_in_a_loop(app, running):
    """It would wait for itself."""

    @app.activity
    async def call(ctx: ActivityContext) -> str:
        with pytest.raises(ConfigurationError, match="for plain functions"):
            ctx.heartbeat_sync()
        return "refused"

    async with running(app):
        assert await (await app.dispatch(call)).result(SOON) == "refused"


@pytest.mark.parametrize("option", [{"heartbeat_timeout": 0}, {"start_timeout": -1}, {"heartbeat_timeout": math.inf}])
def test_a_limit_that_is_no_time_is_refused(make_app, option):
    """Where it is written."""
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        make_app("memory://").activity(**option)(lambda: None)


# --- too late --------------------------------------------------------------------------------------------------------


async def test_a_step_that_waits_too_long_for_a_worker_fails(app, running):
    """As soon as one comes; steps with more patience run."""

    @app.activity(start_timeout=0.05)
    def urgent() -> None:
        raise AssertionError

    @app.activity
    def patient() -> str:
        return "fine"

    late, forced = await app.dispatch(urgent), await app.dispatch(urgent.step().options(start_timeout=1e6), patient)
    expired, other = await app.dispatch(patient, expires=0.05), await app.dispatch(patient, expires=1e6)
    give_up = time.time() + 0.06
    await until_async(lambda: asyncio.sleep(0, time.time() > give_up))
    async with running(app):
        for workflow, name in ((late, "urgent"), (expired, "patient")):
            with pytest.raises(WorkflowFailed, match=f"StartTimeout: step '{name}' was to be started by 2"):
                await workflow.result(SOON)
        with pytest.raises(WorkflowFailed, match="AssertionError"):
            await forced.result(SOON)
        assert await other.result(SOON) == "fine"


async def test_no_step_is_started_after_the_deadline_and_none_goes_on_beyond_it(app, running):
    """The running one is ended; the error says why."""

    @app.activity(retry=RetryPolicy(attempts=9, delay=0))
    async def slow() -> None:
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(slow, deadline=2)
        with pytest.raises(WorkflowFailed, match="DeadlineReached: the workflow's deadline came while the step ran"):
            await workflow.result(SOON)
    assert await attempts(workflow) == [(1, "failed", "DeadlineReached")]


async def test_a_workflow_that_waits_ends_at_its_deadline(app, running):
    """Parked, it is noticed too; a sleep is not over before its time."""

    @app.activity
    def after() -> None:
        raise AssertionError

    @app.activity(retry=RetryPolicy(exhausted="park"))
    def broken() -> None:
        raise ConnectionError

    async with running(app):
        slept = await app.dispatch(sleep(3600), after, deadline=timedelta(seconds=1.5))
        stopped = await app.dispatch(broken, after, deadline=datetime.now(UTC) + timedelta(seconds=1.5))
        for workflow in (slept, stopped):
            with pytest.raises(WorkflowFailed, match=r"DeadlineReached: the workflow's deadline, 2.* came before step"):
                await workflow.result(SOON)


async def test_the_branches_of_a_scatter_share_the_deadline(app, running):
    """They are parts of one workflow."""

    @app.activity
    async def slow() -> None:
        await asyncio.Event().wait()

    async with running(app):
        workflow = await app.dispatch(scatter(slow, slow), deadline=1.5)
        with pytest.raises(WorkflowFailed, match="DeadlineReached"):
            await workflow.result(SOON)

        async def all_have_ended() -> bool:
            assert app.store is not None
            return [one.status for one in await app.store.workflows()] == ["failed"] * 3

        await until_async(all_have_ended)


async def test_a_retry_that_would_come_after_the_deadline_is_not_made(app, running):
    """The step fails at once, with its own error."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=3600, max_delay=3600, jitter=False))
    def broken() -> None:
        raise ConnectionError("down")

    async with running(app):
        workflow = await app.dispatch(broken, deadline=600)
        with pytest.raises(WorkflowFailed, match="ConnectionError: down"):
            await workflow.result(SOON)


# --- later -----------------------------------------------------------------------------------------------------------


async def begun(app: App, running: Any, **options: Any) -> float:
    """When the workflow ran, in seconds of the epoch."""

    @app.activity
    def stamp() -> float:
        return time.time()

    async with running(app):
        workflow = await app.dispatch(stamp, **options)
        result: float = await workflow.result(SOON)
        return result


async def test_a_workflow_begins_after_its_delay(app, running):
    """Kept by a broker that can delay."""
    dispatched_at = time.time()
    assert await begun(app, running, delay=0.3) >= dispatched_at + 0.3


async def test_a_workflow_begins_at_a_time(app, running, monkeypatch):
    """Kept in the store where the broker cannot delay, or not for so long."""
    monkeypatch.setattr("paigeant.dispatch.packing._LONGEST_DELAY", 0.0)
    object.__setattr__(app.transport, "features", replace(app.transport.features, delay=False))
    eta = datetime.now(UTC) + timedelta(seconds=0.4)
    assert await begun(app, running, eta=eta) >= eta.timestamp()
    assert app.store is not None
    assert await app.store.held() == []


def test_without_a_store_a_workflow_cannot_begin_much_later(make_app):
    """Nobody would keep its message."""
    app = make_app("memory://", "none")
    with pytest.raises(StoreRequired, match="due in 172800 s needs a store"):
        app.dispatch("anything", delay=timedelta(days=2))


def test_times_that_make_no_sense_are_refused_before_anything_is_sent(app):
    """The rest of them is tested with the times themselves."""
    with pytest.raises(InvalidArguments, match="either delay or eta"):
        app.dispatch("anything", delay=1, eta=datetime.now(UTC))


# --- on other brokers ------------------------------------------------------------------------------------------------


async def test_times_are_kept_on_other_brokers(elsewhere, running):
    """By brokers that delay messages in their own ways, with a store beside them."""
    ran_at = []

    @elsewhere.activity(retry=RetryPolicy(attempts=4, quick=1, delay=0.1, exhausted="park"))
    def stubborn(ctx: ActivityContext) -> list[int]:
        ran_at.append(time.time())
        if ctx.attempt < 5:
            raise ConnectionError("down")
        return [ctx.attempt, ctx.message.tries]

    async with running(elsewhere):
        not_before = time.time() + 0.3
        workflow = await elsewhere.dispatch(stubborn, delay=0.3, deadline=3600)
        late = await elsewhere.dispatch(sleep(3600), deadline=1.5)
        await parked(workflow)
        assert await workflow.retry() == ["1"]
        assert await workflow.result(SOON) == [5, 1]
        assert ran_at[0] >= not_before
        with pytest.raises(WorkflowFailed, match="DeadlineReached"):
            await late.result(SOON)
    recorded = [(attempt, status) for attempt, status, _ in await attempts(workflow)]
    assert recorded == [(1, "retried"), (2, "retried"), (3, "retried"), (4, "parked"), (5, "completed")]
