"""Steps that fail and are tried again: in place, off the queue, by an operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, ActivitySpec, App, Retry, RetryPolicy
from paigeant.errors import InvalidArguments, StoreRequired, WorkflowError, WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


async def attempts(workflow: Any) -> list[tuple[int, str]]:
    return [(step.attempt, step.status) for step in (await workflow.record()).steps]


async def test_quick_tries_are_made_in_place_and_recorded_one_by_one(app, running):
    """The message stays where it is: one delivery, one settlement, and every attempt in the history."""
    seen = []

    @app.activity(retry=RetryPolicy(attempts=4, quick=3, delay=0))
    def flaky(ctx: ActivityContext) -> int:
        seen.append((ctx.attempt, ctx.deliveries, ctx.message.id))
        if ctx.attempt < 4:
            raise ConnectionError(f"no {ctx.attempt}")
        return ctx.attempt

    @app.activity
    def after(value: int) -> int:
        return value * 10

    async with running(app):
        workflow = await app.dispatch(flaky, after)
        assert await workflow.result(SOON) == 40
    assert [(attempt, deliveries) for attempt, deliveries, _ in seen] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert len({one for *_, one in seen}) == 4
    recorded = (await workflow.record()).steps
    assert [(one.attempt, one.status, str(one.error)) for one in recorded] == [
        (1, "retried", "ConnectionError: no 1"),
        (2, "retried", "ConnectionError: no 2"),
        (3, "retried", "ConnectionError: no 3"),
        (4, "completed", "None"),
        (1, "completed", "None"),
    ]
    told = [event.data["counted"] async for event in workflow.events() if event.type == "step_retried"]
    assert told == [True] * 3


async def test_after_the_quick_tries_come_delayed_ones(app, running):
    """Off the queue, so that the worker is free meanwhile."""

    @app.activity(retry=RetryPolicy(attempts=5, quick=2, delay=0.05))
    def flaky() -> None:
        raise ConnectionError

    async with running(app):
        workflow = await app.dispatch(flaky)
        with pytest.raises(WorkflowFailed, match="ConnectionError"):
            await workflow.result(SOON)
    assert await attempts(workflow) == [(n, "retried") for n in range(1, 5)] + [(5, "failed")]


async def test_a_step_has_a_policy_of_its_own_if_it_wants(app, running):
    """Other than its activity's."""
    ran = []

    @app.activity
    def flaky() -> None:
        ran.append(1)
        raise ConnectionError

    step = flaky.step().options(retry=RetryPolicy(attempts=3, delay=0))
    async with running(app):
        workflow = await app.dispatch(step)
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
    assert len(ran) == 3


@pytest.mark.parametrize(
    ("options", "words"), [({"timeout": -1}, "option timeout: Input should be greater"), ({"name": "x"}, "no option")]
)
def test_options_of_a_step_are_checked(options, words):
    """Where they are written."""
    with pytest.raises(InvalidArguments, match=words):
        ActivitySpec(name="one").options(**options)


async def test_errors_that_cannot_get_better_are_given_up_on(app, running):
    """By type, or by a function of the error."""
    ran: list[str] = []

    @app.activity(retry=RetryPolicy(attempts=5, delay=0), give_up_on=lambda error: "404" in str(error))
    def fetch(what: str) -> None:
        ran.append(what)
        raise ConnectionError(what)

    async with running(app):
        for what, times in (("404", 1), ("503", 5)):
            workflow = await app.dispatch(fetch.step(what=what))
            with pytest.raises(WorkflowFailed):
                await workflow.result(SOON)
            assert ran.count(what) == times


async def test_a_rule_that_fails_itself_fails_the_step(app, running):
    """With its own error; the worker goes on."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0), retry_on=lambda error: error.code == 5)
    def fetch() -> None:
        raise ConnectionError

    async with running(app):
        with pytest.raises(WorkflowFailed, match="AttributeError"):
            await (await app.dispatch(fetch)).result(SOON)


async def test_what_a_server_asks_for_is_honoured_and_not_counted(app, running):
    """Five refusals do not use up two attempts."""

    class Busy(Exception):
        retry_after = 0.01

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    def call(ctx: ActivityContext) -> list[int]:
        if ctx.attempt <= 5:
            raise Busy
        if ctx.attempt == 6:
            raise ConnectionError
        return [ctx.attempt, ctx.message.tries]

    async with running(app):
        workflow = await app.dispatch(call)
        assert await workflow.result(SOON) == [7, 2]
    told = [event.data["counted"] async for event in workflow.events() if event.type == "step_retried"]
    assert told == [False] * 5 + [True]


async def test_the_next_attempt_has_what_the_last_one_reported(app, running):
    """Of its progress, until the step is done."""
    seen: list[Any] = []

    @app.activity(retry=RetryPolicy(attempts=4, quick=1, delay=0))
    async def copy(ctx: ActivityContext) -> None:
        seen.append(ctx.progress)
        if ctx.attempt != 3:
            await ctx.heartbeat({"rows": ctx.attempt * 100})
        if ctx.attempt < 4:
            raise ConnectionError

    @app.activity
    def after(ctx: ActivityContext) -> None:
        seen.append(ctx.progress)

    async with running(app):
        await (await app.dispatch(copy, after)).result(SOON)
    assert seen == [None, {"rows": 100}, {"rows": 200}, {"rows": 200}, None]


async def test_an_operator_has_a_step_tried_again_whose_attempts_are_used_up(app, running):
    """With all its attempts, as often as it takes."""
    broken = True

    @app.activity(retry=RetryPolicy(attempts=2, quick=1, delay=0, exhausted="park"))
    def call(ctx: ActivityContext) -> int:
        if broken:
            raise ConnectionError("still down")
        return ctx.attempt

    async with running(app):
        workflow = await app.dispatch(call)

        async def parked(at: int) -> bool:
            return (at, "parked") in await attempts(workflow)

        await until_async(lambda: parked(2))
        assert app.store is not None
        (held,) = await app.store.held(workflow.correlation_id)
        assert (held.key, held.detail["error"]["type"]) == ("operator:1", "ConnectionError")
        assert await workflow.retry(by="ada") == ["1"]
        await until_async(lambda: parked(4))
        broken = False
        await workflow.retry()
        assert await workflow.result(SOON) == 5
        with pytest.raises(WorkflowError, match="is completed: no step of it waits for an operator"):
            await workflow.retry()
    recorded = (await workflow.record()).steps
    assert [one.status for one in recorded] == ["retried", "parked", "retried", "parked", "completed"]
    assert str(recorded[1].error) == "ConnectionError: still down"


def test_without_a_store_no_step_can_wait_for_an_operator(make_app):
    """It is refused at dispatch."""
    app = make_app("memory://", "none")

    @app.activity(retry=RetryPolicy(exhausted="park"))
    def call() -> None: ...

    with pytest.raises(StoreRequired, match="step 'call' waits in a store when its attempts are used up"):
        app.dispatch(call)


async def test_a_retry_that_is_asked_for_is_one(app, running):
    """After the time that was asked for, counted or not."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=60))
    def call(ctx: ActivityContext) -> int:
        if ctx.attempt <= 3:
            raise Retry("not yet", after=0, counted=ctx.attempt == 3)
        return ctx.message.tries

    async with running(app):
        assert await (await app.dispatch(call)).result(SOON) == 2
