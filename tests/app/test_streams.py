"""What running steps show reaches whoever reads the workflow's events, on every broker with a store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import date
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, RetryPolicy
from paigeant.errors import StoreError
from paigeant.runner.progress import LARGEST
from paigeant.stores.sql import SqlStore

pytestmark = pytest.mark.anyio

SOON = 30
SHOWN = ("step_yielded", "step_emitted", "step_progressed", "step_restarted")


async def shown(workflow: Any, after: int = 0) -> list[Any]:
    async with asyncio.timeout(SOON):
        return [event async for event in workflow.events(after) if event.type in SHOWN]


async def test_what_a_step_shows_comes_while_it_runs_and_in_order(elsewhere, running):
    """Over RabbitMQ with PostgreSQL and Redis with SQLite; then again, and from an offset."""
    app, go_on = elsewhere, asyncio.Event()

    @app.activity
    async def write(ctx: ActivityContext) -> AsyncIterator[int]:
        yield 1
        ctx.emit("two")
        await ctx.heartbeat("three")
        await go_on.wait()
        yield 4

    async with running(app), asyncio.timeout(SOON):
        workflow, seen = await app.dispatch(write), []
        async for event in workflow.events():
            if event.type in SHOWN:
                seen.append(event)
                if event.data["value"] == "three":
                    go_on.set()
        assert [one.data["value"] for one in seen] == [1, "two", "three", 4]
        assert [one.data["index"] for one in seen] == [0, 0, 0, 1]
        assert await workflow.result() == [1, 4]
        assert await shown(workflow) == seen
        assert await shown(workflow, after=seen[1].offset) == seen[2:]


async def test_everything_shown_stands_before_the_end_of_the_step(app, running):
    """However quickly it comes."""

    @app.activity
    async def burst(ctx: ActivityContext) -> None:
        ctx.emit(0)
        await asyncio.sleep(0)  # this is on its way when the others come
        for number in range(1, 900):
            ctx.emit(number)

    async with running(app):
        workflow = await app.dispatch(burst)
        await workflow.result(SOON)
        types = [event.type async for event in workflow.events()]
    assert [one for one in types if one != "step_started"] == [
        "workflow_dispatched",
        *["step_emitted"] * 900,
        "step_completed",
        "workflow_completed",
    ]


# --- plain functions -------------------------------------------------------------------------------------------------


async def test_plain_generators_show_what_they_yield(app, running):
    """The output is the list of it, or what the generator returns."""
    go_on = threading.Event()

    @app.activity
    def count(n: int) -> Iterator[date]:
        for day in range(1, n + 1):
            yield date(2026, 1, day)
            assert go_on.wait(SOON)

    @app.activity
    def total(days: list[date]) -> Generator[int, None, str]:
        for day in days:
            yield day.day
        return "done"

    async with running(app), asyncio.timeout(SOON):
        workflow = await app.dispatch(count.step(n=2))
        async for event in workflow.events():
            if event.type == "step_yielded":
                break
        go_on.set()
        assert await workflow.result() == [date(2026, 1, 1), date(2026, 1, 2)]
        workflow = await app.dispatch(total.step(days=[date(2026, 1, 5)]))
        assert await workflow.result() == "done"
        assert [one.data["value"] for one in await shown(workflow)] == [5]


async def test_plain_functions_emit_from_their_thread(app, running):
    """In order, and all of it before the step's end."""

    @app.activity
    def work(ctx: ActivityContext) -> None:
        for number in range(3):
            ctx.emit({"done": number})

    async with running(app):
        workflow = await app.dispatch(work)
        await workflow.result(SOON)
        assert [one.data["value"] for one in await shown(workflow)] == [{"done": number} for number in range(3)]


# --- never in the way ------------------------------------------------------------------------------------------------


async def test_what_cannot_be_shown_does_not_fail_the_step(app, running):
    """A value too large is shown by its size; one that is no JSON is not shown."""

    @app.activity
    async def work(ctx: ActivityContext) -> str:
        ctx.emit("x" * (LARGEST + 1))
        ctx.emit(object())
        ctx.emit("é" * 6000)
        return "done"

    async with running(app):
        workflow = await app.dispatch(work)
        assert await workflow.result(SOON) == "done"
        large, small = [one.data for one in await shown(workflow)]
    assert (large["value"], large["omitted"]) == (None, LARGEST + 3)
    assert (small["value"], small["omitted"], small["index"]) == ("é" * 6000, 0, 1)


async def test_a_store_that_refuses_what_is_shown_does_not_fail_the_step(app, running, monkeypatch):
    """The step goes on and ends; what is shown afterwards is seen."""
    record, refused = SqlStore.record, asyncio.Event()

    async def trouble(self, events, outbox=(), cause=None):
        if any(event.type == "step_yielded" for event in events) and not refused.is_set():
            refused.set()
            raise StoreError("away")
        return await record(self, events, outbox, cause)

    monkeypatch.setattr(SqlStore, "record", trouble)

    @app.activity
    async def work() -> AsyncIterator[int]:
        yield 0
        await refused.wait()
        yield 1

    async with running(app):
        workflow = await app.dispatch(work)
        assert await workflow.result(SOON) == [0, 1]
        assert [one.data["index"] for one in await shown(workflow)] == [1]


# --- runs that were given up -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [0, 1])
async def test_what_a_failed_attempt_showed_is_marked(app, running, quick):
    """And the next one says that it begins anew; in place or off the queue."""

    @app.activity(retry=RetryPolicy(attempts=2, quick=quick, delay=0))
    async def work(ctx: ActivityContext) -> AsyncIterator[str]:
        yield f"attempt {ctx.attempt}"
        if ctx.attempt == 1:
            raise ValueError

    async with running(app):
        workflow = await app.dispatch(work)
        assert await workflow.result(SOON) == ["attempt 2"]
        seen = await shown(workflow)
    assert [(one.type, one.data.get("value"), one.data["attempt"], one.abandoned) for one in seen] == [
        ("step_yielded", "attempt 1", 1, True),
        ("step_restarted", None, 2, False),
        ("step_yielded", "attempt 2", 2, False),
    ]


# --- how long and how much -------------------------------------------------------------------------------------------


async def test_what_is_shown_is_forgotten_after_a_time(app, running, monkeypatch):
    """By workers, as they say that they are there; the history stays."""
    monkeypatch.setattr("paigeant.worker.worker.WORKER_ANNOUNCES_EVERY", 0.05)
    app.settings = app.settings.model_copy(update={"stream_retention": 0.01})

    @app.activity
    async def work(ctx: ActivityContext) -> None:
        ctx.emit(1)

    async with running(app):
        workflow = await app.dispatch(work)
        await workflow.result(SOON)

        async def forgotten() -> bool:
            return await app.store.passing(workflow.correlation_id) == 0

        await until_async(forgotten, SOON)
        types = [event.type async for event in workflow.events()]
    assert types == ["workflow_dispatched", "step_completed", "workflow_completed"]
