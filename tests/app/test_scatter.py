"""Scatter and gather: branches run side by side and come together once; with broker and store in one and apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import until_async

from paigeant import (
    ActivityContext,
    App,
    BranchResult,
    RetryPolicy,
    RoutingSlip,
    quorum,
    scatter,
    scatter_map,
    sleep,
)
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
    def fail(value: int) -> int:
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
        with pytest.raises(WorkflowFailed, match="the output of the step before is not a list"):
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


# --- tried again -----------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(steps: App) -> Any:
    """Branches of which some fail as long as they are told to; what ran."""
    broken, ran = {"b"}, list[str]()

    @steps.activity
    def begin(value: Any, what: str) -> str:
        ran.append(f"begin {what}")
        return what

    @steps.activity
    def part(what: str, ctx: ActivityContext) -> str:
        ran.append(f"part {what}")
        if what in broken:
            raise ConnectionError(f"no {what}")
        return f"{what}{ctx.variables.get('mark', '')}"

    return SimpleNamespace(app=steps, broken=broken, ran=ran, of=lambda what: [begin.step(what=what), part])


async def test_retried_it_runs_what_has_not_completed(parts, running):
    """A branch that failed goes on from its step that failed, with the workflow's variables as they are now."""
    async with running(parts.app):
        workflow = await parts.app.dispatch(
            "start", scatter(parts.of("a"), parts.of("b"), policy=quorum(2)), "outputs", variables={"mark": "?"}
        )
        with pytest.raises(WorkflowFailed, match="branch 1: ConnectionError: no b"):
            await workflow.result(20)
        await workflow.retry()
        with pytest.raises(WorkflowFailed, match="branch 1: ConnectionError: no b"):
            await workflow.result(20)
        parts.broken.clear()
        letter = (await parts.app.dead_letters.list())[0]
        await parts.app.dead_letters.edit(letter.id, variables={"mark": "!"})
        await workflow.retry()
        assert await workflow.result(20) == ["a?", "b!"]
    assert sorted(parts.ran) == ["begin a", "begin b", "part a", *["part b"] * 3]


async def test_its_retry_policy_is_for_the_branches_that_failed(parts, running):
    """Each attempt of the scatter runs those."""
    again = RetryPolicy(attempts=3, delay=0)
    async with running(parts.app):
        workflow = await parts.app.dispatch("start", scatter(parts.of("a"), parts.of("b")).options(retry=again))
        with pytest.raises(WorkflowFailed, match="BranchesFailed"):
            await workflow.result(20)
        assert parts.ran.count("part b") == 3
        assert [step.status for step in (await workflow.record()).steps][-5:].count("retried") == 2
    assert parts.ran.count("begin b") == 1


@pytest.mark.parametrize("by", ["its policy", "an operator", "a retry"])
async def test_an_activity_that_fails_after_its_scatter_has_the_results(parts, running, by):
    """Of all rounds, whoever has it tried again."""
    failures = ["down"]

    @parts.app.activity(
        retry={"its policy": RetryPolicy(attempts=2), "an operator": RetryPolicy(attempts=1, exhausted="park")}.get(by)
    )
    def both(ctx: ActivityContext, value: int) -> list[str]:
        outputs = [one.output for one in ctx.scatter(parts.of("a"), parts.of("c"))]
        if failures:
            raise OSError(failures.pop())
        return outputs

    async with running(parts.app):
        workflow = await parts.app.dispatch("start", both)
        if by == "an operator":
            await until_async(lambda: parts.app.store.held(key="operator:"))
            await workflow.retry()
        if by == "a retry":
            with pytest.raises(WorkflowFailed, match="OSError: down"):
                await workflow.result(20)
            await workflow.retry()
        assert await workflow.result(20) == ["a", "c"]
    assert sorted(parts.ran) == ["begin a", "begin c", "part a", "part c"]


async def test_what_a_reused_branch_did_is_taken_back_once(parts, running):
    """When the workflow fails for good after all."""
    did = list[str]()

    @parts.app.activity
    def book(value: Any) -> str:
        did.append("book")
        return "a seat"

    @book.compensate
    def unbook(seat: str) -> None:
        did.append("unbook")

    @parts.app.activity(retry=RetryPolicy(attempts=1, exhausted="park"))
    def both(ctx: ActivityContext, value: int) -> None:
        ctx.scatter(book)
        raise OSError("down")

    async with running(parts.app):
        workflow = await parts.app.dispatch("start", both)
        await until_async(lambda: parts.app.store.held(key="operator:"))
        await workflow.retry()
        await until_async(lambda: parts.app.store.held(key="operator:"))
        await workflow.cancel(compensate=True)
        with pytest.raises(WorkflowError, match="compensated"):
            await workflow.result(20)
    assert did == ["book", "unbook"]


@pytest.fixture
def rooms(app: App) -> tuple[App, list[str], dict[str, asyncio.Event]]:
    """Reservations that end when they are told to, and what was done."""
    log: list[str] = []
    ends = {room: asyncio.Event() for room in "ABC"}

    @app.activity
    async def reserve(room: str) -> str:
        log.append(f"begin {room}")
        await ends[room].wait()
        log.append(f"reserved {room}")
        return room

    @reserve.compensate
    async def release(room: str) -> None:
        log.append(f"released {room}")

    @app.activity
    async def first(results: list[BranchResult[str]]) -> list[str]:
        return [one.output for one in results if one.is_completed]

    return app, log, ends


async def test_losers_that_complete_all_the_same_are_compensated(rooms, running):
    """Their last step was running when the join was decided; the winner keeps its effect."""
    app, log, ends = rooms
    branches = [app.activities["reserve"].step(room=room) for room in "ABC"]
    async with running(app):
        workflow = await app.dispatch(scatter(*branches, policy="any"), "first")
        await until_async(lambda: asyncio.sleep(0, len(log) == 3))
        ends["A"].set()
        assert await workflow.result(20) == ["A"]
        ends["B"].set()
        ends["C"].set()
        await until_async(lambda: asyncio.sleep(0, {"released B", "released C"} <= {*log}))

        async def are_over() -> bool:
            found = await app.store.workflows(parent=str(workflow))
            return sorted(one.status for one in found) == ["compensated", "compensated", "completed"]

        await until_async(are_over)
    assert "released A" not in log
    assert sorted(one for one in log if one.startswith("reserved")) == ["reserved A", "reserved B", "reserved C"]


async def test_a_scatter_that_is_tried_again_waits_for_its_branches(rooms, running):
    """A branch has one run at a time: the next one begins when the first was compensated."""
    app, log, ends = rooms
    fails = [False, True]

    @app.activity
    def shaky() -> str:
        if fails.pop():
            raise ValueError("not yet")
        return "ok"

    step = scatter(shaky, app.activities["reserve"].step(room="A")).options(retry=RetryPolicy(attempts=2, delay=0.01))
    async with running(app):
        workflow = await app.dispatch(step, "first")
        await until_async(lambda: asyncio.sleep(0, log == ["begin A"] and len(fails) == 1))

        async def was_put_off() -> bool:
            branches = await app.store.workflows(parent=str(workflow))
            return any(one.cancellation is not None for one in branches)

        await until_async(was_put_off)
        ends["A"].set()
        assert await workflow.result(20) == ["ok", "A"]
    assert log == ["begin A", "reserved A", "released A", "begin A", "reserved A"]
