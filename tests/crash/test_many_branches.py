"""A scatter over many branches, run by two worker processes: all of them, each once, and together in their order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet

from paigeant import scatter


def scatter_over(fleet: Fleet, branches: int) -> None:
    fleet.settings = {"CRASH_CONCURRENCY": "50", "PAIGEANT_LEASE_SECONDS": "30"}
    workers = [fleet.start().ready() for _ in range(2)]
    echo = fleet.app.activities["echo"]
    [workflow] = fleet.dispatch(scatter(*(echo.step(value=n) for n in range(branches))))
    fleet.ended(workflow, deadline=240)

    async def result() -> list[int]:
        try:
            return [one.output for one in await fleet.app.workflow(workflow).result(30)]
        finally:
            await fleet.app.close()

    assert asyncio.run(result()) == list(range(branches))
    starts = Counter(fact["message"] for fact in fleet.facts.notes())
    assert (len(starts), {*starts.values()}) == (branches, {1})
    assert len({fact["pid"] for fact in fleet.facts.notes()}) == 2
    ended = fleet.facts.rows("SELECT status, count(*) FROM paigeant_workflow GROUP BY status")
    assert [tuple(row) for row in ended] == [("completed", branches + 1)]
    assert fleet.facts.one("SELECT count(*) FROM paigeant_branch") == 0
    for worker in workers:
        worker.stop()
    assert "Traceback" not in fleet.logs


@pytest.mark.endurance
def test_a_thousand_branches_on_two_workers(make_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """They come together once, with what each gave."""
    scatter_over(make_fleet(f"sqlite:///{tmp_path}/paigeant.db"), 1000)


def test_branches_with_broker_and_store_apart(make_apart: Callable[..., Fleet]) -> None:
    """The same where the store does not take part in settlements."""
    scatter_over(make_apart(), 60)
