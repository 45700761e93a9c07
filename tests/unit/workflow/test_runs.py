"""Which run of a step counts: of redeliveries, retries, and those that lost."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant.records.workflow import EventRecord, StepRecord
from paigeant.workflow.runs import Runs


def shown(message: str = "m1", deliveries: int = 1, worker: str = "a", step: str = "1", **more: Any) -> EventRecord:
    about = {"message_id": message, "deliveries": deliveries, "worker": worker, "step_id": step}
    return EventRecord(offset=1, type="step_yielded", correlation_id="w", at=0.0, data=about | more)


def ran(message: str = "m1", deliveries: int = 1, worker: str = "a", status: str = "started", step: str = "1"):
    return StepRecord(
        id=step, activity="x", status=status, message_id=message, deliveries=deliveries, worker=worker, started_at=0.0
    )


NOBODY = StepRecord(id="2", activity="y", status="pending")


@pytest.mark.parametrize(
    ("recorded", "read", "marks"),
    [
        ([], [shown(), shown()], "--"),
        ([], [shown(), shown(deliveries=2, worker="b"), shown()], "--x"),
        ([], [shown(deliveries=2, worker="b"), shown()], "-x"),
        ([], [shown(), shown("m2"), shown(), shown("m2"), shown(worker="b")], "--x-x"),
        ([], [shown(step="1"), shown("n1", step="2"), shown(step="1")], "---"),
        ([], [shown(heading="forward"), shown("back", heading="back"), shown(heading="forward")], "---"),
        ([NOBODY], [shown(step="2")], "-"),
        ([ran()], [shown()], "-"),
        ([ran()], [shown(), shown(deliveries=2)], "--"),
        ([ran(deliveries=2, worker="b")], [shown(), shown(deliveries=2, worker="b")], "x-"),
        ([ran(status="retried"), ran("m2")], [shown(), shown("m2"), shown("m3")], "x--"),
        ([ran(status="completed", worker="b")], [shown(worker="a"), shown(worker="b")], "x-"),
        ([ran(status="completed", worker="b")], [shown(worker="a", deliveries=2)], "x"),
        ([ran(worker="b")], [shown(worker="a"), shown(worker="b")], "-x"),
    ],
    ids=[
        "one run",
        "redelivered",
        "the loser speaks up later",
        "retried",
        "two steps",
        "taken back",
        "not begun",
        "known",
        "known, then redelivered",
        "known to be redelivered",
        "known to be retried",
        "known to have ended elsewhere",
        "delivered again though it had ended",
        "a broker that does not count",
    ],
)
def test_a_run_that_another_took_the_place_of_is_marked(recorded, read, marks):
    """The reader knows what was recorded when it began, and what it has read."""
    runs = Runs(recorded)
    assert "".join("x" if runs.marked(one).abandoned else "-" for one in read) == marks


def test_events_of_no_run_are_left_as_they_are():
    """Those of workflows, and what some other program wrote."""
    for data in ({}, {"message_id": 1, "deliveries": "x", "worker": None}):
        event = EventRecord(offset=1, type="x", correlation_id="w", at=0.0, data=data)
        assert Runs().marked(event) is event
