"""The way back, as decisions: which compensations follow which failure, and where that ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.builders import EXECUTION, message

from paigeant.decisions.forward import admit, decide, give_up
from paigeant.decisions.outcome import Cancelled, Completed, Dropped, Faulted, Parked, Poisoned, Retrying
from paigeant.events import Cancellation, ErrorInfo
from paigeant.records.workflow import Standing, Status
from paigeant.wire.codec import decode, encode
from paigeant.wire.log import Fault, Undo
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import Heading, RoutingSlip

BROKEN = ErrorInfo(type="ValueError", message="no", traceback="Traceback ...")
FAULT = Fault(step="3", type="ValueError", message="no")


def forward(*undoable: bool) -> PaigeantMessage:
    """A message whose step follows completed steps ``1``, ``2`` and so on, which can be taken back or not."""
    at = message(*"abcdefgh"[: len(undoable)], "failing", "never")
    for number, can in enumerate(undoable):
        undo = Undo(queue=f"q{number + 1}", arguments={"n": number + 1}) if can else None
        at = decide(at, Completed(EXECUTION, number + 1, undo=undo)).send[0].message
    return at


def failed(*undoable: bool) -> PaigeantMessage:
    """The message of the first compensation."""
    return decide(forward(*undoable), Faulted(EXECUTION, BROKEN)).send[0].message


def kinds(plan) -> list[str]:
    return [event.type for event in plan.record]


def test_a_failure_turns_the_slip():
    """The compensations lie ahead, the last completed step first, with what was recorded for each."""
    plan = decide(forward(True, False, True), Faulted(EXECUTION, BROKEN))
    back = plan.send[0].message
    assert kinds(plan) == ["step_failed", "compensation_started"]
    assert plan.record[1].steps == ["3", "1"]
    assert plan.record[1].error == BROKEN
    assert [(one.id, one.name, one.queue, one.arguments) for one in back.routing_slip.itinerary] == [
        ("3", "c", "q3", {"n": 3}),
        ("1", "a", "q1", {"n": 1}),
    ]
    assert [entry.id for entry in back.routing_slip.log] == ["1", "2", "3"]
    assert back.routing_slip.fault == Fault(step="4", type="ValueError", message="no")
    assert (back.routing_slip.heading, back.attempt, back.correlation_id) == (Heading.BACK, 1, "c1")


def test_a_poisonous_step_turns_the_slip_too():
    """And is set aside."""
    plan = decide(forward(True), Poisoned(EXECUTION, BROKEN))
    assert (plan.set_aside.reason, plan.send[0].message.step.id) == ("no", "1")


@pytest.mark.parametrize("undoable", [(), (False,), (False, False)])
def test_with_nothing_to_take_back_the_workflow_has_failed(undoable):
    """As without compensations."""
    plan = decide(forward(*undoable), Faulted(EXECUTION, BROKEN))
    assert (kinds(plan), plan.send) == (["step_failed", "workflow_failed"], ())


def test_what_is_taken_back_leaves_the_log():
    """So that the log is what still stands; the next one follows."""
    plan = decide(failed(True, True), Completed(EXECUTION, "done"))
    after = plan.send[0].message
    assert kinds(plan) == ["step_compensated"]
    assert plan.record[0].heading == "back"
    assert (after.step.id, [entry.id for entry in after.routing_slip.log]) == ("1", ["1"])


def test_after_the_last_one_the_workflow_is_compensated():
    """With the error it failed of, and its variables."""
    plan = decide(failed(True), Completed(EXECUTION, None, {"v": 2}))
    assert kinds(plan) == ["step_compensated", "workflow_compensated"]
    end = plan.record[1]
    assert (end.error.type, end.error.message, end.left, end.variables) == ("ValueError", "no", [], {"v": 2})


def test_a_compensation_that_fails_for_good_is_set_aside_and_the_others_run():
    """The end says what was left."""
    plan = decide(failed(True, True), Faulted(EXECUTION, ErrorInfo(type="OSError", message="down")))
    assert (kinds(plan), plan.set_aside.reason) == (["step_failed"], "compensation failed: OSError: down")
    last = decide(plan.send[0].message, Completed(EXECUTION, None))
    assert (last.record[1].left, last.record[1].error.type) == (["2"], "ValueError")


def test_a_compensation_is_tried_again_on_the_way_back():
    """The same one."""
    again = decide(failed(True, True), Retrying(EXECUTION, BROKEN, 1.0)).send[0].message
    assert (again.step.id, again.attempt, again.routing_slip.heading) == ("2", 2, Heading.BACK)


def test_going_back_over_a_step_is_another_message_than_running_it():
    """Or it would count as done with."""
    step = message("a")
    back = PaigeantMessage(correlation_id="c1", routing_slip=failed(True).routing_slip)
    assert (step.step.id, step.id != back.id) == (back.step.id, True)


def test_a_message_that_cannot_be_written_leaves_everything_standing():
    """It is set aside with the reason; nothing is claimed to have been taken back."""
    plan = give_up(forward(True, False, True), Faulted(EXECUTION, BROKEN))
    assert (kinds(plan), plan.record[1].left, plan.set_aside.reason) == (
        ["step_failed", "workflow_compensated"],
        ["3", "1"],
        "ValueError: no",
    )
    assert kinds(give_up(forward(False), Faulted(EXECUTION, BROKEN))) == ["step_failed", "workflow_failed"]
    half = decide(failed(True, True, True), Faulted(EXECUTION, BROKEN)).send[0].message
    assert give_up(half, Faulted(EXECUTION, BROKEN)).record[1].left == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("status", "ahead", "back"),
    [
        (Status.RUNNING, None, None),
        (Status.PAUSED, Parked, None),
        (Status.COMPENSATING, Dropped, None),
        (Status.FAILED, Dropped, Dropped),
    ],
)
def test_while_a_workflow_takes_back_nothing_of_it_goes_ahead(status, ahead, back):
    """And a pause does not stop the way back."""
    for one, expected in ((forward(True), ahead), (failed(True), back)):
        outcome = admit(one, Standing(status=status), EXECUTION)
        assert type(outcome) is (expected or type(None))


def test_a_slip_that_heads_back_says_why():
    """Or nobody could say what the workflow failed of."""
    with pytest.raises(ValidationError, match="no fault says why"):
        RoutingSlip(heading=Heading.BACK)


@given(st.lists(st.booleans(), max_size=8), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_every_step_that_can_be_is_taken_back_once_in_reverse_order(undoable, ends):
    """Whatever becomes of each compensation, and over the wire each time."""
    plan = decide(forward(*undoable), Faulted(EXECUTION, BROKEN))
    outcomes = iter(ends)
    seen, left, ids = [], [], set()
    while plan.send:
        at = decode(encode(plan.send[0].message, 10**6), 10**6)
        assert at.id not in ids
        ids.add(at.id)
        match next(outcomes):
            case 0:
                plan = decide(at, Faulted(EXECUTION, BROKEN))
                left.append(at.step.id)
                seen.append(at.step.id)
            case 1:
                plan = decide(decide(at, Retrying(EXECUTION, BROKEN, 0.0)).send[0].message, Completed(EXECUTION))
                seen.append(at.step.id)
            case _:
                plan = decide(at, Completed(EXECUTION))
                seen.append(at.step.id)
    assert seen == [str(number + 1) for number, can in enumerate(undoable) if can][::-1]
    end = plan.record[-1]
    assert end.type == ("workflow_compensated" if seen else "workflow_failed")
    assert end.error.message == BROKEN.message
    if seen:
        assert end.left == left


# --- cancelling ------------------------------------------------------------------------------------------------------

WISH = Cancellation(at=1.0, by="ada", reason="enough", compensate=True)


def test_a_cancel_turns_the_slip():
    """The step that ran is not taken back; the error is the wish."""
    plan = decide(forward(True, True), Cancelled(EXECUTION, WISH, ran=True))
    assert (kinds(plan), plan.record[1].steps) == (["step_cancelled", "compensation_started"], ["2", "1"])
    fault = plan.send[0].message.routing_slip.fault
    assert (fault.type, fault.message) == ("WorkflowCancelled", "cancelled by ada: enough")


@pytest.mark.parametrize(
    ("undoable", "compensate", "ran", "ended"),
    [
        ((False,), True, True, "step_cancelled"),
        ((True,), False, True, "step_cancelled"),
        ((True,), False, False, "step_dropped"),
    ],
)
def test_a_cancel_that_takes_nothing_back_ends_the_workflow(undoable, compensate, ran, ended):
    """For there is nothing, or nobody asked for it."""
    wish = replace(WISH, compensate=compensate)
    plan = decide(forward(*undoable), Cancelled(EXECUTION, wish, ran=ran))
    assert (kinds(plan), plan.send) == ([ended, "workflow_cancelled"], ())
    assert (plan.record[1].by, plan.record[1].reason) == ("ada", "enough")


def test_no_step_of_a_cancelled_workflow_starts_but_those_that_take_back():
    """Also if it was paused before."""
    for status in (Status.RUNNING, Status.PAUSED):
        outcome = admit(forward(True), Standing(status=status, cancellation=WISH), EXECUTION)
        assert outcome == Cancelled(EXECUTION, WISH, ran=False)
    assert admit(failed(True), Standing(status=Status.COMPENSATING, cancellation=WISH), EXECUTION) is None
