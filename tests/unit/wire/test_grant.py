"""Within its workflow's grant a step may change the itinerary, and not beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import EXECUTION, message

from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Completed, Edits, Parked
from paigeant.events import StepFailed
from paigeant.wire.grant import Allowance, Grant
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip


def step(name, *inside):
    """A step, with branches of one step each."""
    return ActivitySpec(name=name, branches=tuple(RoutingSlip(itinerary=(one,)) for one in inside))


def following(grant, insert=(), skip=(), *, ends=False, depth=0, inserted=None):
    """The plan when step a completes with these changes, in a workflow of a and b."""
    one = message("a", "b")
    first, second = one.routing_slip.itinerary
    changes = {"itinerary": (first.deep(depth), second), "grant": grant, "inserted": inserted or {}}
    slip = one.routing_slip.model_copy(update=changes)
    outcome = Completed(EXECUTION, None, edits=Edits(insert=tuple(insert), skip=tuple(skip)), is_last=ends)
    return decide(PaigeantMessage(routing_slip=slip), outcome)


X, Y = step("x"), step("y")

# grant, what the step changes, what its refusal says
TABLE = [
    (Grant(), {"insert": [X, Y]}, None),
    (Grant(), {"skip": ["b"]}, None),
    (Grant(), {"ends": True}, None),
    (Grant(editors=("a",)), {"insert": [X], "skip": ["b"], "ends": True}, None),
    (Grant(editors=("b",)), {}, None),
    (Grant(editors=("b",)), {"insert": [X]}, "'a' may not change the itinerary; 'b' may"),
    (Grant(editors=("b",)), {"skip": ["b"]}, "'a' may not change the itinerary"),
    (Grant(editors=()), {"ends": True}, "'a' may not change the itinerary; none may"),
    (Grant(activities=("x",)), {"insert": [X]}, None),
    (Grant(activities=("x",)), {"insert": [X, Y]}, "'y' may not be inserted; 'x' may"),
    (Grant(activities=("x",)), {"insert": [step("paigeant.scatter", X)]}, "'paigeant.scatter' may not"),
    (Grant(activities=("paigeant.scatter",)), {"insert": [step("paigeant.scatter", Y)]}, "'y' may not be inserted"),
    (Grant(steps=2), {"insert": [X, Y]}, None),
    (Grant(steps=2), {"insert": [X, Y, X]}, "3 steps would be inserted in all, and 2 may be"),
    (Grant(steps=2), {"insert": [step("s", X, Y)]}, "3 steps would be inserted in all"),
    (Grant(steps=2), {"insert": [X], "inserted": {"z": 2}}, "3 steps would be inserted in all"),
    (Grant(steps=0), {"skip": ["b"]}, None),
    (Grant(depth=2), {"insert": [X], "depth": 1}, None),
    (Grant(allowances={"a": Allowance(steps=1)}), {"insert": [X]}, None),
    (Grant(allowances={"b": Allowance(steps=0)}), {"insert": [X]}, None),
    (Grant(allowances={"a": Allowance(steps=1)}), {"insert": [X, Y]}, "2 steps would be inserted by 'a', and 1 may be"),
    (
        Grant(allowances={"a": Allowance(steps=2)}),
        {"insert": [X], "inserted": {"a": 2}},
        "3 steps would be inserted by 'a'",
    ),
    (Grant(allowances={"a": Allowance(activities=("x",))}), {"insert": [Y]}, "'y' may not be inserted by 'a'; 'x' may"),
    (Grant(depth=2), {"insert": [X], "depth": 2}, "3 deep, inserted by inserted ones, and 2 is the limit"),
    (Grant(depth=0), {"insert": [X]}, "1 deep"),
]


@pytest.mark.parametrize(("grant", "changes", "refusal"), TABLE)
def test_what_a_grant_allows(grant, changes, refusal):
    """Whatever is beyond it is set aside with the reason, and the workflow fails."""
    plan = following(grant, **changes)
    if refusal is None:
        assert plan.set_aside is None
        assert plan.record[0].type == "step_completed"
    else:
        assert refusal in plan.set_aside.reason
        assert [event.type for event in plan.record] == ["step_failed", "workflow_failed"]
        assert plan.record[0].error.type == "GrantExceeded"
        assert plan.send == plan.begin == ()


def test_inserted_steps_are_counted_and_deeper():
    """Those inside them, too; the next message says so."""
    slip = following(Grant(), [step("s", X), Y], depth=3, inserted={"a": 1, "z": 4}).send[0].message.routing_slip
    assert [(one.name, one.depth) for one in slip.itinerary] == [("s", 4), ("y", 4), ("b", 0)]
    assert slip.itinerary[0].branches[0].itinerary[0].depth == 4
    assert slip.inserted == {"a": 4, "z": 4}


def test_a_step_does_not_say_itself_how_deep_it_is():
    """Whatever it was made with."""
    slip = following(Grant(), [ActivitySpec(name="x", depth=0)], depth=3).send[0].message.routing_slip
    assert slip.itinerary[0].depth == 4


@given(st.integers(0, 12), st.integers(0, 6), st.lists(st.integers(0, 4), max_size=30))
def test_no_slip_grows_beyond_its_grant(steps, depth, insertions):
    """However often its steps insert: each first step inserts so many like itself."""
    slip = RoutingSlip(itinerary=(X,), grant=Grant(steps=steps, depth=depth))
    made = 0
    for number in insertions:
        edits = Edits(insert=(X,) * number)
        plan = decide(PaigeantMessage(routing_slip=slip), Completed(EXECUTION, None, edits=edits))
        if plan.set_aside is not None or not plan.send:
            break
        made += number
        slip = plan.send[0].message.routing_slip
        assert max(one.depth for one in slip.itinerary) <= depth
    assert made <= steps


def test_what_a_step_begins_has_no_larger_grant():
    """A branch or a workflow of its own is no way around it."""
    grant = Grant(editors=("a",), steps=3)
    outer = RoutingSlip(itinerary=(X.deep(2),), grant=grant, inserted={"a": 2})
    inner = RoutingSlip(itinerary=(Y,), grant=Grant()).begun_by(outer)
    assert (inner.grant, inner.inserted, inner.itinerary[0].depth) == (grant, {"a": 2}, 2)


@pytest.mark.parametrize(
    ("grant", "depth", "inserted", "why"),
    [
        (Grant(), 0, 0, None),
        (Grant(editors=()), 0, 0, None),
        (Grant(steps=0), 0, 0, "1 steps would be inserted"),
        (Grant(steps=3), 0, 3, "4 steps would be inserted"),
        (Grant(depth=2), 2, 0, "3 deep"),
        (Grant(activities=("z",)), 0, 0, "'y' may not be inserted"),
    ],
)
def test_a_workflow_that_is_dispatched_counts_as_inserted(grant, depth, inserted, why):
    """By number, depth and activity: else a step could go on for ever by dispatching itself."""
    slip = RoutingSlip(itinerary=(X.deep(depth),), grant=grant, inserted={"x": inserted} if inserted else {})
    child = PaigeantMessage(routing_slip=RoutingSlip(itinerary=(Y,)))
    for outcome in (Completed(EXECUTION, edits=Edits(children=(child,))), Parked(EXECUTION, "k", children=(child,))):
        record = [*decide(PaigeantMessage(routing_slip=slip), outcome).record]
        refused = [one.error.message for one in record if isinstance(one, StepFailed)]
        assert [why in one for one in refused] == ([True] if why else [])


def test_the_slip_of_a_dispatched_workflow_knows_what_was_inserted_before():
    """Its steps are one deeper, and count for whoever dispatched them."""
    outer = RoutingSlip(itinerary=(X.deep(2),), grant=Grant(steps=9), inserted={"x": 2})
    child = RoutingSlip(itinerary=(Y, Y)).dispatched_by(outer, before=1)
    assert (child.grant, child.inserted, child.itinerary[0].depth) == (outer.grant, {"x": 5}, 3)


def test_it_travels():
    """And takes no room where it is what everybody has."""
    slip = RoutingSlip(itinerary=(X,), grant=Grant(editors=("a",), steps=3), inserted={"a": 2})
    assert RoutingSlip.from_json(slip.to_json()) == slip
    assert b"grant" not in RoutingSlip(itinerary=(X,), grant=Grant()).to_json()


GRANTS = st.builds(
    Grant,
    editors=st.sampled_from([None, ("a",), ("b",)]),
    activities=st.sampled_from([None, ("x",), ("y",)]),
    steps=st.integers(0, 6),
    depth=st.integers(0, 3),
    allowances=st.dictionaries(
        st.sampled_from("ab"), st.builds(Allowance, activities=st.sampled_from([None, ("x",)]), steps=st.integers(0, 6))
    ),
)


@given(GRANTS, st.integers(0, 3), st.dictionaries(st.sampled_from("ab"), st.integers(0, 6)), st.integers(1, 6))
def test_what_is_left_is_what_is_not_refused(grant, depth, inserted, number):
    """Whoever asks beforehand, as agents' tools do, hears what the decision will say."""
    slip = RoutingSlip(itinerary=(ActivitySpec(name="a", depth=depth),), grant=grant, inserted=inserted)
    may = grant.allows("a", "x") and number <= slip.insertions_left
    assert (slip.refuses([X] * number, (), ends=False) is None) == may
