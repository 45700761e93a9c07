"""Workers die at random; every workflow completes, and nothing completed is run again (G1, G2, G3)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from crash.fleet import Fleet
from crash.service import CHAIN
from helpers import until

from paigeant import ActivitySpec

WORKFLOWS = 150


def holds_within(condition: Callable[[], bool], seconds: float) -> bool:
    try:
        return until(condition, seconds)
    except AssertionError:
        return False


def kill_every_second(fleet: Fleet, workflows: Sequence[str]) -> int:
    """Two workers, one of them killed with SIGKILL every second and replaced, until all is done; how many died."""
    dice = random.Random(2025)
    workers = [fleet.start().ready(), fleet.start().ready()]
    kills = 0
    while not holds_within(lambda: fleet.have_ended(workflows), 1.0):
        victim = dice.randrange(2)
        workers[victim].kill()
        workers[victim] = fleet.start()
        kills += 1
        assert kills < 60, "the workflows do not end"
    return kills


def chain(fleet: Fleet) -> list[ActivitySpec]:
    return [fleet.app.activities[name].step(seconds=0.1) for name in CHAIN]


@pytest.mark.slow
def test_workers_killed_every_second_lose_nothing_and_repeat_nothing(fleet: Fleet) -> None:
    """Issue A: 150 workflows of 3 steps; nothing completed is run again, and each step has one successor."""
    fleet.settings = {"CRASH_CONCURRENCY": "8"}
    workflows = fleet.dispatch(*chain(fleet), count=WORKFLOWS)

    assert kill_every_second(fleet, workflows) >= 3
    fleet.facts.assert_each_step_ran_to_its_end_once(workflows)
    fleet.facts.assert_nothing_waits()
    assert "locked" not in fleet.logs


@pytest.mark.slow
@pytest.mark.brokers
@pytest.mark.parametrize("broker", ["rabbitmq", "redis"])
def test_the_same_with_a_broker_of_its_own(
    make_fleet: Callable[..., Fleet],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    prefix: str,
    broker: str,
) -> None:
    """Broker and store apart: nothing is lost and no end is recorded twice, though a start may come twice."""
    url = request.getfixturevalue(f"{broker}_url")
    fleet = make_fleet(url, f"sqlite:///{tmp_path}/store.db", app_name=prefix)
    fleet.settings = {"CRASH_CONCURRENCY": "8"}
    workflows = fleet.dispatch(*chain(fleet), count=WORKFLOWS)

    assert kill_every_second(fleet, workflows) >= 2
    fleet.facts.assert_each_step_completed_once(workflows)
    assert fleet.facts.one("SELECT count(*) FROM paigeant_outbox") == 0
