"""Steps fail, and workers are killed in the middle of every compensation: all of them run, in order (G8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crash.fleet import Fleet

STEPS = 6


def itinerary(fleet: Fleet, fails: int, stubborn: int = 0) -> list[object]:
    """Six steps of which one fails, and one perhaps cannot be taken back."""
    book = fleet.app.activities["book"]
    return [book.step(fails=step == fails, stubborn=step == stubborn) for step in range(1, STEPS + 1)]


def send_all(fleet: Fleet) -> dict[str, tuple[int, int]]:
    """A workflow that fails at each step, and two that leave a step standing; what each was told."""
    told = [(step, 0) for step in range(1, STEPS + 1)] + [(STEPS, 3), (4, 3)]
    return {fleet.dispatch(*itinerary(fleet, *one))[0]: one for one in told}


def assert_taken_back(fleet: Fleet, workflow: str, fails: int, stubborn: int) -> None:
    """The right ones, in order, none skipped, each recorded once, and none begun before the one before had ended."""
    expected = [str(step) for step in range(fails - 1, 0, -1) if step != stubborn]
    mine = [fact for fact in fleet.facts.notes() if fact["workflow"] == workflow]
    undone = list(dict.fromkeys(fact["step"] for fact in mine if fact["what"] == "undone"))
    assert undone == expected
    begun = [int(fact["step"]) for fact in mine if fact["what"] == "undo"]
    assert begun == sorted(begun, reverse=True)
    last_start = max(index for index, fact in enumerate(mine) if fact["what"] == "start")
    assert all(fact["what"] == "start" for fact in mine[: last_start + 1]), "nothing was taken back before the failure"

    rows = fleet.facts.rows(
        f"SELECT step_id, status FROM paigeant_step WHERE correlation_id = '{workflow}' AND heading = 'back'"
    )
    assert sorted(row[0] for row in rows if row[1] == "compensated") == sorted(expected)
    assert [row[0] for row in rows if row[1] == "failed"] == ([str(stubborn)] if stubborn else [])
    status = "failed" if fails == 1 else "compensation_incomplete" if stubborn else "compensated"
    assert fleet.status(workflow) == status
    error = fleet.facts.one(f"SELECT error FROM paigeant_workflow WHERE correlation_id = '{workflow}'")
    assert "ValueError" in error


def fail_and_kill(fleet: Fleet, sent: dict[str, tuple[int, int]]) -> int:
    """Run what was sent to its end, with a new worker whenever one has killed itself; how many did."""
    worker = fleet.start(AGAIN="1", CONCURRENCY="1", PAIGEANT_MAX_DELIVERIES="1000")
    fleet.ended(*sent, deadline=250)
    for workflow, (fails, stubborn) in sent.items():
        assert_taken_back(fleet, workflow, fails, stubborn)
    left = sum(1 for fails, stubborn in sent.values() if stubborn or fails == 1)  # nothing was there to take back
    assert fleet.facts.one("SELECT count(*) FROM paigeant_dead_letter") == left
    worker.stop()
    return worker.log.count("KILLED")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_step_fails_and_whoever_dies_everything_is_taken_back(fleet: Fleet) -> None:
    """A failure at each of six steps, a SIGKILL in each compensation, and a step that cannot be taken back."""
    fleet.lease = 0.6
    sent = send_all(fleet)
    assert fail_and_kill(fleet, sent) == sum(fails - 1 - bool(stubborn) for fails, stubborn in sent.values())
    fleet.facts.assert_nothing_waits()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_broker_and_store_apart(make_apart: Callable[..., Fleet]) -> None:
    """The same for one workflow, where a message is delivered again by the broker."""
    fleet = make_apart(lease=0.6)
    [workflow] = fleet.dispatch(*itinerary(fleet, fails=4, stubborn=2))
    assert fail_and_kill(fleet, {workflow: (4, 2)}) == 2
