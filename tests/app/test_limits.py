"""Concurrency and rate limits: so many steps at a time, or so many starts in a while, on however many workers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from itertools import pairwise

import pytest
from helpers import until_async

from paigeant import ActivityContext, RetryPolicy, scatter
from paigeant.errors import ConfigurationError, StoreRequired
from paigeant.testing import run

pytestmark = pytest.mark.anyio

SOON = 60


class Rooms:
    """How many are in each room, how many were at most, and how many have left."""

    def __init__(self) -> None:
        self.inside, self.most, self.left = Counter(), Counter(), Counter()

    async def visit(self, room: str, stay: Awaitable[object] | None = None) -> None:
        self.inside[room] += 1
        self.most[room] = max(self.most[room], self.inside[room])
        await (stay or asyncio.sleep(0.005))
        self.inside[room] -= 1
        self.left[room] += 1


@pytest.fixture
def app(make_app, broker, tmp_path):
    """With a store that others can open."""
    return make_app(broker, f"sqlite:///{tmp_path / 'paigeant.db'}")


async def results(app, steps):
    """Of workflows of one step each."""
    workflows = [await app.dispatch(step) for step in steps]
    return await asyncio.gather(*[one.result(SOON) for one in workflows])


async def test_so_many_run_at_a_time(app, running):
    """On two workers that could run twenty: here they wait for each other inside. No attempt is counted."""
    rooms, three = Rooms(), asyncio.Barrier(3)

    @app.activity(concurrency=3)
    async def work(n: int, ctx: ActivityContext) -> tuple[int, int]:
        await rooms.visit("one", three.wait())
        return n, ctx.attempt

    async with running(app, concurrency=10), running(app, concurrency=10):
        found = await results(app, [work.step(n=n) for n in range(24)])
    assert found == [(n, 1) for n in range(24)]
    assert (rooms.most["one"], rooms.left["one"]) == (3, 24)


async def test_so_many_for_each_value_and_in_all(elsewhere, running):
    """Two limits of one activity: a step has a place of each, or waits and has none."""
    app, rooms = elsewhere, Rooms()

    @app.activity(concurrency={"api": 3, "customer:{customer}": 2})
    async def work(customer: str) -> None:
        await asyncio.gather(rooms.visit("all"), rooms.visit(customer))

    async with running(app, concurrency=12):
        await results(app, [work.step(customer=one) for one in ("ada", "ada", "ada", "bob", "eve") * 4])
    assert rooms.left == {"all": 20, "ada": 12, "bob": 4, "eve": 4}
    assert rooms.most["all"] <= 3
    assert rooms.most["ada"] <= 2


async def test_a_lock_and_a_limit_do_not_wait_for_each_other(app, running):
    """Two activities take the same two in different ways: everything comes to its end."""
    rooms = Rooms()

    @app.activity(lock="a", concurrency={"b": 2})
    async def one() -> None:
        await asyncio.gather(rooms.visit("a"), rooms.visit("b"))

    @app.activity(lock="b", concurrency={"b": 2, "c": 1})
    async def other() -> None:
        await asyncio.gather(rooms.visit("b"), rooms.visit("c"))

    async with running(app, concurrency=10):
        await results(app, [one, other] * 8)
    assert rooms.left == {"a": 8, "b": 16, "c": 8}
    assert rooms.most["b"] <= 2
    assert (rooms.most["a"], rooms.most["c"]) == (1, 1)


async def test_who_has_waited_longest_is_next(app, running):
    """Also where time gives the turns."""
    order = []

    @app.activity(rate="4/s")
    async def work(n: int) -> None:
        order.append(n)

    async with running(app, concurrency=10):
        workflows = [await app.dispatch(work.step(n=0))]
        await workflows[0].result(SOON)
        for n in range(1, 6):
            workflows.append(await app.dispatch(work.step(n=n)))
            await until_async(lambda: _has_come(workflows[-1]))
        await asyncio.gather(*[one.result(SOON) for one in workflows])
    assert order == [*range(6)]


async def _has_come(workflow):
    return [step.status for step in (await workflow.record()).steps] != ["pending"]


async def test_starts_are_spread_over_workers_and_time(elsewhere, running):
    """Nothing is held meanwhile but a row in the store."""
    app, starts = elsewhere, []

    @app.activity(rate={"api:{of}": "10/s"})
    async def work(of: str) -> None:
        starts.append(of)

    began = time.monotonic()
    async with running(app, concurrency=5), running(app, concurrency=5):
        await results(app, [work.step(of=of) for of in ("ada", "bob") * 8])
    assert time.monotonic() - began >= 7 * 0.1
    assert Counter(starts) == {"ada": 8, "bob": 8}


def test_a_rate_is_kept_by_the_clock(make_app):
    """In virtual time: twenty branches want to start at once, and no minute sees more than eight of them."""
    app = make_app("memory://")
    starts = []

    @app.activity(rate="8/m")
    async def work(n: int) -> int:
        starts.append(asyncio.get_running_loop().time())
        return n

    ran = run(app, scatter(*[work.step(n=n) for n in range(20)]))
    assert ran.status == "completed"
    assert all(later - first >= 60 - 1 for first, later in zip(starts, starts[8:], strict=False))
    assert 19 * 7.5 <= ran.seconds <= 19 * 7.5 + 30


def test_each_start_of_a_step_needs_a_turn(make_app):
    """Retries in place, too: they go over the queue, and wait."""
    app = make_app("memory://")

    @app.activity(rate="1/m", retry=RetryPolicy(attempts=4, quick=3))
    async def work(ctx: ActivityContext) -> int:
        if ctx.attempt < 4:
            raise OSError("not yet")
        return ctx.attempt

    ran = run(app, work)
    assert ran.result() == 4
    starts = [step.started_at for step in ran.record.steps if step.status in ("retried", "completed")]
    assert len(starts) == 4
    assert all(59 <= later - earlier <= 65 for earlier, later in pairwise(starts))


async def test_a_step_that_waits_holds_no_place(app, running):
    """It takes one again when it goes on."""

    @app.activity(concurrency=1)
    async def work(ctx: ActivityContext, n: int) -> int:
        ctx.await_signal("go", timeout=SOON)
        return n

    async with running(app, concurrency=10):
        workflows = [await app.dispatch(work.step(n=n)) for n in range(3)]
        for one in reversed(workflows):
            await one.signal("go")
        assert [await one.result(SOON) for one in workflows] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "what"),
    [({"concurrency": 2}, "the concurrency limit of step 'work'"), ({"rate": "5/s"}, "the rate limit of step 'work'")],
)
def test_a_limit_needs_a_store(make_app, options, what):
    """It says so at dispatch."""
    app = make_app("memory://", "none")

    @app.activity(**options)
    async def work() -> None: ...

    with pytest.raises(StoreRequired, match=what):
        app.dispatch(work)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"rate": "often"}])
def test_a_limit_that_makes_no_sense_is_refused_where_it_stands(app, options):
    """Not when a step runs into it."""
    with pytest.raises(ConfigurationError, match="activity 'work'"):

        @app.activity(**options)
        async def work() -> None: ...
