"""Two workers finish the same step: one successor, and the loser is told (G3)."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from crash.fleet import Fleet, Process
from helpers import until


def test_a_worker_that_was_paused_past_its_lease_is_refused(fleet: Fleet) -> None:
    """SIGSTOP in the middle of a step, another worker finishes it, SIGCONT: one successor, one result."""
    fleet.lease = 1.0
    sleeper = fleet.start(ONLY="first,second").ready()
    step = fleet.app.activities["first"].step(seconds=0.6)
    (workflow,) = fleet.dispatch(step, fleet.app.activities["second"].step(seconds=0.0), "third")
    until(fleet.log_shows("start", pid=sleeper.pid))
    sleeper.signal(signal.SIGSTOP)
    heir = fleet.start().ready()
    until(fleet.log_shows("end", "1", pid=heir.pid), 20)
    fleet.ended(workflow)

    sleeper.signal(signal.SIGCONT)
    until(lambda: "superseded" in sleeper.log)
    refused = "SELECT count(*) FROM paigeant_event WHERE type = 'step_superseded'"
    until(lambda: fleet.facts.one(refused) == 1)

    fleet.facts.assert_each_step_ran_to_its_end_once([workflow])
    fleet.facts.assert_nothing_waits()
    ran_to_end = [fact["pid"] for fact in fleet.facts.notes() if fact["what"] == "end" and fact["step"] == "1"]
    assert sorted(ran_to_end) == sorted([sleeper.pid, heir.pid]), "both were meant to finish it"
    assert "superseded" not in heir.log
    sleeper.stop()
    heir.stop()


def test_the_worker_that_comes_back_first_is_refused_while_the_other_still_runs(fleet: Fleet) -> None:
    """The loser finishes before the winner does: its result is refused although nobody else has one yet."""
    fleet.lease = 1.0
    sleeper = fleet.start(ONLY="first").ready()
    (workflow,) = fleet.dispatch(fleet.app.activities["first"].step(seconds=3.0), "second", "third")
    until(fleet.log_shows("start", pid=sleeper.pid))
    sleeper.signal(signal.SIGSTOP)
    heir = fleet.start().ready()
    until(fleet.log_shows("start", "1", pid=heir.pid), 20)
    sleeper.signal(signal.SIGCONT)
    until(lambda: "superseded" in sleeper.log)
    assert not fleet.log_shows("end", "1", pid=heir.pid)()
    fleet.ended(workflow)

    fleet.facts.assert_each_step_ran_to_its_end_once([workflow])
    fleet.facts.assert_nothing_waits()
    winner = fleet.facts.one("SELECT worker FROM paigeant_step WHERE step_id = '1'")
    assert f"READY {winner}" in heir.log


# --- broker and store apart: the answer to the record is lost -----------------------------------------------------

REFUSALS = "SELECT count(*) FROM paigeant_event WHERE type = 'step_superseded'"


def frozen_in_doubt(fleet: Fleet, when: str, seconds: float) -> tuple[str, Process, Process]:
    """A workflow, the worker that lost the answer to its end of step 2, and a worker that receives what it loses."""
    app = fleet.app.activities
    (workflow,) = fleet.dispatch("first", app["second"].step(seconds=seconds), "third")
    doubter = fleet.start(DOUBT=when).ready()
    until(lambda: "FREEZING" in doubter.log, 20)
    return workflow, doubter, fleet.start().ready()


def assert_won(fleet: Fleet, workflow: str, winner: Process) -> None:
    """The end of step 2 is that of this worker, each step has one end, and nothing is left to publish."""
    fleet.facts.assert_each_step_completed_once([workflow])
    recorded = fleet.facts.one("SELECT worker FROM paigeant_step WHERE step_id = '2'")
    assert f"READY {recorded}" in winner.log
    until(lambda: fleet.facts.one("SELECT count(*) FROM paigeant_outbox") == 0)


@pytest.mark.parametrize("heir_has", ["ended", "begun"])
def test_a_worker_whose_record_failed_is_refused_after_another_has_the_step(
    make_apart: Callable[..., Fleet], heir_has: str
) -> None:
    """The store is away for its first try, and its lease runs out before its second: the end of the heir counts."""
    fleet = make_apart(lease=1.0)
    workflow, doubter, heir = frozen_in_doubt(fleet, "before", seconds=0.1 if heir_has == "ended" else 4.0)
    until(fleet.log_shows("end" if heir_has == "ended" else "start", "2", pid=heir.pid), 30)
    if heir_has == "ended":
        fleet.ended(workflow)
    doubter.signal(signal.SIGCONT)
    until(lambda: fleet.facts.one(REFUSALS) == 1)
    assert heir_has == "ended" or not fleet.log_shows("end", "2", pid=heir.pid)()
    fleet.ended(workflow)

    assert_won(fleet, workflow, heir)
    assert "ANSWERED False" in doubter.log
    assert "step superseded" not in heir.log
    doubter.stop()
    heir.stop()


def test_a_worker_whose_record_was_not_answered_is_accepted(make_apart: Callable[..., Fleet]) -> None:
    """The store has recorded its end: it accepts the end again, and the heir runs only step 3."""
    fleet = make_apart(lease=1.0)
    workflow, doubter, heir = frozen_in_doubt(fleet, "after", seconds=0.1)
    fleet.ended(workflow)
    doubter.signal(signal.SIGCONT)
    until(lambda: "ANSWERED True" in doubter.log)

    assert_won(fleet, workflow, doubter)
    assert not fleet.log_shows("start", "2", pid=heir.pid)()
    doubter.stop()
    assert fleet.facts.one(REFUSALS) == 0
    heir.stop()
