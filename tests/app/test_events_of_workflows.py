"""The events of a workflow, as a caller reads them while its steps run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date

import pytest
from helpers import until_async

from paigeant import ActivityContext
from paigeant.records.workflow import Status

pytestmark = pytest.mark.anyio

SOON = 20


async def test_a_streams_values_are_seen_before_it_ends_and_the_list_is_its_output(app, running):
    """The caller reads each value while the step still runs."""
    go_on = asyncio.Event()

    @app.activity
    async def count(n: int) -> AsyncIterator[date]:
        for day in range(1, n + 1):
            yield date(2026, 1, day)
            await go_on.wait()

    async with running(app):
        workflow = await app.dispatch(count.step(n=3))
        async for event in workflow.events():
            if event.type == "step_yielded":
                assert await workflow.status() is Status.RUNNING
                break
        go_on.set()
        assert await workflow.result(SOON) == [date(2026, 1, day) for day in (1, 2, 3)]
        seen = [event.data async for event in workflow.events() if event.type == "step_yielded"]
    assert [(data["index"], data["value"]) for data in seen] == [
        (0, "2026-01-01"),
        (1, "2026-01-02"),
        (2, "2026-01-03"),
    ]


async def test_events_end_with_the_workflow_and_can_be_read_on_from_an_offset(app, running):
    """The iteration also ends when the caller has read every event before."""

    @app.activity
    async def work() -> None: ...

    async with running(app):
        workflow = await app.dispatch(work)
        events = await asyncio.wait_for(_all(workflow.events()), SOON)
        assert [event.type for event in events] == ["workflow_dispatched", "step_completed", "workflow_completed"]
        assert await asyncio.wait_for(_all(workflow.events(after=events[0].offset)), SOON) == events[1:]
        assert await asyncio.wait_for(_all(workflow.events(after=events[-1].offset)), SOON) == []


async def _all(events):
    return [event async for event in events]


async def test_a_step_that_takes_its_time_is_seen_to_have_started(app, running):
    """Quick steps are recorded once, when they end."""
    go_on = asyncio.Event()

    @app.activity
    async def slow() -> None:
        await go_on.wait()

    async with running(app):
        workflow = await app.dispatch(slow)

        async def started():
            return (await workflow.record()).steps[0].status == "started"

        await until_async(started)
        go_on.set()
        await workflow.result(SOON)


async def test_a_heartbeat_shows_how_far_a_step_is(app, running):
    """Everyone who reads the events sees the reported progress."""

    @app.activity
    async def work(ctx: ActivityContext) -> None:
        await ctx.heartbeat()
        await ctx.heartbeat({"done": 5, "by": date(2026, 1, 2)})

    async with running(app):
        workflow = await app.dispatch(work)
        await workflow.result(SOON)
        seen = [event async for event in workflow.events() if event.type == "step_progressed"]
    assert [event.data["value"] for event in seen] == [{"done": 5, "by": "2026-01-02"}]
