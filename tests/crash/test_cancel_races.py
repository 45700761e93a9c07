"""Workflows are cancelled at any moment of their lives: one end each, and nothing starts after that (G10)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from crash.fleet import Fleet

from paigeant import App
from paigeant.errors import WorkflowError
from paigeant.events import LAST

STEPS = 4
LIFE = 0.6
"""Seconds within which a workflow is cancelled after it was dispatched; it lives about as long."""


@dataclass
class Cancel:
    """One workflow, and what was said to whoever cancelled it."""

    workflow: str
    compensate: bool
    accepted_at: float | None = None
    refused: str = ""


async def race(app: App, dice: random.Random) -> Cancel:
    """Dispatch a workflow and cancel it at some time; while it runs, or before, or after."""
    steady = app.activities["steady"]
    workflow = await app.dispatch(*(steady.step(seconds=dice.random() * LIFE / STEPS) for _ in range(STEPS)))
    one = Cancel(workflow.correlation_id, dice.random() < 0.5)
    await asyncio.sleep(dice.random() * LIFE)
    try:
        await workflow.cancel(compensate=one.compensate)
        one.accepted_at = time.time()
    except WorkflowError as error:
        one.refused = str(error)
    return one


def race_all(fleet: Fleet, workflows: int) -> list[Cancel]:
    async def all_of_them() -> list[Cancel]:
        dice = random.Random(2026)
        turns = asyncio.Semaphore(10)

        async def one_of_them(seed: int) -> Cancel:
            async with turns:
                return await race(fleet.app, random.Random(seed))

        return await asyncio.gather(*(one_of_them(dice.randrange(10**9)) for _ in range(workflows)))

    return asyncio.run(all_of_them())


def assert_one_end(fleet: Fleet, races: list[Cancel]) -> Counter[str]:
    """Of each workflow, and the one that it says; how many ended how."""
    told = fleet.facts.rows("SELECT correlation_id, type FROM paigeant_event")
    ends = Counter(row[0] for row in told if row[1] in LAST)
    statuses = dict(fleet.facts.rows("SELECT correlation_id, status FROM paigeant_workflow"))
    assert ends == dict.fromkeys(statuses, 1)
    assert {one.workflow for one in races} == statuses.keys()
    for one in races:
        allowed = {"completed"} if one.refused else {"cancelled"}
        if one.compensate and not one.refused:
            allowed |= {"compensated", "completed"}  # its last step may have been running
        assert statuses[one.workflow] in allowed
    return Counter(statuses.values())


def assert_no_start_after(fleet: Fleet, races: list[Cancel]) -> None:
    """And what was done is taken back, last first, if that was asked for."""
    notes = fleet.facts.notes()
    statuses = dict(fleet.facts.rows("SELECT correlation_id, status FROM paigeant_workflow"))
    for one in races:
        mine = [fact for fact in notes if fact["workflow"] == one.workflow]
        starts = [fact for fact in mine if fact["what"] == "start"]
        late = [fact["at"] - one.accepted_at for fact in starts if one.accepted_at and fact["at"] > one.accepted_at]
        assert late == [], f"{one} started {late} s after that"
        undone = [fact["step"] for fact in mine if fact["what"] == "undone"]
        rows = fleet.facts.rows(
            "SELECT step_id FROM paigeant_step WHERE status = 'completed' AND heading = 'forward'"
            f" AND correlation_id = '{one.workflow}'"
        )
        done = sorted((row[0] for row in rows), reverse=True)
        assert undone == (done if statuses[one.workflow] == "compensated" else [])


def run_races(fleet: Fleet, workflows: int) -> None:
    workers = [fleet.start().ready() for _ in range(2)]
    races = race_all(fleet, workflows)
    fleet.ended(*(one.workflow for one in races), deadline=90)
    assert_no_start_after(fleet, races)
    ended = assert_one_end(fleet, races)
    assert ended["cancelled"] > 0, "the times were meant to hit them while they run"
    for worker in workers:
        worker.stop()
    assert "Traceback" not in fleet.logs


@pytest.mark.slow
def test_cancelled_at_random_times(fleet: Fleet) -> None:
    """One terminal state, and no step started after the cancel was accepted."""
    run_races(fleet, 60)


@pytest.mark.slow
def test_cancelled_at_random_times_with_broker_and_store_apart(make_apart: Callable[..., Fleet]) -> None:
    """The same where the store does not take part in settlements."""
    run_races(make_apart(), 30)
