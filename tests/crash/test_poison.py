"""A step that kills its process every time is set aside; the others go on (G2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet, Process
from crash.service import CHAIN
from helpers import until


class Supervisor:
    """Starts the worker again whenever it dies, as systemd or Kubernetes would."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.worker: Process = fleet.start()
        self.deaths = 0

    def watch(self) -> None:
        if not self.worker.is_alive:
            self.deaths += 1
            self.worker = self.fleet.start()

    def until_ended(self, *workflows: str, deadline: float = 60) -> None:
        def ended() -> bool:
            self.watch()
            return self.fleet.have_ended(workflows)

        until(ended, deadline)


def test_a_step_that_kills_its_worker_is_set_aside_after_five_deliveries(fleet: Fleet) -> None:
    """The workflow fails with the reason, the message is kept with its bytes, and other workflows complete."""
    fleet.lease = 0.6
    (deadly,) = fleet.dispatch("fatal", "third")
    good = fleet.dispatch(*CHAIN, count=3)
    supervisor = Supervisor(fleet)
    supervisor.until_ended(deadly, *good)

    assert supervisor.deaths == 5
    assert fleet.status(deadly) == "failed"
    error = fleet.facts.one(f"SELECT error FROM paigeant_workflow WHERE correlation_id = '{deadly}'")
    assert "delivered 5 times" in error
    (letter,) = fleet.facts.rows("SELECT * FROM paigeant_dead_letter")
    assert letter.correlation_id == deadly
    assert b'"fatal"' in bytes(letter.body)
    assert fleet.facts.starts()[letter.message_id] == [1, 2, 3, 4, 5]
    fleet.facts.assert_each_step_ran_to_its_end_once(good)
    fleet.facts.assert_nothing_waits()


@pytest.mark.endurance
def test_long_steps_beside_a_deadly_one_are_not_blamed_for_it(make_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """Steps that only happen to run when the worker dies complete in the end: the deadly one alone is set aside."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/paigeant.db", lease=0.6)
    long = fleet.app.activities["first"].step(seconds=1.0)
    innocent = fleet.dispatch(long, "second", count=3)
    (deadly,) = fleet.dispatch("fatal")
    supervisor = Supervisor(fleet)
    supervisor.until_ended(deadly, *innocent)

    assert fleet.status(deadly) == "failed"
    fleet.facts.assert_each_step_ran_to_its_end_once(innocent, steps=2)
