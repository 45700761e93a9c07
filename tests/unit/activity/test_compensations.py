"""Functions that undo a step, and which values they are called with."""

from __future__ import annotations

import pytest
from unit.builders import entry

from paigeant import ActivityContext, RetryPolicy
from paigeant.errors import ConfigurationError
from paigeant.wire.slip import ActivitySpec, RoutingSlip


def one(a): ...
def nothing(): ...


def undone(activity, arguments=None, output=None, **fields):
    """The arguments of the compensation that would be recorded for a run."""
    slip = RoutingSlip(itinerary=(ActivitySpec(name=activity.name, queue="q", arguments=arguments or {}),), **fields)
    return activity.undo_with(activity.undo(slip.itinerary[0], slip), output)


def test_compensate_registers_what_takes_a_step_back(app):
    """The decorator returns the function unchanged; a compensation has several attempts by default."""
    activity = app.activity(one)

    @activity.compensate
    def undo(a): ...

    assert activity.compensation.function is undo
    assert activity.compensation.retry.attempts == 5
    with pytest.raises(ConfigurationError, match="already has a compensation"):
        activity.compensate(undo)


def test_a_compensation_has_a_policy_of_its_own(app):
    """It does not inherit the policy of the activity."""
    activity = app.activity(retry=RetryPolicy(attempts=9), timeout=9)(one)
    assert activity.compensate(retry=RetryPolicy(attempts=2), timeout=3)(nothing) is nothing
    assert (activity.compensation.retry.attempts, activity.compensation.timeout) == (2, 3)


def test_a_compensation_is_given_the_arguments_it_names_and_the_output(app):
    """The values are the recorded ones: arguments of the step, variables, the output before it, and defaults."""

    @app.activity
    def charge(order: str, amount: int, ctx: ActivityContext, currency: str = "EUR", note: str = "") -> str: ...

    @charge.compensate
    def refund(currency: str, receipt: str, amount: int, order: str, ctx: ActivityContext, by: str = "us"): ...

    before = entry("0", output=7)
    undo = undone(charge, output="r1", variables={"order": "o1"}, log=(before,))
    assert (undo.queue, undo.arguments) == ("q", {"currency": "EUR", "receipt": "r1", "amount": 7, "order": "o1"})


def test_a_compensation_that_takes_any_argument_gets_all(app):
    """It gets them by name."""
    activity = app.activity(one)
    activity.compensate(lambda **arguments: None)
    assert undone(activity, {"a": 5}, output=6).arguments == {"a": 5}


def test_without_an_output_a_default_stays(app):
    """The default wins, because nobody chose None."""
    activity = app.activity(nothing)
    activity.compensate(lambda receipt="none": None)
    assert undone(activity).arguments == {}


def test_what_has_no_compensation_records_nothing(app):
    """The slip does not grow."""
    slip = RoutingSlip(itinerary=(ActivitySpec(name="one"),))
    assert app.activity(one).undo(slip.itinerary[0], slip) is None
