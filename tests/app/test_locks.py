"""Locks: one step at a time, on however many workers."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers import until_async
from sqlalchemy import create_engine, update

from paigeant import ActivityContext, RetryPolicy
from paigeant.decisions.limit import Lock
from paigeant.errors import StoreRequired, WorkflowFailed
from paigeant.stores.tables import locks

pytestmark = pytest.mark.anyio

SOON = 60


class Room:
    """Who is in, how many were at most, and how many have left."""

    def __init__(self) -> None:
        self.inside = self.most = self.left = 0

    def enter(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)

    def leave(self) -> None:
        self.inside -= 1
        self.left += 1

    async def stay(self) -> None:
        self.enter()
        await asyncio.sleep(0.001)
        self.leave()


@pytest.fixture
def app(make_app, broker, tmp_path):
    """With a store that others can open."""
    return make_app(broker, f"sqlite:///{tmp_path / 'paigeant.db'}")


async def test_one_step_of_an_activity_runs_at_a_time(app, running):
    """On two workers that could run twenty; each gets its turn."""
    room = Room()

    @app.activity(lock=True)
    async def work(n: int) -> int:
        await room.stay()
        return n

    async with running(app, concurrency=10), running(app, concurrency=10):
        workflows = [await app.dispatch(work.step(n=n)) for n in range(25)]
        results = await asyncio.gather(*[one.result(SOON) for one in workflows])
    assert (results, room.most, room.left) == ([*range(25)], 1, 25)


async def test_one_step_for_each_value(elsewhere, running):
    """Those of other values run beside it: here they wait for each other inside."""
    app, rooms, both = elsewhere, {"ada": Room(), "bob": Room()}, asyncio.Barrier(2)

    @app.activity(lock="customer:{customer}")
    async def work(customer: str) -> None:
        room = rooms[customer]
        room.enter()
        await both.wait()
        room.leave()

    async with running(app, concurrency=10):
        workflows = [await app.dispatch(work.step(customer=one)) for one in ("ada", "bob") * 4]
        await asyncio.gather(*[one.result(SOON) for one in workflows])
    assert {name: (room.most, room.left) for name, room in rooms.items()} == {"ada": (1, 4), "bob": (1, 4)}


async def test_a_lock_is_of_its_name(app, running):
    """Two activities that name the same one take turns, also in one workflow."""
    room = Room()

    @app.activity(lock="account")
    async def debit() -> None:
        await room.stay()

    @app.activity(lock="account")
    async def credit() -> None:
        await room.stay()

    async with running(app, concurrency=10):
        workflows = [await app.dispatch(*steps) for steps in ((debit, credit), (credit, debit)) * 4]
        await asyncio.gather(*[one.result(SOON) for one in workflows])
    assert (room.most, room.left) == (1, 16)


async def test_a_step_that_waits_or_fails_has_no_lock(app, running):
    """It is given back with each end of a run, and taken again with the next."""
    room = Room()

    @app.activity(lock=True, retry=RetryPolicy(attempts=3, delay=0.01))
    async def work(ctx: ActivityContext) -> int:
        await room.stay()
        ctx.await_signal("go", timeout=SOON)
        await room.stay()
        if ctx.attempt == 1:
            raise OSError("not yet")
        return ctx.attempt

    async with running(app, concurrency=10):
        workflows = [await app.dispatch(work) for _ in range(3)]
        for _ in range(2):
            for one in workflows:
                await one.signal("go")
        assert [await one.result(SOON) for one in workflows] == [2, 2, 2]
    assert room.most == 1


async def test_what_was_done_without_the_lock_is_refused(app, running):
    """Somebody else took it over while the step ran: the step runs again when that one is done."""
    runs = []

    @app.activity(lock=True)
    async def work(ctx: ActivityContext) -> int:
        runs.append(ctx.deliveries)
        if len(runs) == 1:
            await _stolen(app, ctx.message.id)
        return len(runs)

    async with running(app):
        workflow = await app.dispatch(work)
        await until_async(lambda: _is_parked(workflow))
        assert len(runs) == 1
        await app.store.free_locks([_thief(app)])
        assert await workflow.result(SOON) == 2


def _thief(app):
    return Lock(key=f"lock:{app.prefix}:work", holder="thief", worker="elsewhere")


async def _stolen(app, holder):
    """Take the lock over, as if the lease of its holder had ended."""
    with create_engine(app.store.url).begin() as connection:
        taken = {"holder": "thief", "worker": "elsewhere", "until": time.time() + 3600}
        changed = connection.execute(update(locks).where(locks.c.holder == holder).values(**taken))
        assert changed.rowcount == 1


async def _is_parked(workflow):
    return [step.status for step in (await workflow.record()).steps].count("parked") == 1


async def test_a_paused_workflow_keeps_nobody_from_the_lock(app, running):
    """Its step is granted the lock, does not start, and passes it on to the next."""
    go, runs = asyncio.Event(), []

    @app.activity(lock=True)
    async def work(n: int) -> int:
        runs.append(n)
        await go.wait()
        return n

    async with running(app, concurrency=10):
        first = await app.dispatch(work.step(n=1))
        await until_async(lambda: _is_true(runs == [1]))
        paused = await app.dispatch(work.step(n=2))
        await until_async(lambda: _is_parked(paused))
        last = await app.dispatch(work.step(n=3))
        await until_async(lambda: _is_parked(last))
        await paused.pause()
        go.set()
        assert [await first.result(SOON), await last.result(15)] == [1, 3]
        await paused.resume()
        assert await paused.result(SOON) == 2
    assert runs == [1, 3, 2]


async def _is_true(value):
    return value


async def test_a_lock_without_its_value_fails_the_step(app, running):
    """And not its worker."""

    @app.activity(lock="{missing}")
    async def work() -> None: ...

    async with running(app):
        workflow = await app.dispatch(work)
        with pytest.raises(WorkflowFailed, match=r"\{missing\} in it, and 'missing' has no value"):
            await workflow.result(SOON)


def test_a_lock_needs_a_store(make_app):
    """It says so at dispatch."""
    app = make_app("memory://", "none")

    @app.activity(lock=True)
    async def work() -> None: ...

    with pytest.raises(StoreRequired, match="the lock of step 'work'"):
        app.dispatch(work)


@pytest.mark.parametrize("wish", ["cancel", "pause"])
async def test_no_body_begins_after_a_wish_that_came_while_the_locks_were_taken(app, running, monkeypatch, wish):
    """The workflow's standing is asked for again directly before the body; the lock is free afterwards (G10)."""
    began, go_on, taking = [], asyncio.Event(), asyncio.Event()

    @app.activity(lock=True)
    async def work(n: int) -> int:
        began.append(n)
        return n

    take = app.store.take_locks

    async def slow(*given):
        lacking = await take(*given)
        taking.set()
        await go_on.wait()
        return lacking

    async with running(app):
        monkeypatch.setattr(app.store, "take_locks", slow)
        stopped = await app.dispatch(work.step(n=1))
        await asyncio.wait_for(taking.wait(), SOON)
        await getattr(stopped, wish)()
        go_on.set()
        other = await app.dispatch(work.step(n=2))
        assert await other.result(SOON) == 2
    assert began == [2]


async def test_no_attempt_in_place_begins_after_a_pause(app, running):
    """Also a retry that follows at once asks whether it may start."""
    tried, began, go_on = [], asyncio.Event(), asyncio.Event()

    @app.activity(retry=RetryPolicy(attempts=5, quick=4))
    async def work() -> None:
        tried.append(1)
        began.set()
        await go_on.wait()
        raise ValueError("not yet")

    async with running(app):
        workflow = await app.dispatch(work)
        await asyncio.wait_for(began.wait(), SOON)
        await workflow.pause()
        go_on.set()
        await until_async(lambda: app.store.held(workflow.correlation_id, "pause"), SOON)
    assert tried == [1]
