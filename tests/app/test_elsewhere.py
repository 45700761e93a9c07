"""Every way in which workflows can go, on RabbitMQ with PostgreSQL and on Redis with SQLite; all at once, to be quick.

The details of each are tested on SQLite, in the files of their own. Locks, time limits, large values, idempotency keys
and dependencies that fail are on other brokers there as well; crashes, many sleepers and many branches in tests/crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from helpers import until_async

from paigeant import (
    ActivityContext,
    App,
    RetryPolicy,
    Terminate,
    Workflow,
    await_approval,
    await_signal,
    quorum,
    scatter,
    scatter_map,
    sleep,
)
from paigeant.errors import WorkflowCancelled, WorkflowError, WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 90

Scenario = Callable[[App], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}
DID: list[str] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


@pytest.fixture
def app(elsewhere: App) -> App:
    """With small activities to make workflows of."""
    DID.clear()
    _that_work(elsewhere)
    _that_change_the_workflow(elsewhere)
    elsewhere.schedule("hourly", elsewhere.activities["add"].step(value=1), every=3600, paused=True)
    return elsewhere


def _that_work(app: App) -> None:
    @app.activity
    def add(value: int, term: int = 1) -> int:
        return value + term

    @app.activity
    def count(upto: int) -> list[int]:
        return list(range(upto))

    @app.activity(retry=RetryPolicy(attempts=3, delay=0.1, jitter=False))
    def third_try(ctx: ActivityContext) -> int:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return ctx.attempt

    @app.activity(retry=RetryPolicy(exhausted="park"))
    def second_life(ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("down")
        return ctx.attempt

    @app.activity
    def book(what: str) -> str:
        return what

    @book.compensate
    def unbook(what: str) -> None:
        DID.append(f"-{what}")

    @app.activity
    def fail() -> None:
        raise ValueError("no")


def _that_change_the_workflow(app: App) -> None:
    add = app.activities["add"]

    @app.activity
    def edit(ctx: ActivityContext, value: int) -> int:
        ctx.insert(add.step(term=10), add.step(term=100))
        ctx.skip("fail")
        return value

    @app.activity
    def end(value: int) -> None:
        raise Terminate(value)

    @app.activity
    def parent(ctx: ActivityContext) -> int:
        child = ctx.dispatch(add.step(value=1))
        return int(ctx.wait_for(child, type=int))


async def parked(workflow: Workflow) -> None:
    """Wait until a step of the workflow waits."""

    async def waits() -> bool:
        return any(step.status == "parked" for step in (await workflow.record()).steps)

    await until_async(waits, SOON)


async def fails(workflow: Workflow, kind: type[WorkflowError], match: str | None = None) -> None:
    with pytest.raises(kind, match=match):
        await workflow.result(SOON)


# --- the ways ---------------------------------------------------------------------------------------------------------


@scenario
async def retries(app: App) -> None:
    assert await (await app.dispatch("third_try")).result(SOON) == 3


@scenario
async def an_operator_tries_again(app: App) -> None:
    workflow = await app.dispatch("second_life")
    await parked(workflow)
    assert await workflow.retry(by="ada") == ["1"]
    assert await workflow.result(SOON) == 2


@scenario
async def compensation(app: App) -> None:
    book = app.activities["book"]
    await fails(await app.dispatch(book.step(what="a"), book.step(what="b"), "fail"), WorkflowFailed, "ValueError: no")
    assert [one for one in DID if one in ("-a", "-b")] == ["-b", "-a"]


@scenario
async def branches_come_together(app: App) -> None:
    start, add = app.activities["add"].step(value=1), app.activities["add"]
    workflow = await app.dispatch(start, scatter(add, [add, sleep(0.1), add], scatter("add", "add")))
    first, second, third = await workflow.result(SOON)
    assert (first.output, second.output) == (3, 4)
    assert [one["output"] for one in third.output] == [3, 3]


@scenario
async def enough_branches_are_enough(app: App) -> None:
    start = app.activities["add"].step(value=1)
    workflow = await app.dispatch(start, scatter("add", sleep(3600), "add", policy=quorum(2)))
    assert [one.status for one in await workflow.result(SOON)] == ["completed", "cancelled", "completed"]


@scenario
async def a_branch_for_each_item(app: App) -> None:
    workflow = await app.dispatch(app.activities["count"].step(upto=3), scatter_map("add"))
    assert [one.output for one in await workflow.result(SOON)] == [1, 2, 3]


@scenario
async def the_itinerary_changes(app: App) -> None:
    workflow = await app.dispatch(app.activities["edit"].step(value=1), "fail", "end", "fail")
    assert await workflow.result(SOON) == 111


@scenario
async def a_child_is_waited_for(app: App) -> None:
    assert await (await app.dispatch("parent")).result(SOON) == 2


@scenario
async def a_sleep_is_never_early(app: App) -> None:
    began = time.time()
    assert await (await app.dispatch(app.activities["add"].step(value=1), sleep(0.5), "add")).result(SOON) == 3
    assert time.time() - began >= 0.5


@scenario
async def signals(app: App) -> None:
    early, late = [await app.dispatch(await_signal("number"), "add") for _ in range(2)]
    await early.signal("number", 1)
    await parked(late)
    await late.signal("number", 2)
    assert [await early.result(SOON), await late.result(SOON)] == [2, 3]


@scenario
async def approvals(app: App) -> None:
    workflow = await app.dispatch(app.activities["add"].step(value=1), await_approval("Go on?"), "add")
    await parked(workflow)
    await workflow.decide(True, by="ada")
    assert await workflow.result(SOON) == 3


@scenario
async def cancelling(app: App) -> None:
    book = app.activities["book"]
    simple = await app.dispatch(sleep(3600))
    thorough = await app.dispatch(book.step(what="c"), sleep(3600))
    await parked(thorough)
    await simple.cancel(by="ada")
    await thorough.cancel(compensate=True)
    await fails(simple, WorkflowCancelled, "by ada")
    await fails(thorough, WorkflowError)
    assert (await thorough.status(), "-c" in DID) == ("compensated", True)


@scenario
async def pausing(app: App) -> None:
    workflow = await app.dispatch(await_signal("go"), app.activities["add"].step(value=1))
    await workflow.pause()
    await workflow.signal("go")
    assert await workflow.status() == "paused"
    await workflow.resume()
    assert await workflow.result(SOON) == 2


@scenario
async def schedules(app: App) -> None:
    workflow = await app.schedules.run("hourly")
    assert workflow is not None
    assert await workflow.result(SOON) == 2
    assert [one.paused for one in await app.schedules.list()] == [True]


async def test_all_ways_lead_to_an_end_on_other_brokers(app, running):
    """And nothing is left on the broker when they have."""
    async with running(app):
        ends = await asyncio.gather(*(one(app) for one in SCENARIOS.values()), return_exceptions=True)
        wrong = {name: end for name, end in zip(SCENARIOS, ends, strict=True) if end is not None}
        assert wrong == {}

        async def nothing_left() -> bool:
            depths = await app.transport.queues()  # of a server that others use, too
            return not any(depth for name, depth in depths.items() if name.startswith(f"{app.prefix}."))

        await until_async(nothing_left, SOON)
