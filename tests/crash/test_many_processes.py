"""Many processes on one database: no lock errors, nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet
from helpers import until


def run_noops(fleet: Fleet, workflows: int, deadline: float) -> float:
    """Hops per second of four workers, their start included."""
    fleet.settings = {"CRASH_CONCURRENCY": "50", "PAIGEANT_LEASE_SECONDS": "30"}
    ids = fleet.dispatch("noop", "noop", "noop", count=workflows)
    workers = [fleet.start() for _ in range(4)]
    began = time.monotonic()
    for worker in workers:
        worker.ready()
    running = "SELECT count(*) FROM paigeant_workflow WHERE status = 'running'"
    until(lambda: fleet.facts.one(running) == 0, deadline)
    seconds = time.monotonic() - began

    fleet.facts.assert_each_step_ran_to_its_end_once(ids)
    fleet.facts.assert_nothing_waits()
    assert {deliveries for starts in fleet.facts.starts().values() for deliveries in starts} == {1}
    assert len(fleet.facts.starts()) == workflows * 3
    for worker in workers:
        worker.stop()
    for complaint in ("locked", "busy", "unreachable", "Traceback", "superseded"):
        assert complaint not in fleet.logs
    return workflows * 3 / seconds


def test_four_processes_share_300_workflows(fleet: Fleet) -> None:
    """Each step runs once although four processes reach for it."""
    run_noops(fleet, 300, 30)


@pytest.mark.endurance
def test_four_processes_share_5000_workflows_in_one_sqlite_file(
    make_fleet: Callable[..., Fleet], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Issue A's load: 15,000 hops by four processes on one file."""
    hops = run_noops(make_fleet(f"sqlite:///{tmp_path}/paigeant.db"), 5000, 100)
    record_property("hops_per_second", round(hops))
