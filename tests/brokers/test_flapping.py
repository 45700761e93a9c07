"""Connections that never live long: what runs meanwhile is settled later, and nothing fails or is set aside for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from brokers.progress import assert_complete, chain
from brokers.proxy import Proxy
from crash.fleet import Fleet
from crash.test_connection_trouble import cut_connections
from helpers import until

pytestmark = pytest.mark.endurance

EVERY, FOR = 0.5, 10.0
"""Seconds between two cuts, and in all."""


class Flapping:
    """Cuts what is connected, again and again, whenever somebody looks whether it is over."""

    def __init__(self, proxy: Proxy, store_url: str | None) -> None:
        self.cuts, self._at, self._until = 0, 0.0, time.monotonic() + FOR
        self._proxy = proxy
        self._store = store_url if store_url and store_url.startswith("postgresql") else None

    def then(self, is_over: Callable[[], bool]) -> bool:
        if self._at + EVERY < time.monotonic() < self._until:
            self._proxy.cut()
            if self._store is not None:
                cut_connections(self._store)
            self.cuts, self._at = self.cuts + 1, time.monotonic()
        return is_over()


@pytest.mark.parametrize(("broker", "store"), [("redis", "sqlite"), ("redis", None), ("rabbitmq", "postgres")])
def test_connections_cut_again_and_again_lose_and_fail_nothing(
    make_proxy: Callable[[str], Proxy],
    make_fleet: Callable[..., Fleet],
    broker: str,
    broker_url: str,
    store_url: str | None,
    prefix: str,
) -> None:
    """Of the broker, and of a store on a server. What RabbitMQ takes back, it counts, and the other begins."""
    proxy = make_proxy(broker_url)
    fleet = make_fleet(proxy.url, store_url, app_name=prefix, lease=20)
    fleet.settings = {"PAIGEANT_MAX_DELIVERIES": "100"}
    workers = [fleet.start(CONCURRENCY="5").ready() for _ in range(2)]
    workflows = fleet.dispatch(*chain(fleet, 0.2), count=80)
    flapping = Flapping(proxy, store_url)
    until(lambda: flapping.then(lambda: completed(fleet) == 3 * len(workflows)), 180)

    assert flapping.cuts > 5
    assert all(worker.is_alive for worker in workers)
    if store_url is not None:
        until(lambda: fleet.have_ended(workflows))
        assert_complete(fleet, workflows)
    if broker == "redis":
        assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


@pytest.mark.parametrize(("broker", "store"), [("rabbitmq", "postgres"), ("rabbitmq", None)])
def test_a_step_that_outlives_many_connections_runs_once(
    make_proxy: Callable[[str], Proxy],
    make_fleet: Callable[..., Fleet],
    broker_url: str,
    store_url: str | None,
    prefix: str,
) -> None:
    """RabbitMQ hands it out again each time, to the worker that runs it: nobody died of it, so it is not set aside."""
    proxy = make_proxy(broker_url)
    fleet = make_fleet(proxy.url, store_url, app_name=prefix)
    fleet.start(CONCURRENCY="5").ready()
    workflows = fleet.dispatch(*chain(fleet, FOR), count=4)
    until(lambda: len(fleet.facts.starts()) == len(workflows), 60)
    flapping = Flapping(proxy, store_url)
    until(lambda: flapping.then(lambda: len(fleet.facts.starts()) == 2 * len(workflows)), 60)

    assert flapping.cuts > 5
    assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


@pytest.mark.parametrize("trouble", [Proxy.stall, Proxy.half_open])
def test_a_connection_that_falls_silent_costs_no_lease(
    make_proxy: Callable[[str], Proxy],
    make_fleet: Callable[..., Fleet],
    postgres_url: str,
    trouble: Callable[[Proxy], None],
) -> None:
    """The worker finds out, connects anew and renews in time: nobody else begins its step."""
    proxy = make_proxy(postgres_url)
    fleet = make_fleet(proxy.url, lease=21)
    [workflow] = fleet.dispatch(fleet.app.activities["first"].step(seconds=45))
    fleet.start().ready()
    until(fleet.log_shows("start"), 30)
    fleet.broker = postgres_url
    fleet.start().ready()
    trouble(proxy)
    until(lambda: fleet.have_ended([workflow]), 90)

    assert list(fleet.facts.starts().values()) == [[1]]


def completed(fleet: Fleet) -> int:
    """How many steps have run to their end."""
    return len({note["message"] for note in fleet.facts.notes() if note["what"] == "end"})
