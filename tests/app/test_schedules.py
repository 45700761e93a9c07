"""Schedules of an App: served by several workers on one store, each time once; the clock is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import until_async

from paigeant import ActivitySpec, App, RoutingSlip
from paigeant.errors import ConfigurationError, InvalidArguments, ScheduleNotFound, StoreRequired, TransportError
from paigeant.stores.sql import SqlStore
from paigeant.wire.ids import derive_schedule_id

pytestmark = pytest.mark.anyio

BEGIN = datetime(2026, 3, 2, 8, 59, 30, tzinfo=UTC).timestamp()  # a Monday
NINE = BEGIN + 30


class HandClock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = BEGIN

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["joined", "apart"])
def service(
    request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path, clock: HandClock
) -> Callable[[], App]:
    """Makes Apps like those of several processes: of the same name and code, on one broker and one store."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    broker = store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}"

    def make() -> App:
        app = make_app(broker, store)
        app.clock = clock
        app.store = SqlStore(store, clock)

        @app.activity
        def report(day: str = "") -> str:
            return f"report of {day}"

        return app

    return make


async def ids(app: App) -> set[str]:
    assert app.store is not None
    return {one.correlation_id for one in await app.store.workflows(limit=1000)}


async def messages(app: App) -> int:
    """How many wait on the broker."""
    return sum((await app.transport.queues()).values())


def due(*times: float, name: str = "daily") -> set[str]:
    return {derive_schedule_id("test", name, time) for time in times}


def daily(app: App, **options: object) -> None:
    """At nine o'clock: a report of the day."""

    @app.schedule(**({"cron": "0 9 * * *"} | options))
    def daily(at: datetime) -> object:
        return app.activities["report"].step(day=at.date().isoformat())


async def test_two_workers_dispatch_each_time_once(service, clock):
    """They look at the same time, over and over; one message comes of each time, and none before it."""
    apps = [service(), service()]
    for app in apps:
        daily(app)
        await app.schedules.register()
    for days, expected in ((-0.0001, 0), (0, 1), (0.5, 1), (1, 2), (2, 3)):
        clock.seconds = NINE + days * 86400
        for _ in range(3):
            await asyncio.gather(*(app.schedules.sweep() for app in apps))
        assert await messages(apps[0]) == expected
    assert await ids(apps[0]) == due(NINE, NINE + 86400, NINE + 2 * 86400)
    [record] = await apps[0].schedules.list()
    assert (record.next_at, record.last_at) == (NINE + 3 * 86400, NINE + 2 * 86400)


async def test_a_worker_that_dies_between_dispatch_and_move_loses_and_doubles_nothing(service, clock, monkeypatch):
    """Another one does the same again after a while, under the same id."""
    apps = [service(), service()]
    for app in apps:
        daily(app)
        await app.schedules.register()
    clock.seconds = NINE

    async def dies(*_: object, **__: object) -> bool:
        raise asyncio.CancelledError

    monkeypatch.setattr(apps[0].store, "move_schedule", dies)
    with suppress(asyncio.CancelledError):
        await apps[0].schedules.sweep()
    assert await ids(apps[1]) == due(NINE)
    assert await apps[1].schedules.sweep() == 0
    clock.seconds += 31
    assert await apps[1].schedules.sweep() == 1
    assert await ids(apps[1]) == due(NINE)
    assert await messages(apps[1]) == 1
    [record] = await apps[1].schedules.list()
    assert {record.last_id} == due(NINE)


async def test_a_worker_that_dies_before_it_dispatches_loses_nothing(service, clock, monkeypatch):
    """And so does a broker that is away: the time is served late, not never."""
    app = service()
    daily(app)
    await app.schedules.register()
    clock.seconds = NINE
    with monkeypatch.context() as patch:

        async def is_away(*_: object, **__: object) -> None:
            raise TransportError("away")

        patch.setattr(type(app.dispatcher.beginning), "start", is_away)
        with pytest.raises(TransportError):
            await app.schedules.sweep()
    clock.seconds += 31
    assert await app.schedules.sweep() == 1
    assert await ids(app) == due(NINE)


@pytest.mark.parametrize(("backfill", "days"), [("none", []), ("latest", [3]), ("all", [0, 1, 2, 3])])
async def test_times_that_passed_while_nothing_ran(service, clock, backfill, days):
    """A service that was down from Monday to Thursday noon."""
    app = service()
    daily(app, backfill=backfill)
    await app.schedules.register()
    clock.seconds = NINE + 3.125 * 86400
    again = service()
    daily(again, backfill=backfill)
    await again.schedules.register()
    while await again.schedules.sweep():
        pass
    assert await ids(again) == due(*(NINE + day * 86400 for day in days))
    [record] = await again.schedules.list()
    assert record.next_at == NINE + 4 * 86400


async def test_what_a_schedule_may_dispatch(service, clock):
    """A step, several, a slip, or nothing; what the steps get comes with them or in variables."""
    app = service()
    report = app.activities["report"]
    app.schedule("direct", report, "elsewhere", every=60, variables={"day": "Monday"})
    app.schedule(every=60)(lambda: None)

    @app.schedule("several", every=60)
    async def function() -> object:
        return [report.step(day="one"), report.step(day="two")]

    @app.schedule(every=60)
    def slip() -> RoutingSlip:
        return RoutingSlip(itinerary=(report.step(day="one"),))

    await app.schedules.register()
    clock.seconds = NINE
    await app.schedules.sweep()
    assert app.store is not None
    found = {one.name: one for one in await app.store.workflows()}
    assert set(found) == {"direct", "several", "slip"}
    assert found["direct"].variables == {"day": "Monday"}
    whole = await app.store.workflow(found["several"].correlation_id)
    assert whole is not None
    assert [step.activity for step in whole.steps] == ["report", "report"]
    assert {one.name: one.last_id is None for one in await app.schedules.list()}["<lambda>"]


async def test_a_schedule_whose_code_fails_does_not_hold_up_the_others(service, clock):
    """The error is shown until the next time that works."""
    app = service()
    fails = [True]

    @app.schedule(every=60)
    def bad() -> object:
        if fails:
            raise ValueError("no")
        return app.activities["report"].step(day="x")

    app.schedule("wrong", every=60)(lambda: 7)
    app.schedule("good", "report", every=60)
    await app.schedules.register()
    clock.seconds = NINE
    assert await app.schedules.sweep() == 3
    assert await ids(app) == due(NINE, name="good")
    errors = {one.name: one.error for one in await app.schedules.list()}
    assert errors == {"bad": "ValueError: no", "good": None, "wrong": "InvalidArguments: 7 is not a step"}
    fails.clear()
    clock.seconds = NINE + 60
    await app.schedules.sweep()
    assert {one.name: one.error for one in await app.schedules.list()}["bad"] is None


async def test_operators_pause_resume_and_run(service, clock):
    """What passed during a pause is not made up for; what is run by hand comes beside the times."""
    app = service()
    daily(app, paused=True)
    with pytest.raises(ScheduleNotFound, match="no worker of App 'test' has registered a schedule 'daily'"):
        await app.schedules.pause("daily")
    await app.schedules.register()
    clock.seconds = NINE + 86400
    assert await app.schedules.sweep() == 0
    await app.schedules.resume("daily")
    assert await app.schedules.sweep() == 0
    workflow = await app.schedules.run("daily")
    assert workflow is not None
    assert await ids(app) == {workflow.correlation_id}
    clock.seconds = NINE + 2 * 86400
    assert await app.schedules.sweep() == 1
    await app.schedules.pause("daily")
    assert [one.paused for one in await app.schedules.list()] == [True]
    with pytest.raises(ScheduleNotFound, match="has no schedule 'dayly' in its code") as caught:
        await app.schedules.run("dayly")
    assert caught.value.hint == "did you mean 'daily'?"


async def test_mistakes_are_told_when_they_are_made(service):
    """Not at nine o'clock."""
    app = service()
    daily(app)
    with pytest.raises(ConfigurationError, match="already has a schedule 'daily'"):
        daily(app)
    with pytest.raises(ConfigurationError, match="takes 2 parameters"):
        app.schedule(every=60)(lambda one, two: None)
    with pytest.raises(InvalidArguments, match="7 is not a step"):
        app.schedule("wrong", 7, every=60)


async def test_without_a_store_no_worker_starts_that_has_schedules(make_app, running, redis_url):
    """It says what is missing."""
    app = make_app(redis_url, "none")
    daily(app)
    app.activity(name="any")(lambda: None)
    with pytest.raises(StoreRequired, match="schedules are kept in a store"):
        async with running(app):
            pass


async def test_a_worker_serves_schedules(app, running):
    """From its start on, by the machine's clock."""
    ran = []

    @app.activity
    def note(at: float) -> None:
        ran.append(at)

    @app.schedule(every=1)
    def second(at: datetime) -> object:
        return note.step(at=at.timestamp())

    async def twice() -> bool:
        return len(ran) > 1

    async with running(app):
        await until_async(twice, 30)
    assert ran == sorted(set(ran))


async def test_an_app_of_nothing_but_schedules_is_served(app, running):
    """What it dispatches runs elsewhere."""
    app.schedule("often", ActivitySpec(name="elsewhere", arguments={"x": 1}), every=1)

    async def dispatched() -> object:
        return await app.store.workflows(name="often")

    async with running(app):
        await until_async(dispatched, 30)
