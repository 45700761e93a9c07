"""The machine's clock is wrong, or is put right while workers run: nothing may come early, late or twice for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from helpers import served, until_async

from paigeant import ActivityContext, App

pytestmark = pytest.mark.anyio

STEPS = [3600.0, -3600.0]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'paigeant.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def step_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the wall clock of this process."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


def with_steps(app: App) -> App:
    @app.activity
    async def nap(seconds: float, ctx: ActivityContext) -> str:
        ctx.sleep(seconds)
        return "rested"

    @app.activity(lock="one")
    async def alone(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    return app


@pytest.mark.parametrize("seconds", STEPS)
async def test_a_sleep_is_as_long_as_it_says(
    make_app: Callable[..., App], url: str, step_clock: Callable[[float], None], seconds: float
) -> None:
    """Whether the clock is put right before it begins or while it lasts."""
    app = with_steps(make_app(url))
    async with served(app):
        await (await app.dispatch("nap", variables={"seconds": 0})).result(timeout=30)
        step_clock(seconds)
        began = time.monotonic()
        workflow = await app.dispatch("nap", variables={"seconds": 1.5})
        await until_async(lambda: _is_parked(workflow))
        step_clock(0)
        assert await workflow.result(timeout=30) == "rested"
    assert 1.5 <= time.monotonic() - began < 15


async def _is_parked(workflow) -> bool:
    return any(step.status == "parked" for step in (await workflow.record()).steps)


@pytest.mark.parametrize("seconds", STEPS)
async def test_a_machine_that_is_wrong_from_the_start_does_no_harm(
    make_app: Callable[..., App], url: str, step_clock: Callable[[float], None], seconds: float
) -> None:
    """Its worker does not take the leases, locks and timers of others for over, and prunes nothing early."""
    right = with_steps(make_app(url))
    async with served(right):
        held = await right.dispatch("alone", variables={"seconds": 3})
        parked = await right.dispatch("nap", variables={"seconds": 2})
        await until_async(lambda: _is_parked(parked))
        step_clock(seconds)
        began = time.monotonic()
        wrong = with_steps(make_app(f"{url}?{'' if url.startswith('sqlite') else 'application_name=wrong'}"))
        async with served(wrong):
            assert await wrong.retention.forget(60) == 0
            assert await held.result(timeout=30) == "done"
            assert await parked.result(timeout=30) == "rested"
            assert time.monotonic() - began < 20
            starts = [step.deliveries for step in (await held.record()).steps]
    assert starts == [1]


async def test_what_ended_is_old_by_the_clock_of_the_database(
    make_app: Callable[..., App], url: str, step_clock: Callable[[float], None]
) -> None:
    """The worker that finished it may have been wrong, and the one that prunes right, or the other way round."""
    app = with_steps(make_app(url))
    async with served(app):
        for seconds in (*STEPS, 0.0):
            step_clock(seconds)
            await (await app.dispatch("alone", variables={"seconds": 0})).result(timeout=30)
    assert await app.retention.forget(60) == 0
    assert await app.retention.forget(0) == 3


async def test_a_schedule_is_served_at_its_times(
    make_app: Callable[..., App], url: str, step_clock: Callable[[float], None]
) -> None:
    """By the database's clock, whatever the machine's says when it is registered."""
    app = with_steps(make_app(url))
    served_at: list[float] = []
    real = time.time

    @app.activity
    async def tick() -> None:
        served_at.append(real())

    app.schedule("ticks", tick.step(), every=1)
    await app.store.connect()
    step_clock(3600)
    async with served(app):
        await until_async(lambda: asyncio.sleep(0, len(served_at) >= 2), 30)
        [row] = await app.schedules.list()
    assert abs(row.next_at - real()) < 60
