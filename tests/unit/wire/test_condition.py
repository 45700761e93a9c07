"""Steps that are run under a condition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.builders import EXECUTION, json_values

from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Completed
from paigeant.wire.condition import Condition
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip


@pytest.mark.parametrize(
    ("options", "value", "expected"),
    [
        ({}, True, True),
        ({}, "no", True),
        ({}, None, False),
        ({}, 0, False),
        ({}, [], False),
        ({"negated": True}, None, True),
        ({"negated": True}, 5, False),
        ({"among": [1, 2]}, 2, True),
        ({"among": [1, 2]}, 3, False),
        ({"among": [1]}, 1.0, True),
        ({"among": [1]}, True, False),
        ({"among": [True]}, 1, False),
        ({"among": [None]}, None, True),
        ({"among": [None], "negated": True}, None, False),
        ({"among": [{"a": [1]}]}, {"a": [1]}, True),
        ({"field": "risk.level", "among": ["high"]}, {"risk": {"level": "high"}}, True),
        ({"field": "risk.level", "among": ["high"]}, {"risk": "high"}, False),
        ({"field": "risk"}, None, False),
        ({"field": "risk"}, [1], False),
    ],
)
def test_when_it_holds(options, value, expected):
    """As JSON has it; what is not there is null."""
    assert Condition(variable="v", **options).holds(value) is expected


@given(json_values, st.lists(json_values, max_size=3), st.sampled_from([None, "a", "a.b"]))
def test_negated_is_the_opposite(value, among, field):
    """Whatever the value is; and no value breaks it."""
    one = Condition(output="o", among=among, field=field)
    assert one.holds(value) != one.model_copy(update={"negated": True}).holds(value)


@pytest.mark.parametrize(
    "wrong", [{}, {"variable": "a", "output": "b"}, {"variable": 5}, {"variable": "a", "equals": 5}]
)
def test_it_is_on_one_value(wrong):
    """And has no other fields."""
    with pytest.raises(ValidationError):
        Condition(**wrong)


def step(name, when=None):
    """A step with this condition."""
    return ActivitySpec(name=name).options(when=when)


def after(*steps, variables=None, output=5):
    """The steps ahead when the first has completed with this output and these variables."""
    slip = RoutingSlip(itinerary=(ActivitySpec(name="a"), *steps), variables={"old": True})
    plan = decide(PaigeantMessage(routing_slip=slip), Completed(EXECUTION, output, variables))
    return [one.name for one in plan.send[0].message.routing_slip.itinerary] if plan.send else plan.record[-1].type


A_GAVE = Condition(output="a", among=[5])
NOT_B = Condition(output="b", negated=True)


@pytest.mark.parametrize(
    ("steps", "variables", "expected"),
    [
        ([step("b", "old"), step("c")], None, ["b", "c"]),
        ([step("b", "old"), step("c")], {"old": False}, ["c"]),
        ([step("b", "new"), step("c", "old")], {"new": 1}, ["b", "c"]),
        ([step("b", "new"), step("c", "new")], None, "workflow_completed"),
        ([step("b"), step("c", "new")], None, ["b", "c"]),
        ([step("b"), step("c", A_GAVE)], None, ["b", "c"]),
        ([step("b"), step("c", A_GAVE.model_copy(update={"negated": True})), step("d")], None, ["b", "d"]),
        ([step("b", Condition(output="1"))], None, ["b"]),
        ([step("b", "new"), step("c", NOT_B)], None, ["c"]),
        ([step("b", "new"), step("c", Condition(output="b")), step("d")], None, ["d"]),
    ],
)
def test_what_is_run_next(steps, variables, expected):
    """Outputs decide when they come, variables when it is the step's turn; a step left out gives nothing."""
    assert after(*steps, variables=variables) == expected


def test_it_travels():
    """In a message, where it is not yet decided."""
    slip = RoutingSlip(itinerary=(step("a"), step("b", Condition(output="a", field="x", among=[1, None]))))
    assert RoutingSlip.from_json(slip.to_json()) == slip
