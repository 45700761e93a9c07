"""Large values go aside and come back, and nothing else about a message changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.builders import entry, json_values, messages, slip

from paigeant.errors import MessageTooLarge, ValueMissing
from paigeant.wire.aside import needed, put_aside, stripped, whole
from paigeant.wire.claim_check import Kept, Parcel
from paigeant.wire.log import LogEntry, Undo
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.planned import PlannedStep
from paigeant.wire.slip import ActivitySpec, RoutingSlip

BIG = "x" * 5000
MUCH = 10**9


def aside(one: PaigeantMessage, at_least: int = 1000):
    """The message as it travels, and what is kept of it."""
    left, parcels = put_aside(one, at_least, MUCH)
    return PaigeantMessage.from_json(left.to_json()), {parcel.kept: parcel.data for parcel in parcels}


@given(messages, st.integers(0, 20), st.lists(json_values, max_size=2))
def test_what_goes_aside_comes_back(one, at_least, arrived):
    """For the current step as it was; and what is kept once is not kept again."""
    one = one.model_copy(update={"received": {"signal:a": [{"value": value} for value in arrived]}})
    left, kept = aside(one, at_least)
    back = whole(left, kept)
    step, before = back.step, one.step
    assert (step.arguments, step.prompt, step.deps) == (before.arguments, before.prompt, before.deps)
    assert back.payload == one.payload
    assert [item["value"] for item in back.received["signal:a"]] == arrived
    assert [item.output for item in back.routing_slip.log] == [item.output for item in one.routing_slip.log]
    assert stripped(back) == left
    assert put_aside(stripped(back), 0, MUCH)[0].id == one.id


def test_a_message_without_large_values_stays_as_it_is():
    """The same object."""
    one = PaigeantMessage(routing_slip=slip("a", variables={"x": 1}))
    assert put_aside(one, 1000, MUCH) == (one, [])
    assert stripped(one) is one
    assert needed(one) == {}
    assert whole(one, {}) is one


def test_the_same_value_is_kept_once():
    """However often it is in the message; each place says where it is."""
    steps = (ActivitySpec(name="a", arguments={"doc": BIG}), ActivitySpec(name="b", prompt=BIG, deps=BIG))
    one = PaigeantMessage(routing_slip=RoutingSlip(itinerary=steps, variables={"doc": BIG, "n": 1}))
    left, kept = aside(one)
    [found] = kept
    assert (found.size, found.of) == (5002, one.correlation_id)
    assert left.payload == {"n": 1}
    assert [sorted(step.kept) for step in left.routing_slip.itinerary] == [["arguments.doc"], ["deps", "prompt"]]
    assert left.routing_slip.kept == {"variables.doc": found}


def test_only_what_the_current_step_sees_is_fetched():
    """What steps ahead, branches and compensations are given stays where it is."""
    branch = RoutingSlip(itinerary=(ActivitySpec(name="c", arguments={"doc": BIG + "c"}),), variables={"v": BIG + "v"})
    steps = (
        ActivitySpec(name="a", arguments={"doc": BIG}, branches=(branch,)),
        ActivitySpec(name="b", arguments={"doc": BIG + "b"}),
    )
    done = LogEntry(id="0", name="done", undo=Undo(arguments={"doc": BIG + "u"}))
    left, kept = aside(PaigeantMessage(routing_slip=RoutingSlip(itinerary=steps, log=(done,))))
    assert len(kept) == 5
    assert list(needed(left).values()) == ["a.arguments['doc']"]
    assert whole(left, kept).step.arguments == {"doc": BIG}
    turned = left.routing_slip.completed(entry("1", "a"))
    assert len(needed(left.next(turned))) == 1


def test_a_variable_that_is_set_is_kept_anew_and_the_others_are_not():
    """Which is which is known without looking at them."""
    left, kept = aside(PaigeantMessage(routing_slip=slip("a", "b", variables={"old": BIG, "gone": BIG, "new": BIG})))
    one = whole(left, kept)
    variables = {**one.payload, "new": BIG + "!"}
    del variables["gone"]
    following = one.next(one.routing_slip.completed(entry("1", "a"), variables))
    assert sorted(following.routing_slip.kept) == ["variables.old"]
    assert list(stripped(following).payload) == ["new"]


def test_branches_find_what_is_kept_for_the_workflow_that_scattered_them():
    """It is not kept again for each of them."""
    left, kept = aside(PaigeantMessage(routing_slip=slip("a", variables={"doc": BIG, "own": BIG, "n": 1})))
    one = whole(left, kept)
    branch = slip("b", variables={"own": 2}).behind((), one.routing_slip, {**one.payload, "n": 3})
    assert branch.variables == {"own": 2, "n": 3}
    assert {path: found.of for path, found in branch.kept.items()} == {"variables.doc": one.correlation_id}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, r"a\.arguments\['doc'\] \(5,002 bytes\) was kept aside and is not there any more"),
        (b'"other"', r"a\.arguments\['doc'\] is not what was kept aside: its SHA-256 is not"),
    ],
    ids=["gone", "changed"],
)
def test_what_is_not_there_is_named(data, says):
    """Also what is there but is something else."""
    steps = (ActivitySpec(name="a", arguments={"doc": BIG}),)
    left, kept = aside(PaigeantMessage(routing_slip=RoutingSlip(itinerary=steps)))
    with pytest.raises(ValueMissing, match=says):
        whole(left, dict.fromkeys(kept, data) if data else {})


def test_a_value_that_is_too_large_to_be_kept_is_named():
    """Before anything is sent."""
    one = PaigeantMessage(routing_slip=slip("a", variables={"doc": BIG}))
    with pytest.raises(MessageTooLarge, match=r"variables\['doc'\] is 5,002 bytes, the limit for a value 5,000"):
        put_aside(one, 1000, 5000)


@pytest.mark.parametrize("nonsense", [1, {}, {"digest": "../../etc/passwd", "size": 1, "of": "w"}])
def test_nonsense_about_where_a_value_is_makes_no_message(nonsense):
    """It is refused where the message is read."""
    with pytest.raises(ValidationError, match=r"received\.signal:a\.0\.kept"):
        PaigeantMessage(routing_slip=slip("a"), received={"signal:a": [{"kept": nonsense}]})


def test_a_value_is_known_by_its_json():
    """Two programs that write it alike keep it under one digest."""
    digest = Parcel.of("w", b'{"a":1}').kept.digest
    assert Kept(digest=digest, size=7, of="w") == Parcel.of("w", b'{"a":1}').kept
    assert digest == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


# --- in signed messages ----------------------------------------------------------------------------------------------


def test_what_is_signed_comes_back_as_it_was():
    """The plan has the digest of its canonical form, which does not tell 1.0 from 1; what is kept does."""
    step = ActivitySpec(name="a", arguments={"x": [1.0, 2, {"b": 1, "a": 2.50}]})
    message = PaigeantMessage(correlation_id="w", routing_slip=RoutingSlip(itinerary=(step,)))
    small, parcels = put_aside(message, 1, 1_000_000, is_signed=True)
    assert PlannedStep.of(small.step) == PlannedStep.of(message.step)
    back = whole(small, {parcel.kept: parcel.data for parcel in parcels})
    assert repr(back.step.arguments) == repr(step.arguments)


def test_another_value_than_was_signed_does_not_come_back():
    """Although the message says which bytes to fetch, and they are these."""
    step = ActivitySpec(name="a", arguments={"x": "signed"})
    message = PaigeantMessage(correlation_id="w", routing_slip=RoutingSlip(itinerary=(step,)))
    small, [signed] = put_aside(message, 1, 1_000_000, is_signed=True)
    other = Parcel.of("w", b'"other"', signed.kept.form)
    forged = small.step.model_copy(update={"kept": {"arguments.x": other.kept}})
    small = small.model_copy(update={"routing_slip": small.routing_slip.model_copy(update={"itinerary": (forged,)})})
    with pytest.raises(ValueMissing, match="is not what was signed"):
        whole(small, {other.kept: other.data})
