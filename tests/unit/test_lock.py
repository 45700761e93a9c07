"""The names of locks."""

from __future__ import annotations

import pytest

from paigeant.activity import Activity
from paigeant.errors import ConfigurationError, InvalidInput
from paigeant.lock import LockName
from paigeant.slip import RoutingSlip


def name(lock, **values):
    """The lock's name for an activity called work."""
    made = LockName.of(lock, "work")
    assert made is not None
    return made.key(values)


def test_true_is_one_lock_for_the_activity():
    """Whatever its arguments; and False is none."""
    assert name(True, a=1) == "work"
    assert LockName.of(False, "work") is None


def test_a_name_has_values_in_it():
    """Of texts, numbers and booleans; doubled braces are braces."""
    assert name("customer:{id}/{part}", id=7, part="x", other=[]) == "customer:7/x"
    assert name("{{a}}") == "{a}"


@pytest.mark.parametrize("wrong", ["", "{", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a.__class__}"])
def test_only_names_stand_in_braces(wrong):
    """Nothing that looks into a value, or runs its code."""
    with pytest.raises(ConfigurationError, match="activity 'work': lock="):
        LockName.of(wrong, "work")


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_a_value_that_is_no_name_is_refused(value):
    """With the name of what has it."""
    with pytest.raises(InvalidInput, match="'a' "):
        name("x:{a}", a=value)


def test_long_and_odd_names_stay_short_and_differ():
    """They are keys of a table."""
    long, longer, odd = name("{a}", a="x" * 5000), name("{a}", a="x" * 5001), name("{a}", a="a\x00b\ud800")
    assert len({long, longer, odd}) == 3
    assert all(len(one) < 200 and one.isprintable() for one in (long, longer, odd))


def test_values_come_from_arguments_then_variables_then_defaults():
    """As those of the parameters do; a variable need not be one."""

    def work(a: int, b: str = "b") -> None: ...

    activity = Activity(work, lock="{a}-{b}-{c}")
    slip = RoutingSlip(itinerary=(activity.step(a=1),), variables={"c": "c", "a": 2})
    assert activity.lock_of(slip.itinerary[0], slip) == "1-b-c"
