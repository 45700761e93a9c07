from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import EXECUTION, json_objects, json_values, labels, message, messages

from paigeant.decisions.forward import admit, decide
from paigeant.decisions.outcome import Completed, Dropped, Exhausted, Faulted, Parked, Poisoned, Retrying, Returned
from paigeant.decisions.plan import Release, Settle
from paigeant.events import (
    ErrorInfo,
    StepCompleted,
    StepFailed,
    StepRetried,
    WorkflowCompleted,
    WorkflowFailed,
)
from paigeant.records.workflow import Standing, Status
from paigeant.runtime.clock import utc
from paigeant.wire.codec import decode, encode
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

BROKEN = ErrorInfo(type="ValueError", message="no")

COMPLETED, FAILED, RETRIED = "step_completed", "step_failed", "step_retried"
WORKFLOW_COMPLETED, WORKFLOW_FAILED = "workflow_completed", "workflow_failed"

# (steps ahead, outcome) -> (step sent next, its attempt and delay; events; kind and reason of the dead letter)
TABLE = [
    (["a", "b"], Completed(EXECUTION, 5), ("b", 1, 0.0), [COMPLETED], None),
    (["a"], Completed(EXECUTION, 5), None, [COMPLETED, WORKFLOW_COMPLETED], None),
    (["a", "b"], Retrying(EXECUTION, BROKEN, 2.5), ("a", 4, 2.5), [RETRIED], None),
    (["a"], Retrying(EXECUTION, BROKEN, 0.0), ("a", 4, 0.0), [RETRIED], None),
    (["a", "b"], Faulted(EXECUTION, BROKEN), None, [FAILED, WORKFLOW_FAILED], ("exhausted", "ValueError: no")),
    (["a"], Faulted(EXECUTION, BROKEN), None, [FAILED, WORKFLOW_FAILED], ("exhausted", "ValueError: no")),
    (["a", "b"], Poisoned(EXECUTION, BROKEN), None, [FAILED, WORKFLOW_FAILED], ("poison", "no")),
    (["a"], Poisoned(EXECUTION, BROKEN), None, [FAILED, WORKFLOW_FAILED], ("poison", "no")),
]


@pytest.mark.parametrize(("ahead", "outcome", "sent", "events", "aside"), TABLE)
def test_what_follows(ahead, outcome, sent, events, aside):
    """The whole decision as a table."""
    plan = decide(message(*ahead, attempt=3), outcome)
    assert isinstance(plan, Settle)
    assert [(one.message.step.name, one.message.attempt, one.delay) for one in plan.send] == ([sent] if sent else [])
    assert [event.type for event in plan.record] == events
    assert (plan.set_aside and (plan.set_aside.kind, plan.set_aside.reason)) == aside


def test_a_step_that_cannot_run_here_goes_back_and_leaves_no_trace():
    """Nothing happened to it."""
    assert decide(message("a"), Returned("not served", 10.0)) == Release("not served", 10.0)


def test_the_log_says_who_ran_a_step_and_when():
    """With its output and attempt, for every step after it."""
    plan = decide(message("a", "b", attempt=3), Completed(EXECUTION, {"x": 1}))
    (entry,) = plan.send[0].message.routing_slip.log
    assert (entry.id, entry.name, entry.output, entry.attempt, entry.worker) == ("1", "a", {"x": 1}, 3, "w1")
    assert (entry.started_at, entry.finished_at) == (utc(100.0), utc(101.5))


def test_variables_that_were_not_changed_stay():
    """None means untouched."""
    one = PaigeantMessage(
        routing_slip=RoutingSlip(itinerary=message("a", "b").routing_slip.itinerary, variables={"v": 1})
    )
    after = decide(one, Completed(EXECUTION, None, None)).send[0].message
    assert after.payload == {"v": 1}


def test_variables_that_were_changed_are_carried():
    """As a whole, also in the record of the step and at the end."""
    plan = decide(message("a"), Completed(EXECUTION, 5, {"v": 2}))
    assert plan.record[0].variables == {"v": 2}
    assert plan.record[1].variables == {"v": 2}


def test_a_retry_is_the_same_step_with_the_same_slip():
    """Only the attempt and the id are new."""
    one = message("a", "b")
    again = decide(one, Retrying(EXECUTION, BROKEN, 1.0)).send[0].message
    assert again.routing_slip == one.routing_slip
    assert (again.causation_id, again.id != one.id) == (one.id, True)


def test_a_failure_is_recorded_for_the_step_and_the_workflow():
    """The error is kept with both."""
    failed, ended = decide(message("a"), Faulted(EXECUTION, BROKEN)).record
    assert isinstance(failed, StepFailed)
    assert isinstance(ended, WorkflowFailed)
    assert (failed.error, failed.worker, failed.started_at, failed.at) == (BROKEN, "w1", 100.0, 101.5)
    assert ended.error == BROKEN


outcomes = st.one_of(
    st.builds(Completed, st.just(EXECUTION), json_values, st.none() | json_objects),
    st.builds(Retrying, st.just(EXECUTION), st.just(BROKEN), st.floats(0, 100)),
    st.builds(Faulted, st.just(EXECUTION), st.just(BROKEN)),
    st.builds(Poisoned, st.just(EXECUTION), st.just(BROKEN)),
    st.builds(Returned, st.just("busy"), st.just(1.0)),
)


@given(messages, outcomes)
def test_deciding_twice_gives_the_same_plan(one, outcome):
    """A crash between deciding and settling repeats the decision: same ids, same facts (G3)."""
    assert decide(one, outcome) == decide(one, outcome)


@given(messages, outcomes)
def test_a_plan_either_goes_on_or_ends_the_workflow(one, outcome):
    """Never both, never neither, unless the delivery goes back."""
    plan = decide(one, outcome)
    if isinstance(plan, Settle):
        ends = [event for event in plan.record if isinstance(event, WorkflowCompleted | WorkflowFailed)]
        assert len(plan.send) + len(ends) == 1


@given(messages, outcomes)
def test_every_message_of_a_plan_can_be_read(one, outcome):
    """What follows is a valid message with an id of its own."""
    plan = decide(one, outcome)
    for send in plan.send if isinstance(plan, Settle) else ():
        assert decode(encode(send.message, 10**7), 10**7) == send.message
        assert send.message.id != one.id


@given(st.lists(st.tuples(labels, st.integers(0, 3), json_values, st.none() | json_objects), min_size=1, max_size=8))
def test_a_slip_of_n_steps_ends_after_n_completions(steps):
    """Whatever the retries on the way: one end, the log in order, no message id twice."""
    itinerary = tuple(ActivitySpec(name=name) for name, *_ in steps)
    current = PaigeantMessage(routing_slip=RoutingSlip(itinerary=itinerary))
    ids, record = [current.id], []
    for _, retries, output, variables in steps:
        for _ in range(retries):
            plan = decide(current, Retrying(EXECUTION, BROKEN, 0.1))
            current = plan.send[0].message
            ids.append(current.id)
            record += plan.record
        plan = decide(current, Completed(EXECUTION, output, variables))
        record += plan.record
        if plan.send:
            current = decode(encode(plan.send[0].message, 10**7), 10**7)
            ids.append(current.id)
            assert [entry.name for entry in current.routing_slip.log] == [name for name, *_ in steps][
                : len(current.routing_slip.log)
            ]
    assert plan.send == ()
    assert [type(event) for event in record].count(WorkflowCompleted) == 1
    assert isinstance(record[-1], WorkflowCompleted)
    assert [event.activity for event in record if isinstance(event, StepCompleted)] == [name for name, *_ in steps]
    assert len([event for event in record if isinstance(event, StepRetried)]) == sum(
        retries for _, retries, *_ in steps
    )
    assert len(set(ids)) == len(ids)


def test_two_workers_that_finish_the_same_step_make_the_same_successor():
    """Their times and names differ, the id does not, so the copy can be dropped (G3)."""
    one = message("a", "b")
    other = replace(EXECUTION, worker="w2", finished_at=900.0)
    first, second = (decide(one, Completed(ran, 1)).send[0].message for ran in (EXECUTION, other))
    assert first.id == second.id


# --- may it start? ---------------------------------------------------------------------------------------------------

NOW = EXECUTION.started_at
RUNNING, PAUSED, ENDED = (Standing(status=one) for one in (Status.RUNNING, Status.PAUSED, Status.CANCELLED))
AGAIN = replace(EXECUTION, deliveries=2)

# (the message's times, how the workflow stands, which delivery) -> what becomes of it, or None when it may start
ADMITTED = [
    ({}, RUNNING, EXECUTION, None),
    ({"deadline": NOW + 1, "start_by": NOW + 1}, RUNNING, EXECUTION, None),
    ({"deadline": NOW}, RUNNING, EXECUTION, "DeadlineReached"),
    ({"deadline": NOW}, PAUSED, EXECUTION, "DeadlineReached"),
    ({"deadline": NOW + 9, "received": {"deadline": [{"timeout": True}]}}, RUNNING, EXECUTION, "DeadlineReached"),
    ({"received": {"deadline": [{"timeout": True}]}}, RUNNING, EXECUTION, None),
    ({"start_by": NOW}, RUNNING, EXECUTION, "StartTimeout"),
    ({"start_by": NOW}, RUNNING, AGAIN, None),
    ({"start_by": NOW}, PAUSED, EXECUTION, Parked),
    ({"deadline": NOW}, ENDED, EXECUTION, Dropped),
]


@pytest.mark.parametrize(("times", "standing", "execution", "expected"), ADMITTED)
def test_what_comes_too_late_does_not_start(times, standing, execution, expected):
    """Not even when the clocks differ by which its time had come; a step that was started before may go on."""
    outcome = admit(message("a", **times), standing, execution)
    if isinstance(expected, str):
        assert isinstance(outcome, Faulted)
        assert outcome.error.type == expected
    else:
        assert outcome is None if expected is None else isinstance(outcome, expected)


@pytest.mark.parametrize(
    ("due_at", "deadline", "expected"),
    [(None, None, None), (5.0, None, 5.0), (None, 9.0, 9.0), (5.0, 9.0, 5.0), (9.0, 5.0, 5.0)],
)
def test_what_waits_is_woken_when_its_workflows_time_is_up(due_at, deadline, expected):
    """Whatever it waits for."""
    (hold,) = decide(message("a", deadline=deadline), Parked(EXECUTION, "key", due_at)).hold
    assert hold.due_at == expected


def test_what_waits_for_an_operator_starts_anew():
    """With all its attempts, and with what it had reported."""
    plan = decide(message("a", attempt=3, deadline=900.0), Exhausted(EXECUTION, BROKEN, progress=7))
    (hold,) = plan.hold
    assert (hold.key, hold.due_at) == ("operator:1", 900.0)
    assert (hold.message.attempt, hold.message.tries, hold.message.progress) == (4, 1, 7)
    (parked,) = plan.record
    assert (parked.type, parked.error) == ("step_parked", BROKEN)


def test_a_step_may_wait_from_when_it_is_due():
    """After the step before, or after the delay of a retry."""
    steps = (ActivitySpec(name="a", start_timeout=10), ActivitySpec(name="b", start_timeout=20), ActivitySpec(name="c"))
    one = PaigeantMessage(routing_slip=RoutingSlip(itinerary=steps))
    following = decide(one, Completed(EXECUTION, 1)).send[0].message
    assert following.start_by == EXECUTION.finished_at + 20
    assert decide(one, Retrying(EXECUTION, BROKEN, 5.0)).send[0].message.start_by == EXECUTION.finished_at + 15
    assert decide(following, Completed(EXECUTION, 1)).send[0].message.start_by is None
