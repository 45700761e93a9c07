"""Must-show 6: a dependency is down for a while under load; workflows wait and finish, and there is no retry storm."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, RetryPolicy
from paigeant.errors import WorkflowFailed
from paigeant.runner.breaker import FAILURES

pytestmark = pytest.mark.anyio

PATIENCE = 60
POLICY = RetryPolicy(attempts=FAILURES + 1, quick=1, delay=0.01, factor=1)
"""Attempts for a fraction of the outage; the failures before it is known for one do not use them up."""

FIRST, LONGEST = 0.1, 0.4


@dataclass
class Bank:
    """What the steps need, and what it saw."""

    is_down: bool = True
    calls: int = 0
    failures: int = 0

    async def __call__(self, ctx: ActivityContext) -> int:
        self.calls += 1
        await asyncio.sleep(0.005)
        if self.is_down:
            self.failures += 1
            raise ConnectionError("down")
        return ctx.message.tries


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paigeant.runner.breaker.FIRST_PAUSE", FIRST)
    monkeypatch.setattr("paigeant.runner.breaker.LONGEST_PAUSE", LONGEST)


async def outage(app: App, running, workflows: int) -> None:
    """The bank is down for a second, in which each step could use up its attempts many times."""
    bank = Bank()
    activity = app.activity(name="pay", retry=POLICY)(bank)
    async with running(app, concurrency=8):
        began = time.monotonic()
        sent = [await app.dispatch(activity) for _ in range(workflows)]

        async def knows() -> bool:
            return bank.failures >= FAILURES

        await until_async(knows, PATIENCE)
        await asyncio.sleep(1.0)  # how long the outage lasts: nothing is waited for here
        lasted = time.monotonic() - began
        bank.is_down = False
        tries = [await one.result(PATIENCE) for one in sent]
    in_flight = 8
    assert sum(tries) <= workflows + FAILURES
    assert bank.failures <= FAILURES + in_flight + lasted / FIRST
    assert bank.calls == bank.failures + workflows


async def test_workflows_wait_for_a_dependency_that_is_down_and_finish(app, running):
    """Without a breaker each of them would have failed at once, and the bank been called for each as often."""
    await outage(app, running, 60)


@pytest.mark.slow
async def test_it_is_so_on_other_brokers(elsewhere, running):
    """They give steps back in their own ways."""
    await outage(elsewhere, running, 30)


async def test_what_is_never_retried_fails_as_it_always_did(app, running):
    """Nobody asked for anything else."""

    @app.activity
    async def pay() -> None:
        raise ConnectionError("down")

    async with running(app, concurrency=4):
        for workflow in [await app.dispatch(pay) for _ in range(2 * FAILURES)]:
            with pytest.raises(WorkflowFailed):
                await workflow.result(PATIENCE)


async def test_steps_of_other_activities_are_not_held_up(app, running):
    """Each activity has its own failures."""
    bank = Bank()
    pay = app.activity(name="pay", retry=POLICY)(bank)

    @app.activity(retry=RetryPolicy(attempts=2))
    async def other() -> str:
        return "fine"

    async with running(app, concurrency=4):
        paying = [await app.dispatch(pay) for _ in range(2 * FAILURES)]

        async def knows() -> bool:
            return bank.failures >= FAILURES

        await until_async(knows, PATIENCE)
        assert await (await app.dispatch(other)).result(PATIENCE) == "fine"
        bank.is_down = False
        for one in paying:
            await one.result(PATIENCE)


async def test_a_step_whose_input_is_wrong_is_no_failure_of_the_activity(app, running):
    """And is not retried; the others run on."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0.01))
    async def pay(cents: int) -> int:
        return cents

    @app.activity
    async def word() -> str:
        return "many"

    async with running(app, concurrency=4):
        for workflow in [await app.dispatch(word, pay) for _ in range(2 * FAILURES)]:
            with pytest.raises(WorkflowFailed, match="InvalidInput"):
                await workflow.result(PATIENCE)
        assert await (await app.dispatch(pay.step(cents=5))).result(PATIENCE) == 5
