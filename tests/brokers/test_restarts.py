"""Brokers that are killed and started again, and connections that break in every way: workers go on by themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from brokers.progress import assert_complete, chain, finished, have_finished, until_finished
from brokers.proxy import Proxy
from brokers.servers import RabbitServer, RedisServer, Server
from crash.fleet import Fleet
from crash.test_random_kills import holds_within

RESTARTS = 3


@pytest.fixture
def server(request: pytest.FixtureRequest, broker: str) -> Server:
    """The broker's process."""
    server: RedisServer | RabbitServer = request.getfixturevalue(f"own_{broker}")
    return server


def restart_three_times(fleet: Fleet, server: Server, workflows: Sequence[str]) -> None:
    """At a quarter, a half and three quarters of the way."""
    for number in range(1, RESTARTS + 1):
        target = number * len(workflows) // (RESTARTS + 1)
        until_finished(fleet, workflows, 60, at_least=target)
        assert finished(fleet, workflows) < len(workflows), "too fast: the broker was not killed in the middle"
        server.restart()
    until_finished(fleet, workflows, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "store", "count"), [("redis", "sqlite", 300), ("redis", None, 300), ("rabbitmq", "sqlite", 200)]
)
def test_a_broker_restarted_three_times_loses_nothing(
    make_fleet: Callable[..., Fleet], server: Server, store_url: str | None, prefix: str, count: int
) -> None:
    """``kill -9`` of the broker in the middle: everything completes, by the same two worker processes."""
    fleet = make_fleet(server.url, store_url, app_name=prefix, lease=20)
    fleet.settings = {"CRASH_CONCURRENCY": "10"}
    workers = [worker.ready() for worker in [fleet.start(), fleet.start()]]
    workflows = fleet.dispatch(*chain(fleet), count=count)
    restart_three_times(fleet, server, workflows)

    assert all(worker.is_alive for worker in workers)
    assert_complete(fleet, workflows)


TROUBLES = {"cut": Proxy.cut, "stalled": Proxy.stall, "half-open": Proxy.half_open}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("store", ["sqlite"])
def test_connections_that_break_lose_nothing(
    make_fleet: Callable[..., Fleet],
    make_proxy: Callable[[str], Proxy],
    broker_url: str,
    store_url: str,
    prefix: str,
    trouble: str,
    tmp_path: Path,
) -> None:
    """At random, three times and more: everything completes, by the same worker process."""
    dice = random.Random(2025)
    proxy = make_proxy(broker_url)
    fleet = make_fleet(proxy.url, store_url, app_name=prefix, lease=20)
    fleet.settings = {"CRASH_CONCURRENCY": "8"}
    worker = fleet.start().ready()
    workflows = fleet.dispatch(*chain(fleet), count=80)
    connections, troubles = proxy.connections, 0
    while not holds_within(have_finished(fleet, workflows), 0.5 + dice.random()):
        # The next trouble comes after the last one was overcome.
        if troubles < 3 and (troubles == 0 or proxy.connections > connections):
            connections, troubles = proxy.connections, troubles + 1
            TROUBLES[trouble](proxy)
        assert fleet_is_moving(fleet, workflows), "the workflows do not end"

    assert troubles >= 2
    assert worker.is_alive
    assert_complete(fleet, workflows)


def fleet_is_moving(fleet: Fleet, workflows: Sequence[str], patience: float = 30.0) -> bool:
    """Whether something ends within the patience."""
    before = len(fleet.facts.notes())
    return holds_within(lambda: len(fleet.facts.notes()) > before or have_finished(fleet, workflows)(), patience)
