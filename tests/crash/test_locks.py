"""A lock over several processes: one holder at a time, and none for ever, whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash.fleet import Fleet

MakeFleet = Callable[..., Fleet]


def contend(fleet: Fleet, steps: int, processes: int, deaths: int, deadline: float) -> None:
    """Steps that want one lock, in turn with some that kill their process while they hold it."""
    share = steps // deaths
    ids = [one for _ in range(deaths) for one in (*fleet.dispatch("guarded", count=share), *fleet.dispatch("mortal"))]
    workers = [fleet.start() for _ in range(processes)]
    fleet.ended(*ids, deadline=deadline)
    statuses = fleet.facts.rows("SELECT DISTINCT status FROM paigeant_workflow")
    assert [row[0] for row in statuses] == ["completed"]
    alive = [worker for worker in workers if worker.is_alive]
    assert len(workers) - len(alive) == deaths
    for worker in alive:
        worker.stop()
    assert_one_at_a_time(fleet, len(ids), deaths)


def assert_one_at_a_time(fleet: Fleet, ended: int, deaths: int) -> None:
    """Every step noted its start and its end before the next one's start; those who died their start only."""
    holder: dict[str, Any] | None = None
    cut_short = 0
    notes = fleet.facts.notes()
    for fact in notes:
        if fact["what"] == "start":
            cut_short += holder is not None
            holder = fact
        else:
            assert holder is not None
            assert (fact["message"], fact["pid"]) == (holder["message"], holder["pid"])
            holder = None
    assert (holder, cut_short) == (None, deaths)
    assert [fact["what"] for fact in notes].count("end") == ended


def test_a_killed_holder_frees_the_lock_and_there_is_one_at_a_time(make_fleet: MakeFleet, tmp_path: Path) -> None:
    """Fifty steps and three processes, of which one is killed while it holds the lock."""
    contend(make_fleet(f"sqlite:///{tmp_path}/paigeant.db"), 50, 3, 1, 90)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_thousand_contended_steps(fleet: Fleet) -> None:
    """Four processes, of which three are killed while they hold the lock."""
    contend(fleet, 1000, 4, 3, 600)
