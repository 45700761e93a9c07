"""The names of locks."""

from __future__ import annotations

import pytest

from paigeant.activity import Activity
from paigeant.decisions.limit import Limit
from paigeant.decisions.lock_names import limits_of
from paigeant.errors import ConfigurationError, InvalidInput
from paigeant.wire.slip import RoutingSlip


def name(lock, **values):
    """The key of the lock for an activity called work."""
    (made,) = limits_of("work", lock)
    return made.key("p", values).removeprefix("lock:p:")


def test_true_is_one_lock_for_the_activity():
    """Whatever its arguments; and False is none."""
    assert name(True, a=1) == "work"
    assert limits_of("work", False) == ()


def test_a_name_has_values_in_it():
    """Of texts, numbers and booleans; doubled braces are braces."""
    assert name("customer:{id}/{part}", id=7, part="x", other=[]) == "customer:7/x"
    assert name("{{a}}") == "{a}"


def test_each_kind_has_keys_of_its_own():
    """A limit is of its activity or of its name; there may be several."""
    found = limits_of("work", True, {"api": 5, "customer:{id}": 2}, "100/m")
    assert {one.key("p", {"id": 7}): one.limit for one in found} == {
        "lock:p:work": Limit(),
        "concurrency:p:api": Limit(5),
        "concurrency:p:customer:7": Limit(2),
        "rate:p:work": Limit(100, 60.0),
    }


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("concurrency", 0),
        ("concurrency", True),
        ("concurrency", "5"),
        ("concurrency", {"{a.b}": 5}),
        ("concurrency", {"a": 1.5}),
        ("rate", "fast"),
        ("rate", 5),
        ("rate", {"": "5/s"}),
        ("rate", {7: "5/s"}),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(option, wrong):
    """Where the activity is decorated, with the name of the option and an example."""
    with pytest.raises(ConfigurationError, match=f"activity 'work': {option}=") as raised:
        limits_of("work", **{option: wrong})
    assert f"for example {option}=" in str(raised.value.hint)


@pytest.mark.parametrize("wrong", ["", "{", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a.__class__}"])
def test_only_names_stand_in_braces(wrong):
    """Nothing that looks into a value, or runs its code."""
    with pytest.raises(ConfigurationError, match="activity 'work': lock="):
        limits_of("work", wrong)


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
    assert list(activity.limits_of(slip.itinerary[0], slip, "p")) == ["lock:p:1-b-c"]
