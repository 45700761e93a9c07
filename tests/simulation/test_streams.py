"""Steps that show values keep every promise, whatever goes wrong while these are on their way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from paigeant import ActivityContext, App
from paigeant.testing import Fault, FaultPlan, simulate


@pytest.fixture
def steps():
    app = App("streams", "memory://")

    @app.activity
    async def count(ctx: ActivityContext) -> AsyncIterator[int]:
        for number in range(3):
            ctx.emit(number)
            yield number

    @app.activity
    def twice(numbers: list[int]) -> Iterator[int]:
        for number in numbers:
            yield number * 2

    return app, count, twice


def test_a_worker_may_die_while_what_a_step_shows_is_on_its_way(steps):
    """At every point of the protocol, with every delivery doubled."""
    report = simulate(*steps, crash_at="every_point", duplicate="every_delivery")
    assert [run.output for run in report] == [[0, 2, 4]] * len(report)


def test_the_store_may_be_away_when_a_step_shows_something(steps):
    """Nothing waits for it, and nothing fails."""
    plans = [FaultPlan(faults=(Fault(kind, "note", nth=nth),)) for kind in ("lose", "outage") for nth in (1, 2)]
    report = simulate(*steps, plans=plans)
    assert [run.output for run in report] == [[0, 2, 4]] * len(report)
