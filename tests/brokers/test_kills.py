"""Worker processes die at random; with any broker every workflow completes (G1, G3, G5)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from brokers.progress import assert_complete, chain, until_finished
from crash.fleet import Fleet, Process
from crash.service import CHAIN
from crash.test_random_kills import kill_along_the_way
from helpers import lengthy, until


def two_workers(fleet: Fleet) -> list[Process]:
    """Both ready."""
    return [worker.ready() for worker in [fleet.start(), fleet.start()]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "store"),
    [
        ("rabbitmq", "postgres"),
        lengthy("redis", None),
        lengthy("redis", "sqlite"),
        lengthy("rabbitmq", None),
    ],
)
def test_workers_killed_at_random_lose_nothing(
    make_fleet: Callable[..., Fleet], broker_url: str, store_url: str | None, prefix: str, broker: str
) -> None:
    """100 workflows of 3 steps: all complete; with a store no finished step begins again.

    A death counts for all that the worker held, so these deaths by chance must not set anything aside.
    """
    fleet = make_fleet(broker_url, store_url, app_name=prefix)
    fleet.settings = {"CRASH_CONCURRENCY": "8", "PAIGEANT_MAX_DELIVERIES": "1000"}
    workflows = fleet.dispatch(*chain(fleet, 0.2), count=100)
    kill_along_the_way(fleet, 300)
    until_finished(fleet, workflows)

    assert_complete(fleet, workflows)
    if store_url is not None:
        assert fleet.facts.one("SELECT count(*) FROM paigeant_outbox") == 0
    elif broker == "redis":
        # One successor of each step: what was begun again had not been settled, so its count had grown.
        assert all(counts == sorted(set(counts)) for counts in fleet.facts.starts().values())


@pytest.mark.parametrize("broker", ["rabbitmq", "redis"])
@pytest.mark.parametrize("store", ["sqlite"])
def test_a_step_that_was_recorded_and_not_settled_does_not_run_again(
    make_fleet: Callable[..., Fleet], broker_url: str, store_url: str, prefix: str
) -> None:
    """Killed between record and publish: whoever gets the message again sends the successor that was recorded."""
    fleet = make_fleet(broker_url, store_url, app_name=prefix)
    (workflow,) = fleet.dispatch(*CHAIN)
    fleet.start(AT="recorded").killed()
    fleet.start().ready()
    until_finished(fleet, [workflow])

    assert_complete(fleet, [workflow])
    assert {tuple(counts) for counts in fleet.facts.starts().values()} == {(1,)}


@pytest.mark.parametrize(("broker", "lease", "within"), [("rabbitmq", 60.0, 30.0), ("redis", 10.0, 1.5 * 10.0)])
def test_a_killed_workers_step_begins_again_elsewhere(
    make_fleet: Callable[..., Fleet], broker_url: str, prefix: str, lease: float, within: float
) -> None:
    """At once on RabbitMQ, which sees the connection go; within 1.5 leases on Redis."""
    fleet = make_fleet(broker_url, app_name=prefix, lease=lease)
    workers = {worker.pid: worker for worker in two_workers(fleet)}
    fleet.dispatch(fleet.app.activities["first"].step(seconds=60.0))
    until(fleet.log_shows("start"))
    victim = workers.pop(fleet.facts.notes()[0]["pid"])
    (heir,) = workers.values()
    victim.kill()
    killed_at = time.time()
    until(fleet.log_shows("start", pid=heir.pid), within)
    first, second = fleet.facts.notes()

    assert second["at"] - killed_at < within
    assert (second["message"], second["deliveries"]) == (first["message"], 2)
