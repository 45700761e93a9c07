"""The database goes away and comes back: trouble with it is never a step's failure, and repeats nothing (G2, G4)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crash.fleet import Fleet
from crash.service import CHAIN
from helpers import served, until

from paigeant import ActivityContext, App
from paigeant.errors import StoreError
from paigeant.stores.sql import SqlStore

pytestmark = pytest.mark.anyio


def cut_connections(url: str) -> int:
    """Terminate every other connection to this database, as a restart or a failover does."""
    with psycopg.connect(url, autocommit=True) as admin:
        cut = admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    return int(cut[0]) if cut else 0


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """The database refuses to write, as a standby does during a failover."""
    name = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    cut_connections(url)
    try:
        yield
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        cut_connections(url)


async def test_a_step_outlives_the_connection(postgres_url: str) -> None:
    """Every connection is cut while a step runs: it completes once, on its first delivery."""
    app = App("cut", postgres_url, lease_seconds=5)
    begun: list[int] = []

    @app.activity
    async def step(ctx: ActivityContext) -> str:
        begun.append(ctx.deliveries)
        if len(begun) == 1:
            assert await asyncio.to_thread(cut_connections, postgres_url)
            await asyncio.sleep(0.3)
        return "done"

    async with served(app):
        assert await app.dispatch(step).result(timeout=20) == "done"

    assert begun == [1]


async def test_a_heartbeat_that_cannot_be_recorded_does_not_fail_the_step(postgres_url: str) -> None:
    """Progress is a courtesy: a store that is away for a moment costs the report, not the workflow."""
    app = App("heartbeat", postgres_url, lease_seconds=5)
    begun: list[int] = []

    @app.activity
    async def step(ctx: ActivityContext) -> str:
        begun.append(ctx.deliveries)
        await ctx.heartbeat("one")
        await asyncio.to_thread(cut_connections, postgres_url)
        await ctx.heartbeat("two")
        return "done"

    async with served(app):
        assert await app.dispatch(step).result(timeout=20) == "done"

    assert begun == [1]


async def test_streamed_values_that_cannot_be_recorded_do_not_fail_the_step(postgres_url: str) -> None:
    """The same for values of an async generator: the output is all of them."""
    app = App("stream", postgres_url, lease_seconds=5)

    @app.activity
    async def step() -> AsyncIterator[int]:
        yield 1
        await asyncio.to_thread(cut_connections, postgres_url)
        yield 2

    async with served(app):
        assert await app.dispatch(step).result(timeout=20) == [1, 2]


def test_a_database_that_only_reads_for_a_while_loses_and_repeats_nothing(
    make_fleet: Callable[..., Fleet], postgres_url: str
) -> None:
    """A failover in the middle of a step: its result waits until the database takes it."""
    fleet = make_fleet(postgres_url, lease=20)
    (workflow,) = fleet.dispatch("first", fleet.app.activities["second"].step(seconds=0.5), "third")
    worker = fleet.start().ready()
    until(fleet.log_shows("start", "2"))
    with read_only(postgres_url):
        until(fleet.log_shows("end", "2"))
        until(lambda: "trying again" in worker.log or "could not" in worker.log)
    fleet.ended(workflow, deadline=15)

    fleet.facts.assert_each_step_ran_to_its_end_once([workflow])
    assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


@pytest.mark.endurance
@pytest.mark.timeout(240)
def test_connections_cut_again_and_again_lose_and_repeat_nothing(
    make_fleet: Callable[..., Fleet], postgres_url: str
) -> None:
    """Two workers, and for half a lease no connection lives longer than half a second; then they may end in peace."""
    fleet = make_fleet(postgres_url, lease=20)
    for _ in range(2):
        fleet.start(CONCURRENCY="5").ready()
    workflows = fleet.dispatch(*(fleet.app.activities[name].step(seconds=0.2) for name in CHAIN), count=40)
    cuts, cut_at, until_when = 0, 0.0, time.monotonic() + 10

    def ended() -> bool:
        nonlocal cuts, cut_at
        if cut_at + 0.5 < time.monotonic() < until_when:
            cuts, cut_at = cuts + cut_connections(postgres_url), time.monotonic()
        return fleet.have_ended(workflows)

    until(ended, 180)
    assert cuts > 10
    fleet.facts.assert_each_step_ran_to_its_end_once(workflows)
    fleet.facts.assert_nothing_waits()
    assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "in one database"])
async def test_a_result_waits_for_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """The store refuses for a while what has to be recorded: the step that has ended does not begin again."""
    store = f"sqlite:///{tmp_path}/store.db" if apart else None
    app = App("away", f"sqlite:///{tmp_path}/broker.db", store, lease_seconds=5)
    begun: list[int] = []

    @app.activity
    async def step(ctx: ActivityContext) -> str:
        begun.append(ctx.deliveries)
        return "done"

    refusals = iter(range(3))
    record = SqlStore.record

    async def moody(self: SqlStore, events: Any, outbox: Any = (), cause: str | None = None) -> bool:
        if cause is not None and next(refusals, None) is not None:
            raise StoreError("the store is away")
        return await record(self, events, outbox, cause)

    monkeypatch.setattr(SqlStore, "record", moody)
    async with served(app):
        assert await app.dispatch(step).result(timeout=30) == "done"

    assert begun == [1]


@pytest.mark.endurance
async def test_steps_whose_records_are_often_not_answered_end_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to the store breaks at every other record, before or after it was committed."""
    app = App("lossy", f"sqlite:///{tmp_path}/broker.db", f"sqlite:///{tmp_path}/store.db", lease_seconds=5)
    begun: list[tuple[str, str]] = []

    @app.activity
    async def step(ctx: ActivityContext) -> str:
        begun.append((ctx.correlation_id, ctx.step.id))
        return f"{ctx.step.id} {ctx.previous}"

    turns = cycle(["before", None, "after", None, "after", "after", None])
    record, lost = SqlStore.record, Counter[str]()

    async def lossy(self: SqlStore, events: Any, outbox: Any = (), cause: str | None = None) -> bool:
        when = next(turns) if cause is not None else None
        accepted = when != "before" and await record(self, events, outbox, cause)
        if when is not None:
            lost[when] += 1
            raise StoreError("the connection broke")
        return accepted

    monkeypatch.setattr(SqlStore, "record", lossy)
    async with served(app):
        workflows = [await app.dispatch(step, step, step) for _ in range(20)]
        results = [await workflow.result(timeout=40) for workflow in workflows]

    assert results == ["3 2 1 None"] * 20
    assert min(lost.values()) > 10
    assert Counter(begun).most_common(1)[0][1] == 1
    told = Counter([event.type for workflow in workflows for event in await app.store.events(workflow.correlation_id)])
    assert told == {"workflow_dispatched": 20, "step_completed": 60, "workflow_completed": 20}
    await app.close()


def test_a_blocked_event_loop_keeps_its_leases(make_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """An activity that blocks its process for several leases keeps its message: a thread renews them."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/paigeant.db", lease=0.6)
    (workflow,) = fleet.dispatch(fleet.app.activities["block"].step(seconds=2.5))
    fleet.start().ready()
    until(fleet.log_shows("start"))
    fleet.start().ready()
    fleet.ended(workflow)

    assert list(fleet.facts.starts().values()) == [[1]]
    fleet.facts.assert_each_step_ran_to_its_end_once([workflow], steps=1)
