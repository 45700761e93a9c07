"""How a worker stops: running steps end or go back, and their deliveries do not count."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from paigeant import ActivityContext, App, RetryPolicy, Worker
from paigeant.errors import InvalidArguments
from paigeant.runner import Runner

pytestmark = pytest.mark.anyio

SOON = 20


@dataclass
class Gate:
    """A step that reports when it runs and waits until the test lets it finish."""

    runs: int = 0
    ended: int = 0
    running: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, ctx: ActivityContext) -> list[int]:
        self.runs += 1
        self.running.set()
        try:
            await self.go_on.wait()
        finally:
            self.ended += 1
        return [ctx.attempt, ctx.deliveries]


@pytest.fixture
def gate(app) -> Gate:
    made = Gate()
    app.activity(name="gate")(made)
    return made


async def test_a_burst_ends_when_nothing_is_left(app, running):
    """The worker first runs the steps that follow and the retries that are due."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.3, jitter=False))
    async def flaky(n: int, ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return n + 1

    workflows = [await app.dispatch(flaky.step(n=n), flaky) for n in range(3)]
    store = app.store
    results = asyncio.gather(*[workflow.result(SOON) for workflow in workflows])
    await asyncio.wait_for(Worker(app, burst=True).run(), SOON)
    if store.ledger() is not None:
        assert await results == [2, 3, 4]
    results.cancel()


async def test_a_burst_without_work_ends_at_once(app):
    """Cron jobs rely on it."""
    app.activity(name="work")(lambda: None)
    await asyncio.wait_for(Worker(app, burst=True).run(), 5)


async def test_the_first_stop_lets_running_steps_finish(app, gate, running):
    """The worker claims no new messages."""
    serving = running(app, concurrency=1)
    async with serving as worker:
        workflow = await app.dispatch("gate")
        waiting = await app.dispatch("gate")
        await gate.running.wait()
        store = app.store
        result = asyncio.ensure_future(workflow.result(SOON))
        worker.stop()
        asyncio.get_running_loop().call_later(0.1, gate.go_on.set)
        assert await result == [1, 1]
    assert (gate.runs, gate.ended) == (1, 1)
    if store.ledger() is not None:
        assert await app.workflow(waiting.correlation_id).status() == "running"


async def test_the_second_stop_hands_running_steps_back(make_app, tmp_path, running):
    """The worker stops at once; another worker runs the steps as if they had never been delivered."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app, gate = make_app(url), Gate()
    app.activity(name="gate")(gate)
    async with running(app, shutdown_timeout=600) as worker:
        workflow = await app.dispatch("gate")
        await gate.running.wait()
        worker.stop()
        worker.stop()
    assert (gate.runs, gate.ended) == (1, 1)
    gate.go_on.set()
    async with running(app):
        assert await app.workflow(str(workflow)).result(SOON) == [1, 1]


async def test_steps_that_do_not_finish_in_time_are_handed_back(make_app, tmp_path, running):
    """A stop takes no longer than the shutdown timeout."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app, gate = make_app(url), Gate()
    app.activity(name="gate")(gate)
    async with running(app, shutdown_timeout=0.1) as worker:
        await app.dispatch("gate")
        await gate.running.wait()
        worker.stop()
    assert (gate.runs, gate.ended) == (1, 1)
    assert (await app.transport.queues())[f"{app.prefix}.gate"] == 1


async def _deliver_once_in_vain(app: App) -> None:
    """Do what a worker does that dies: claim the message and let the lease run out."""
    from sqlalchemy import text

    deliveries = app.transport.consume([f"{app.prefix}.gate"], 1)
    await anext(deliveries)
    database = app.store.access.database
    with database.writer() as connection, connection.begin():
        connection.execute(text("UPDATE paigeant_holder SET expires_at = 0"))
        connection.execute(text("UPDATE paigeant_message SET owner = 'dead' WHERE owner IS NOT NULL"))
        connection.execute(text("INSERT INTO paigeant_holder (id, expires_at) VALUES ('dead', 0)"))
    await deliveries.aclose()
    await app.close()


async def test_a_message_delivered_in_vain_is_not_blamed(make_app, tmp_path, running):
    """Its step never started: it runs alone, its deliveries are counted, and it completes."""
    app, gate = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}", max_deliveries=1), Gate()
    app.activity(name="gate")(gate)
    gate.go_on.set()
    workflow = await app.dispatch("gate")
    await _deliver_once_in_vain(app)
    async with running(app):
        await app.workflow(str(workflow)).result(SOON)
        assert await app.store.dead_letters() == []
    (step,) = (await app.workflow(str(workflow)).record()).steps
    assert (gate.runs, step.deliveries) == (1, 2)


async def test_a_burst_waits_for_what_went_back_because_of_trouble(make_app, tmp_path, monkeypatch):
    """The message is due again after a delay, and no queue shows it until then."""
    app, ran = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}"), []
    app.activity(name="work")(lambda: ran.append(1))
    await app.dispatch("work")
    worker, admit, failures = Worker(app, burst=True), Runner.admit, iter([RuntimeError("odd")])

    async def fails_once(self, *arguments):
        for error in failures:
            raise error
        return await admit(self, *arguments)

    monkeypatch.setattr(Runner, "admit", fails_once)
    monkeypatch.setattr("paigeant.worker.worker.LONGEST_PAUSE", 5.0)
    await asyncio.wait_for(worker.run(), 60)

    assert ran == [1]


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e18, -1.0])
async def test_a_worker_refuses_a_shutdown_timeout_that_is_no_time(app, gate, seconds):
    """The stop would never end, or the wait for it would fail while steps run."""
    with pytest.raises(InvalidArguments, match="shutdown_timeout"):
        Worker(app, shutdown_timeout=seconds)
