"""Brokers that are killed and started again, and connections that break in every way: workers go on by themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from brokers.progress import assert_complete, chain, finished, until_finished
from brokers.proxy import Proxy
from brokers.servers import RabbitServer, RedisServer, Server
from crash.fleet import Fleet
from crash.test_random_kills import until_ended
from helpers import lengthy, until

RESTARTS = 3
WORKFLOWS = 500
STEPS = 3 * WORKFLOWS


@pytest.fixture
def server(request: pytest.FixtureRequest, broker: str) -> Server:
    """The broker's process."""
    server: RedisServer | RabbitServer = request.getfixturevalue(f"own_{broker}")
    return server


def restart_three_times(fleet: Fleet, server: Server, workflows: Sequence[str]) -> None:
    """At a fifth, two fifths and three fifths of the way, in steps: workflows come to their ends nearly together."""
    for number in range(1, RESTARTS + 1):
        until_ended(fleet, number * STEPS // (RESTARTS + 2))
        assert finished(fleet, workflows) < len(workflows), "too fast: the broker was not killed in the middle"
        server.restart()
    until_finished(fleet, workflows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "store"),
    [("rabbitmq", "sqlite"), lengthy("redis", "sqlite"), lengthy("redis", None)],
)
def test_a_broker_restarted_three_times_loses_nothing(
    make_fleet: Callable[..., Fleet], server: Server, store_url: str | None, prefix: str
) -> None:
    """``kill -9`` of the broker in the middle: everything completes, by the same two worker processes."""
    fleet = make_fleet(server.url, store_url, app_name=prefix, lease=20)
    fleet.settings = {"CRASH_CONCURRENCY": "20", "PAIGEANT_RECOVERY_GRACE": "20"}  # RabbitMQ may lose a new queue
    workers = [worker.ready() for worker in [fleet.start(), fleet.start()]]
    workflows = fleet.dispatch(*chain(fleet), count=WORKFLOWS)
    restart_three_times(fleet, server, workflows)

    assert all(worker.is_alive for worker in workers)
    assert_complete(fleet, workflows)


TROUBLES = (Proxy.cut, Proxy.stall, Proxy.half_open)


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["redis", lengthy("rabbitmq")])
@pytest.mark.parametrize("store", ["sqlite"])
def test_connections_that_break_in_every_way_lose_nothing(
    make_fleet: Callable[..., Fleet], make_proxy: Callable[[str], Proxy], broker_url: str, store_url: str, prefix: str
) -> None:
    """Cut, stalled and half-opened, in the middle: everything completes, by the same worker process."""
    troubles = random.Random(2025).sample(TROUBLES, len(TROUBLES))
    proxy = make_proxy(broker_url)
    fleet = make_fleet(proxy.url, store_url, app_name=prefix, lease=20)
    fleet.settings = {"CRASH_CONCURRENCY": "20"}
    worker = fleet.start().ready()
    workflows = fleet.dispatch(*chain(fleet), count=WORKFLOWS)
    for number, trouble in enumerate(troubles, 1):
        until_ended(fleet, number * STEPS // (len(troubles) + 2))
        assert finished(fleet, workflows) < WORKFLOWS, "too fast: no connection broke in the middle"
        overcome(proxy, trouble)
    until_finished(fleet, workflows)

    assert worker.is_alive
    assert_complete(fleet, workflows)


def overcome(proxy: Proxy, trouble: Callable[[Proxy], None]) -> None:
    """Trouble, until the worker has connected anew."""
    before = proxy.connections
    trouble(proxy)
    until(lambda: proxy.connections > before, 60)
