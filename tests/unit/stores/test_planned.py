"""The steps of a workflow as its plan is now, whatever changed it."""

from __future__ import annotations

from paigeant.records.workflow import Status, StepRecord
from paigeant.stores.planned import Planned, PlannedStep, planned_in, with_planned

RUNNING, COMPLETED, FAILED = Status.RUNNING, Status.COMPLETED, Status.FAILED


def plan(*ids: str) -> Planned:
    return {one: PlannedStep(f"name {one}", f"queue {one}") for one in ids}


def ran(*ids: str, status: str = "completed") -> list[StepRecord]:
    return [StepRecord(id=one, activity=f"name {one}", status=status) for one in ids]


def shown(attempts, dispatched, *changes, status=RUNNING) -> list[str]:
    return [f"{one.id} {one.status}" for one in with_planned(attempts, dispatched, changes, status)]


def test_nothing_has_begun():
    """The plan at dispatch is ahead."""
    assert shown([], plan("1", "2")) == ["1 pending", "2 pending"]


def test_a_step_that_was_left_out_stays_in_its_place():
    """Also after later steps have completed."""
    assert shown(ran("1"), plan("1", "2", "3"), ("1", plan("3"))) == ["1 completed", "2 skipped", "3 pending"]
    assert shown(ran("1", "3"), plan("1", "2", "3"), ("1", plan("3"))) == ["1 completed", "2 skipped", "3 completed"]


def test_inserted_steps_are_where_they_were_put():
    """Before the steps that were planned."""
    ahead = plan("5", "6", "2")
    assert shown(ran("1"), plan("1", "2"), ("1", ahead)) == ["1 completed", "5 pending", "6 pending", "2 pending"]


def test_a_later_change_counts_for_what_an_earlier_one_inserted():
    """One inserted step replaces the other ones."""
    changes = ("1", plan("5", "6", "2")), ("5", plan("7", "2"))
    expected = ["1 completed", "5 completed", "7 pending", "6 skipped", "2 pending"]
    assert sorted(shown(ran("1", "5"), plan("1", "2"), *changes)) == sorted(expected)
    assert shown(ran("1", "5"), plan("1", "2"), *changes)[:2] == expected[:2]


def test_what_a_completed_workflow_did_not_run_was_left_out():
    """It ended sooner than planned; a failed one may yet go on."""
    assert shown(ran("1"), plan("1", "2"), status=COMPLETED) == ["1 completed", "2 skipped"]
    assert shown(ran("1", status="failed"), plan("1", "2"), status=FAILED) == ["1 failed", "2 pending"]


def test_every_attempt_is_shown():
    """In the order in which they began."""
    tries = [*ran("1", status="retried"), *ran("1")]
    assert shown(tries, plan("1", "2"), ("1", {})) == ["1 retried", "1 completed", "2 skipped"]


def test_rows_that_another_program_wrote_are_passed_over():
    """Whatever is in them."""
    assert planned_in([{"id": "1", "name": "a"}, 5, {"id": 2}, {"id": "3", "name": None}, {}]) == {"1": ("a", None)}
    assert planned_in([{"id": "1", "name": "a", "queue": 7}]) == {"1": ("a", None)}
    assert planned_in({"id": "1"}) == planned_in(None) == {}


def test_every_step_has_its_queue():
    """Those that ran and those that did not; a compensation may have another one."""
    back = StepRecord(id="1", activity="name 1", status="compensated", heading="back")
    found = with_planned([*ran("1"), back], plan("1", "2"), [], RUNNING)
    assert [one.queue for one in found] == ["queue 1", None, "queue 2"]
