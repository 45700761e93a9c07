"""Scatter and gather: branches run side by side and come together once; with broker and store in one and apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, BranchResult, RoutingSlip, quorum, scatter, scatter_map, sleep
from paigeant.errors import InvalidArguments, StoreRequired, WorkflowError, WorkflowFailed

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


@pytest.fixture
def steps(app: App) -> App:
    """Small activities to make branches of."""

    @app.activity
    def start() -> int:
        return 5

    @app.activity
    def double(value: int) -> int:
        return value * 2

    @app.activity
    def add(value: int, term: int = 1) -> int:
        return value + term

    @app.activity
    def fail(value: int = 0) -> int:
        raise ValueError(f"no {value}")

    @app.activity
    def outputs(results: list[BranchResult[Any]]) -> list[Any]:
        return [one.output for one in results]

    @app.activity
    def statuses(results: list[BranchResult[int]]) -> list[str]:
        return [one.status for one in results]

    return app


async def test_branches_begin_with_what_came_before_and_come_together_in_order(steps, running):
    """One, several or a slip of steps each, and a branch that scatters itself."""
    double, add = steps.activities["double"], steps.activities["add"]
    slip = RoutingSlip(itinerary=(double.step(), double.step()), variables={"term": 100})
    slip = slip.model_copy(update={"itinerary": (*slip.itinerary, add.step())})
    async with running(steps):
        workflow = await steps.dispatch(
            "start", scatter("double", add.step(term=3), ["double", "add"], slip), "outputs"
        )
        assert await workflow.result(20) == [10, 8, 11, 120]
        nested = await steps.dispatch("start", scatter([scatter("double", "add"), "outputs"], "double"), "outputs")
        assert await nested.result(20) == [[10, 6], 10]


async def test_a_branch_for_each_item_of_a_list(steps, running):
    """Of the step before or another one; also for none."""

    @steps.activity
    def count(upto: int) -> list[int]:
        return list(range(upto))

    @steps.activity
    def forget(numbers: list[int]) -> None:
        pass

    async with running(steps):
        for upto in (0, 1, 5):
            workflow = await steps.dispatch(count.step(upto=upto), scatter_map("double", "add"), "outputs")
            assert await workflow.result(20) == [2 * one + 1 for one in range(upto)]
        workflow = await steps.dispatch(count.step(upto=3), forget, scatter_map("double", over="count"), "outputs")
        assert await workflow.result(20) == [0, 2, 4]
        wrong = await steps.dispatch("start", scatter_map("double"))
        with pytest.raises(WorkflowFailed, match="the output of the step before is no list"):
            await wrong.result(20)


@pytest.mark.parametrize(
    ("policy", "branches", "expected"),
    [
        ("all", ("double", "double"), ["completed", "completed"]),
        ("any", (sleep(3600), "double", sleep(3600)), ["cancelled", "completed", "cancelled"]),
        (quorum(2), ("double", sleep(3600), "add"), ["completed", "cancelled", "completed"]),
        ("settled", ("fail", "double"), ["failed", "completed"]),
    ],
)
async def test_a_policy_says_how_many_must_complete(steps, running, policy, branches, expected):
    """What still runs then is cancelled."""
    async with running(steps):
        workflow = await steps.dispatch("start", scatter(*branches, policy=policy), "statuses")
        assert await workflow.result(20) == expected

        async def nothing_runs() -> bool:
            standing = [one.status for one in await steps.store.workflows(limit=10)]
            cancelled = standing.count("cancelled") == expected.count("cancelled")
            return cancelled and all(one.is_terminal for one in standing)

        await until_async(nothing_runs)


async def test_too_many_failures_fail_the_step(steps, running):
    """With the first error; and nothing waits for the branch that sleeps."""
    async with running(steps):
        workflow = await steps.dispatch("start", scatter("fail", sleep(3600)), "outputs")
        with pytest.raises(WorkflowFailed, match=r"BranchesFailed: 0 of 2 .* branch 0: ValueError: no 5"):
            await workflow.result(20)


async def test_a_deadline_gathers_what_there_is(steps, running):
    """Branches that have not ended count as cancelled."""
    async with running(steps):
        settled = scatter("double", sleep(3600), policy="settled", deadline=0.3)
        workflow = await steps.dispatch("start", settled, "statuses")
        assert (await workflow.result(20))[1] == "cancelled"
        failed = await steps.dispatch("start", scatter("double", sleep(3600), deadline=0.3), "statuses")
        with pytest.raises(WorkflowFailed, match="of 2 branches completed, 2 had to"):
            await failed.result(20)


async def test_an_activity_scatters(steps, running):
    """And twice, each with its own branches."""

    @steps.activity
    def both(ctx: ActivityContext, value: int) -> list[int]:
        first = ctx.scatter("double", "add")
        second = ctx.scatter(*["add"] * len(first), policy="any")
        return [one.output for one in first] + [sum(one.is_completed for one in second)]

    async with running(steps):
        workflow = await steps.dispatch("start", both)
        doubled, added, completed = await workflow.result(20)
        assert (doubled, added) == (10, 6)
        assert completed >= 1


def test_what_cannot_be_met_is_refused_at_dispatch(make_app):
    """And so is a scatter without a store."""
    with pytest.raises(InvalidArguments, match="a scatter over 0 branches cannot wait for 1 of them"):
        scatter(policy="any")
    with pytest.raises(InvalidArguments, match="over 1 branches cannot wait for 2"):
        scatter("one", policy=quorum(2))
    with pytest.raises(InvalidArguments, match="'most' is no policy of a scatter"):
        scatter("one", policy="most")
    with pytest.raises(StoreRequired, match=r"'paigeant\.scatter' waits in a store"):
        make_app("amqp://127.0.0.1:1").dispatch(scatter("one"))


@pytest.mark.parametrize("ending", ["a branch fails", "a later step fails", "cancelled"])
async def test_what_completed_branches_did_is_taken_back(steps, running, ending):
    """By the workflow that scattered them, whether it fails there, later, or is cancelled."""
    did = []

    @steps.activity
    def book(value: Any, what: str) -> str:
        did.append(what)
        return what

    @book.compensate
    def unbook(output: str) -> None:
        did.append(f"-{output}")

    @steps.activity
    def wait_and_fail(ctx: ActivityContext, value: int) -> None:
        ctx.await_signal("go")
        raise ValueError("no room")

    async def booked() -> bool:
        return {"a", "b", "c"} <= set(did)

    branches = [book.step(what="a"), [book.step(what="b"), scatter(book.step(what="c"))]]
    async with running(steps):
        match ending:
            case "a later step fails":
                workflow = await steps.dispatch("start", scatter(*branches), "fail")
            case _:
                workflow = await steps.dispatch("start", scatter(*branches, wait_and_fail))
                await until_async(booked)
        if ending == "a branch fails":
            loser = [one for one in await steps.store.held(key="signal:go") if one.activity == "wait_and_fail"]
            await steps.workflow(loser[0].correlation_id).signal("go")
        if ending == "cancelled":
            await workflow.cancel(compensate=True)
        with pytest.raises(WorkflowError):
            await workflow.result(20)
        await until_async(lambda: asyncio.sleep(0, {"-a", "-b", "-c"} <= set(did)))
        assert sorted(did) == sorted(["a", "b", "c", "-a", "-b", "-c"])
        assert did.index("-c") < did.index("-b")
