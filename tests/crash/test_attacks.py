"""Attempts to lose, to double or to block something; each was once possible, or nearly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash.fleet import Fleet
from crash.service import CHAIN
from helpers import served, until, until_async

from paigeant import App, get_transport
from paigeant.transport import Outgoing

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/paigeant.db"


async def test_a_transport_that_was_in_use_before_its_app_still_records_history(url: str) -> None:
    """The store joins a connection that is open already; it is not passed over in silence."""
    transport = get_transport(url)
    await transport.declare("somewhere")
    app = App("late", url)

    @app.activity
    async def step() -> str:
        return "done"

    async with served(app):
        assert await app.dispatch(step).result(timeout=10) == "done"


def test_dispatching_is_the_first_thing_that_happens_to_a_database(make_fleet: Callable[..., Fleet], url: str) -> None:
    """No worker has ever run, no table exists: many workflows are sent at once, and run later."""
    fleet = make_fleet(url)
    workflows = fleet.dispatch(*CHAIN, count=50)
    fleet.start()
    fleet.ended(*workflows)

    fleet.facts.assert_each_step_ran_to_its_end_once(workflows)


async def test_a_message_with_the_id_of_a_finished_one_is_not_dropped(tmp_path: Path) -> None:
    """Broker and store apart: garbage under a known id is kept as garbage, and what is known stays known."""
    app = App("forged", f"sqlite:///{tmp_path}/broker.db", f"sqlite:///{tmp_path}/store.db")

    @app.activity
    async def step() -> str:
        return "done"

    async with served(app):
        workflow = app.dispatch(step, step)
        await workflow.result(timeout=10)
        finished = (await workflow.record()).steps[0].message_id
        await app.transport.send([Outgoing(queue=app.queue_of(step), body=b"garbage", id=finished)])
        assert app.store is not None
        (letter,) = await until_async(app.store.dead_letters)

    assert letter.body == b"garbage"


async def test_a_step_under_way_shows_the_worker_that_has_it_now(url: str) -> None:
    """After a death the history shows the living worker and its delivery, not the dead one's."""
    app = App("shown", url)
    assert app.store is not None
    await app.connect()
    from paigeant.events import StepStarted

    about: dict[str, Any] = {"message_id": "m", "correlation_id": "w", "step_id": "1", "activity": "a", "attempt": 1}
    await app.store.record([StepStarted(at=1.0, worker="dead", deliveries=1, **about)])
    await app.store.record([StepStarted(at=2.0, worker="alive", deliveries=2, **about)])
    await app.store.record([StepStarted(at=3.0, worker="dead", deliveries=1, **about)])
    from sqlalchemy import text

    from paigeant.database import Database

    with Database(url).reader() as reader:
        shown = reader.execute(text("SELECT worker, deliveries, started_at FROM paigeant_step")).one()
    await app.close()

    assert tuple(shown) == ("alive", 2, 2.0)


async def test_functions_that_hang_take_no_threads_from_others(url: str) -> None:
    """A plain function cannot be stopped when its time is over; the steps after it must not time out unbegun."""
    app = App("hang", url)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.activity(timeout=0.2)
    def hang() -> None:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)

    @app.activity(timeout=2)
    def quick() -> str:
        return "done"

    async with served(app, concurrency=2):
        hung = [app.dispatch(hang) for _ in range(6)]
        for workflow in hung:
            with pytest.raises(Exception, match="longer than its timeout"):
                await workflow.result(timeout=10)
        try:
            assert await app.dispatch(quick).result(timeout=10) == "done"
        finally:
            release.set()


async def test_a_hundred_plain_functions_run_at_once_if_that_is_the_concurrency(url: str) -> None:
    """The default concurrency holds for threads too: each waits until all are there."""
    app, everyone = App("threads", url), threading.Barrier(90)

    @app.activity
    def meet() -> None:
        everyone.wait(timeout=30)

    async with served(app, concurrency=100):
        workflows = [app.dispatch(meet) for _ in range(90)]
        for workflow in workflows:
            await workflow.result(timeout=40)


@pytest.mark.slow
def test_workers_that_come_and_go_in_good_order_repeat_nothing(make_fleet: Callable[..., Fleet], url: str) -> None:
    """A rolling restart every moment: what was not begun is handed on at once, what was begun is finished."""
    fleet = make_fleet(url, lease=30)
    fleet.settings = {"CRASH_CONCURRENCY": "4"}
    workflows = fleet.dispatch(*(fleet.app.activities[name].step(seconds=0.1) for name in CHAIN), count=40)
    worker = fleet.start().ready()
    for _ in range(3):
        following = fleet.start().ready()
        worker.stop()
        worker = following
    fleet.ended(*workflows)

    fleet.facts.assert_each_step_ran_to_its_end_once(workflows, given_back=True)
    assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


def test_two_deaths_of_the_same_step_in_a_row(make_fleet: Callable[..., Fleet], url: str) -> None:
    """The second worker dies of the same step in another place; the third one ends the workflow."""
    fleet = make_fleet(url, lease=0.6)
    (workflow,) = fleet.dispatch(*CHAIN)
    fleet.start(AT="in the transaction").killed()
    fleet.start(AT="claimed").killed()
    fleet.start()
    fleet.ended(workflow)

    fleet.facts.assert_each_step_ran_to_its_end_once([workflow])
    until(lambda: fleet.facts.one("SELECT deliveries FROM paigeant_step WHERE step_id = '2'") == 3)


async def test_events_that_become_visible_late_are_not_missed(postgres_url: str) -> None:
    """PostgreSQL numbers rows when they are written and shows them when they are committed: the end may come late."""
    from paigeant.database import Database
    from paigeant.events import StepProgressed, WorkflowCompleted
    from paigeant.stores.history import SqlLedger

    app = App("late", postgres_url)
    workflow = await app.dispatch("nobody")
    assert app.store is not None
    ledger = SqlLedger(postgres_url)
    seen: list[str] = []

    async def follow() -> None:
        async for event in workflow.events():
            seen.append(event.type)  # noqa: PERF401 - one by one, as they come

    following = asyncio.create_task(follow())
    await until_async(lambda: _holds(len(seen) == 1))
    with Database(postgres_url).writer() as slow, slow.begin() as settling:
        ledger.note(slow, [WorkflowCompleted(correlation_id=workflow.correlation_id, at=1.0)])
        about: dict[str, Any] = {"message_id": "m", "step_id": "1", "activity": "a", "attempt": 1, "worker": "w"}
        await app.store.record([StepProgressed(correlation_id=workflow.correlation_id, at=2.0, value=1, **about)])
        await until_async(lambda: _holds(len(seen) == 2))
        settling.commit()
    await asyncio.wait_for(following, 5)
    await app.close()

    assert seen == ["workflow_dispatched", "step_progressed", "workflow_completed"]


async def _holds(fact: bool) -> bool:
    return fact
