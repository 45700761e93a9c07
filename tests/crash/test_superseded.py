"""Two workers finish the same step: one successor, and the loser is told (G3)."""

from __future__ import annotations

import signal

from crash.fleet import Fleet
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
