"""A broker that lost everything is filled again from a store apart from it, and no finished step runs again."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest
from brokers.progress import assert_complete, chain, until_finished
from brokers.servers import RedisServer
from crash.fleet import Fleet
from crash.service import CHAIN
from examples_run import paigeant
from helpers import until, until_async

from paigeant import Worker
from paigeant.app import App
from paigeant.dispatch.packing import queue_name
from paigeant.stores import open_store
from paigeant.transports import get_transport
from paigeant.worker.recovery import refill

GRACE = {"PAIGEANT_RECOVERY_GRACE": "2"}


def queues(fleet: Fleet) -> list[str]:
    return [queue_name(fleet.app_name, name) for name in CHAIN]


def lose_everything(fleet: Fleet, request: pytest.FixtureRequest, broker: str) -> None:
    if broker == "redis":
        request.getfixturevalue("own_redis").flush()
        return

    async def purged() -> None:
        for queue in queues(fleet):
            await fleet.app.transport.purge(queue)

    asyncio.run(purged())


def refill_at_once(fleet: Fleet, callers: int, grace: float = 1.0) -> list[str]:
    """Several who refill at the same time, each with its own connections; the ids of all they published."""

    async def refilled() -> Sequence[str]:
        store = open_store(fleet.store or "")
        try:
            return [str(one.id) for one in await refill(fleet.app.transport, store, grace)]
        finally:
            await store.close()

    async def all_of_them() -> list[str]:
        return [id_ for ids in await asyncio.gather(*(refilled() for _ in range(callers))) for id_ in ids]

    return asyncio.run(all_of_them())


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("store", ["postgres"])
def test_workers_bring_everything_to_its_end_after_the_broker_lost_it(
    make_fleet: Callable[..., Fleet],
    broker_url: str,
    store_url: str,
    prefix: str,
    broker: str,
    request: pytest.FixtureRequest,
) -> None:
    """Redis flushed, RabbitMQ's queues purged, in the middle: nobody does anything, and everything completes."""
    fleet = make_fleet(broker_url, store_url, app_name=prefix)
    fleet.settings = {"CRASH_CONCURRENCY": "4"} | GRACE
    for worker in [fleet.start(), fleet.start()]:
        worker.ready()
    workflows = fleet.dispatch(*chain(fleet), count=100)
    until_finished(fleet, workflows, at_least=20)
    lose_everything(fleet, request, broker)
    until_finished(fleet, workflows)

    assert "overdue messages that no worker holds were published again" in fleet.logs
    assert_complete(fleet, workflows)
    assert fleet.facts.one("SELECT count(*) FROM paigeant_outbox") == 0


@pytest.mark.parametrize(("broker", "store"), [("redis", "sqlite"), ("rabbitmq", "postgres")])
def test_of_several_who_refill_at_once_each_message_is_sent_by_one(
    make_fleet: Callable[..., Fleet],
    broker_url: str,
    store_url: str,
    prefix: str,
    broker: str,
    request: pytest.FixtureRequest,
) -> None:
    """Taking what is overdue is a compare-and-set; what is sent again is run as if nothing had happened."""
    fleet = make_fleet(broker_url, store_url, app_name=prefix)
    workflows = fleet.dispatch(*CHAIN, count=50)
    assert refill_at_once(fleet, 1, grace=600.0) == [], "nothing is overdue yet"
    lose_everything(fleet, request, broker)
    time.sleep(1.1)  # until they are overdue

    published = Counter(refill_at_once(fleet, 4))
    assert (len(published), set(published.values())) == (50, {1})
    fleet.start().ready()
    until_finished(fleet, workflows)
    assert_complete(fleet, workflows)
    assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


@pytest.mark.parametrize(("broker", "store"), [("rabbitmq", "sqlite")])
def test_the_command_recovers_what_a_purge_has_deleted(
    make_fleet: Callable[..., Fleet],
    broker_url: str,
    store_url: str,
    prefix: str,
    broker: str,
    request: pytest.FixtureRequest,
) -> None:
    """``paigeant recover`` says how many messages it sent to which queue, and the second time that nothing was lost."""
    fleet = make_fleet(broker_url, store_url, app_name=prefix)
    workflows = fleet.dispatch(*CHAIN, count=3)
    lose_everything(fleet, request, broker)

    def recover() -> object:
        done = paigeant("recover", "--grace", "1", "--json", "-b", broker_url, "--store", store_url, cwd=fleet.folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    time.sleep(1.1)  # until they are overdue
    assert recover() == [{"queue": queues(fleet)[0], "sent": 3}]
    assert recover() == []
    fleet.start().ready()
    until_finished(fleet, workflows)
    assert_complete(fleet, workflows)


@pytest.mark.parametrize("store", ["sqlite"])
def test_a_step_that_runs_is_not_lost(make_fleet: Callable[..., Fleet], broker_url: str, store_url: str) -> None:
    """Overdue, and in no queue: but a living worker runs it, so it is not sent again."""
    fleet = make_fleet(broker_url, store_url, lease=20.0)
    fleet.start().ready()
    (workflow,) = fleet.dispatch(fleet.app.activities["first"].step(seconds=3.0))
    until(lambda: fleet.facts.rows("SELECT 1 FROM paigeant_step WHERE status = 'started'"))
    assert refill_at_once(fleet, 1) == []
    until_finished(fleet, [workflow])

    assert list(fleet.facts.starts().values()) == [[1]]


@pytest.mark.parametrize("store", ["sqlite"])
def test_a_worker_refills_only_the_queues_it_serves(
    make_fleet: Callable[..., Fleet], broker_url: str, store_url: str, own_redis: RedisServer
) -> None:
    """Another App may keep its messages on another broker, and its history in the same store."""
    fleet = make_fleet(broker_url, store_url)
    (mine,) = fleet.dispatch("first", "second")
    other = App("other", broker_url, store_url)
    other.activity(name="step")(lambda: None)
    asyncio.run(dispatched(other))
    own_redis.flush()
    fleet.start(**GRACE).ready()
    until_finished(fleet, [mine])

    assert asyncio.run(get_transport(broker_url).depth(queue_name("other", "step"))) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("store", ["sqlite"])
async def test_a_step_that_waits_for_a_release_that_serves_it_is_not_lost(
    broker_url: str, store_url: str, prefix: str
) -> None:
    """A worker that does not serve it puts it off on the broker: nobody holds it, and it is not overdue meanwhile."""
    new, old = App(prefix, broker_url, store_url), App(prefix, broker_url, store_url)
    new.activity(name="novel", queue="shared")(lambda: None)
    old.activity(name="step", queue="shared")(lambda: None)
    queue = queue_name(prefix, "shared")
    await new.dispatch("novel")
    assert await overdue(new) == {queue: 1}

    async def is_put_off() -> bool:
        return await new.transport.depth(queue) == 1 and not await overdue(new)

    worker = Worker(old)
    working = asyncio.create_task(worker.run())
    try:
        await until_async(is_put_off)
    finally:
        worker.stop()
        await working
        await new.transport.purge(queue)
        await new.close()


async def overdue(app: App) -> Mapping[str, int]:
    assert app.store is not None
    return await app.store.overdue(0.0, None)


async def dispatched(app: App) -> None:
    await app.dispatch("step")
    await app.close()
