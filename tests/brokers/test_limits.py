"""Leases and delivery counts, measured on every broker: long steps run once, deadly ones are set aside (G2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from brokers.progress import until_finished
from crash.fleet import Fleet
from crash.service import CHAIN
from helpers import lengthy, until

from paigeant.dispatch.packing import queue_name

LEASE = 3.0
"""Seconds; workers renew it at every third, and a busy machine may not run them for a second."""

Letter = dict[str, Any]


@pytest.mark.parametrize("broker", [lengthy("sqlite"), lengthy("postgres"), "redis", "rabbitmq"])
def test_steps_three_times_longer_than_the_lease_run_once(
    make_fleet: Callable[..., Fleet], any_broker_url: str, prefix: str
) -> None:
    """In a coroutine, in a thread, and where it blocks the event loop; another worker waits for something to do."""
    fleet = make_fleet(any_broker_url, app_name=prefix, lease=LEASE)
    for worker in [fleet.start(), fleet.start()]:
        worker.ready()
    long = [fleet.app.activities[name].step(seconds=3 * LEASE) for name in ("first", "compute", "block")]
    workflows = [fleet.dispatch(step, "third")[0] for step in long]
    until_finished(fleet, workflows, last="2")

    assert list(fleet.facts.starts().values()) == [[1]] * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "store"), [("rabbitmq", "sqlite"), lengthy("redis", None), lengthy("rabbitmq", None)]
)
def test_a_step_that_kills_its_worker_is_set_aside_and_the_others_go_on(
    make_fleet: Callable[..., Fleet], broker_url: str, store_url: str | None, prefix: str
) -> None:
    """After ``max_deliveries`` with the reason: in the store, or without one in the queue ``dead-letter``."""
    fleet = make_fleet(broker_url, store_url, app_name=prefix, lease=LEASE)
    fleet.settings = {"PAIGEANT_MAX_DELIVERIES": "3"}
    (deadly,) = fleet.dispatch("fatal", "third")
    good = fleet.dispatch(*CHAIN, count=3)
    deaths, (letter,) = die_and_return(fleet, lambda: letters(fleet))
    until_finished(fleet, good)

    assert "delivered 3 times" in letter["reason"]
    assert b'"fatal"' in letter["body"]
    # RabbitMQ counts a delivery that a dying worker had fetched and not begun as well.
    counts = [note["deliveries"] for note in fleet.facts.notes() if note["workflow"] == deadly]
    assert deaths == len(counts) <= 3
    assert counts == sorted(set(counts))
    if store_url is not None:
        assert fleet.status(deadly) == "failed"


def die_and_return(fleet: Fleet, result: Callable[[], list[Letter]]) -> tuple[int, list[Letter]]:
    """Start the worker again whenever it dies, as systemd would; how often it died until there was a result."""
    worker, deaths = fleet.start(), 0

    def over() -> list[Letter]:
        nonlocal worker, deaths
        if not worker.is_alive:
            worker, deaths = fleet.start(), deaths + 1
        return result()

    found = until(over, 180)
    return deaths, found


def letters(fleet: Fleet) -> list[Letter]:
    """What was set aside, with its reason."""
    if fleet.store is not None:
        rows = fleet.facts.rows("SELECT reason, body FROM paigeant_dead_letter") if fleet.processes[0].log else []
        return [{"reason": row.reason, "body": bytes(row.body)} for row in rows]
    return asyncio.run(waiting(fleet, queue_name(fleet.app_name, "dead-letter")))


async def waiting(fleet: Fleet, queue: str) -> list[Letter]:
    """Look at what waits in a queue, and leave it there."""
    transport = fleet.app.transport
    if not await transport.depth(queue):
        return []
    consuming = transport.consume([queue], 10)
    try:
        batch = await anext(consuming)
        return [{"reason": one.headers["reason"], "body": one.body} for one in batch]
    finally:
        for one in batch:
            await transport.release(one)
        await consuming.aclose()
