"""Where a workflow can be forked: its slips, rebuilt from what was recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import EXECUTION, json_objects, json_values

from paigeant.decisions.fork import rest, slip_at, slips
from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Completed, Edits
from paigeant.errors import InvalidArguments, WorkflowError
from paigeant.events import Cancellation
from paigeant.records.workflow import Course, DoneStep, Status, WorkflowRecord
from paigeant.wire.condition import Condition
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip


def first(*names: str) -> PaigeantMessage:
    steps = tuple(ActivitySpec(name=name, arguments={"of": name}) for name in names)
    return PaigeantMessage(correlation_id="c1", routing_slip=RoutingSlip(itinerary=steps, variables={"v": 0}))


def ended(status: Status, **fields) -> WorkflowRecord:
    return WorkflowRecord(correlation_id="c1", name="", app="", status=status, created_at=0, updated_at=0, **fields)


def recorded(event) -> DoneStep:
    return DoneStep(
        id=event.step_id,
        activity=event.activity,
        output=event.output,
        message_id=event.message_id,
        attempt=event.attempt,
        worker=event.worker,
        started_at=event.started_at,
        finished_at=event.at,
        changes=event.changes,
        ahead=event.ahead,
    )


def run(message: PaigeantMessage, outcomes: list[Completed], recorded=recorded) -> tuple[Course, list[RoutingSlip]]:
    """Run a workflow: what a store has of it then, and the slips its messages had."""
    seen, done, slip = [message.routing_slip], [], message.routing_slip.to_dict()
    for outcome in outcomes:
        plan = decide(message, outcome)
        done.append(recorded(plan.record[0]))
        if not plan.send:
            break
        message = plan.send[0].message
        seen.append(message.routing_slip)
    return Course(workflow=ended(Status.RUNNING), slip=slip, done=done), seen


def recorded_by_the_release_before(event) -> DoneStep:
    """All variables, and not what changed."""
    return replace(recorded(event), variables=event.variables, changes=None)


edits = st.builds(
    Edits,
    insert=st.lists(st.builds(ActivitySpec, name=st.sampled_from("xyz"), arguments=json_objects), max_size=2).map(
        tuple
    ),
    skip=st.lists(st.sampled_from(["2", "3", "b", "x"]), max_size=1).map(tuple),
)
outcomes = st.lists(
    st.builds(
        lambda output, variables, edits: Completed(EXECUTION, output, variables, edits),
        json_values,
        st.none() | json_objects,
        edits,
    ),
    max_size=6,
)


@pytest.mark.parametrize("recorded", [recorded, recorded_by_the_release_before])
@given(outcomes)
def test_the_slips_are_those_that_the_steps_were_run_with(recorded, ended):
    """Whatever was inserted, left out, given and changed on the way; but for what is counted, which begins anew."""
    course, seen = run(first("a", "b", "c"), ended, recorded)
    new = first("a").routing_slip
    anew = {"inserted": new.inserted, "used": new.used}
    expected = [slip.model_copy(update=anew).to_dict() for slip in seen]
    assert [slip.to_dict() for slip in slips(course)] == expected


def test_a_step_whose_condition_did_not_hold_is_not_on_the_way():
    """As it was left out of the slip."""
    steps = (
        ActivitySpec(name="a"),
        ActivitySpec(name="b", when=Condition(output="a", among=(2,))),
        ActivitySpec(name="c", when=Condition(output="a", among=(1,))),
    )
    message = PaigeantMessage(correlation_id="c1", routing_slip=RoutingSlip(itinerary=steps))
    course, seen = run(message, [Completed(EXECUTION, 1), Completed(EXECUTION, 2)])
    assert [slip.itinerary for slip in slips(course)] == [slip.itinerary for slip in seen]
    assert [slip.itinerary[0].name for slip in seen] == ["a", "c"]


DONE = [Completed(EXECUTION, n) for n in range(3)]


def test_a_step_is_found_by_name_or_id():
    """With what came before it."""
    course, _ = run(first("a", "b", "c"), DONE)
    for name in ("b", "2"):
        slip = slip_at("c1", course, (), name)
        assert [one.name for one in slip.itinerary] == ["b", "c"]
        assert [(one.name, one.output) for one in slip.log] == [("a", 0)]
    assert slip_at("c1", course, (), "a").log == ()


@pytest.mark.parametrize(
    ("names", "done", "step", "kind", "what", "hint"),
    [
        ("abc", 3, "aa", InvalidArguments, "has no step 'aa'", "did you mean 'a'?"),
        ("abc", 3, "zzz", InvalidArguments, "has no step 'zzz'", "1 (a), 2 (b), 3 (c)"),
        ("aba", 3, "a", InvalidArguments, "several steps", "by its id: 1, 3"),
        ("abc", 1, "c", WorkflowError, "has not come to step 'c': 'b' has not completed", "fork it from 'b'"),
    ],
)
def test_a_step_that_cannot_be_forked_from(names, done, step, kind, what, hint):
    """With what can."""
    course, _ = run(first(*names), DONE[:done])
    with pytest.raises(kind, match=what.replace("(", r"\(")) as wrong:
        slip_at("c1", course, (), step)
    assert hint in wrong.value.hint


def test_what_was_taken_back_is_not_built_on():
    """From the step that was taken back on, a fork does it again."""
    course, _ = run(first("a", "b", "c"), DONE)
    with pytest.raises(WorkflowError, match="'b' was taken back") as wrong:
        slip_at("c1", course, {"b": 0, "2": 0}, "c")
    assert "from step 2" in wrong.value.hint
    assert slip_at("c1", course, {"2"}, "b").log[-1].name == "a"


def test_of_a_workflow_whose_slip_was_not_kept_there_is_no_fork():
    """An older release dispatched it."""
    with pytest.raises(WorkflowError, match="is not kept"):
        slip_at("c1", Course(workflow=ended(Status.RUNNING), slip=None, done=()), (), "a")


# --- what is left of a branch that stopped ---------------------------------------------------------------------------


def wish(*, compensate: bool) -> Cancellation:
    return Cancellation(at=0.0, reason="", by=None, compensate=compensate)


@pytest.mark.parametrize(
    ("record", "goes_on"),
    [
        (ended(Status.FAILED), True),
        (ended(Status.CANCELLED, cancellation=wish(compensate=True)), True),
        (ended(Status.CANCELLED, cancellation=wish(compensate=False)), False),
        (ended(Status.RUNNING, cancellation=wish(compensate=True)), False),
        (ended(Status.COMPENSATED), False),
        (ended(Status.COMPENSATION_INCOMPLETE), False),
    ],
)
def test_what_stopped_halfway_goes_on_unless_it_was_taken_back(record, goes_on):
    """With the variables that it has set itself: the others may be different now."""
    course, seen = run(first("a", "b"), [Completed(EXECUTION, 1, {"v": 0, "w": 1})])
    left = rest(replace(course, workflow=record))
    assert (left is not None) is goes_on
    if left is not None:
        assert (left.itinerary, left.log[0].output, left.variables) == (seen[1].itinerary, 1, {"w": 1})


@pytest.mark.parametrize("outcomes", [[], [Completed(EXECUTION), Completed(EXECUTION)]], ids=["nothing", "everything"])
def test_of_what_did_nothing_or_everything_nothing_is_left(outcomes):
    """It begins as it did."""
    course, _ = run(first("a", "b"), outcomes)
    assert rest(replace(course, workflow=ended(Status.FAILED))) is None
    assert rest(Course(workflow=ended(Status.FAILED), slip=None, done=())) is None
