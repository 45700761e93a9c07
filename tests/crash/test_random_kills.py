"""Workers die at random; every workflow completes, and nothing completed is run again (G1, G2, G3)."""

from __future__ import annotations

import random
from collections.abc import Callable

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


def kill_along_the_way(fleet: Fleet, steps: int, deaths: int = 4) -> None:
    """Two workers, one of them killed with SIGKILL and replaced each time that so many of all steps have ended.

    By progress and not by the clock: on a busy machine workers that die every second get nothing done.
    """
    dice = random.Random(2025)
    workers = [fleet.start().ready(), fleet.start().ready()]
    for death in range(1, deaths + 1):
        until_ended(fleet, death * steps // (deaths + 1))
        holds_within(lambda: False, dice.random() / 5)  # somewhere within a step
        victim = dice.randrange(2)
        workers[victim].ready().kill()
        workers[victim] = fleet.start()


def until_ended(fleet: Fleet, enough: int, patience: float = 60.0) -> None:
    """Wait until so many steps have ended, as long as it goes on."""
    while (done := ends(fleet)) < enough:
        until(lambda done=done: ends(fleet) > done, patience)


def ends(fleet: Fleet) -> int:
    return sum(note["what"] == "end" for note in fleet.facts.notes())


def chain(fleet: Fleet) -> list[ActivitySpec]:
    return [fleet.app.activities[name].step(seconds=0.1) for name in CHAIN]


@pytest.mark.slow
def test_workers_killed_at_random_lose_nothing_and_repeat_nothing(fleet: Fleet) -> None:
    """Issue A: 150 workflows of 3 steps; nothing completed is run again, and each step has one successor.

    A death counts for all that the worker held, so these deaths by chance must not set anything aside.
    """
    fleet.settings = {"CRASH_CONCURRENCY": "8", "PAIGEANT_MAX_DELIVERIES": "1000"}
    workflows = fleet.dispatch(*chain(fleet), count=WORKFLOWS)
    kill_along_the_way(fleet, 3 * WORKFLOWS)
    fleet.ended(*workflows, deadline=90)

    fleet.facts.assert_each_step_ran_to_its_end_once(workflows)
    fleet.facts.assert_nothing_waits()
    assert "locked" not in fleet.logs
