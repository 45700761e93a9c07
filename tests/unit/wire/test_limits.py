"""Limits of counts and sizes: refused before anything costly is done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.builders import entry, message, slip

from paigeant import scatter
from paigeant.errors import MessageTooLarge
from paigeant.wire.codec import decode
from paigeant.wire.limits import refuse_changed_ones, refuse_too_large, refuse_too_many, refuse_too_many_begun
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

SIZE = 1_000_000

STEP = ActivitySpec(name="a")
STEPS = {
    "plain": slip(*["a"] * 11),
    "otherwise": RoutingSlip(itinerary=(STEP.options(otherwise=["b"] * 10),)),
    "branches": RoutingSlip(itinerary=(scatter(*[["b", "c"]] * 5),)),
    "in each other": RoutingSlip(
        itinerary=(scatter(*[STEP.options(otherwise=["b"])] * 3).options(otherwise=["c", "d", "e", "f"]),)
    ),
    "registered": slip("a", registered=(ActivitySpec(name="b"),) * 10),
}


@pytest.mark.parametrize("one", STEPS.values(), ids=STEPS)
def test_steps_are_counted_wherever_they_are(one):
    """In the itinerary, in branches, instead of others, for agents; when written and when read."""
    written = PaigeantMessage(correlation_id="c", routing_slip=one)
    refuse_too_many(written, 11)
    with pytest.raises(MessageTooLarge, match="the message has 11 steps, the limit is 10") as refused:
        refuse_too_many(written, 10)
    assert "PAIGEANT_STEP_LIMIT" in refused.value.hint

    assert decode(written.to_json(), SIZE, 11) == written
    with pytest.raises(MessageTooLarge, match=r"the message has \d+ steps, the limit is 10"):
        decode(written.to_json(), SIZE, 10)


def test_log_entries_are_counted():
    """As well."""
    written = PaigeantMessage(routing_slip=slip("a", log=tuple(entry(f"e{n}") for n in range(11))))
    with pytest.raises(MessageTooLarge, match="11 log entries, the limit is 10"):
        refuse_too_many(written, 10)
    with pytest.raises(MessageTooLarge, match="11 log entries, the limit is 10"):
        decode(written.to_json(), SIZE, 10)


def test_received_values_are_counted():
    """All of them, and the names under which they came."""
    written = message("a", received={"signal:x": [{"value": 1}] * 6, "signal:y": [{"value": 1}] * 5})
    with pytest.raises(MessageTooLarge, match="11 received values"):
        refuse_too_many(written, 10)
    with pytest.raises(MessageTooLarge, match="11 received values"):
        decode(written.to_json(), SIZE, 10)
    named = message("a", received={f"signal:{n}": [] for n in range(11)})
    with pytest.raises(MessageTooLarge, match="11 received values"):
        decode(named.to_json(), SIZE, 10)


MEMBERS: dict[str, dict[str, Any]] = {
    "failed": {"failed": [{"step": "1", "type": "E"}] * 11},
    "inserted": {"inserted": {f"a{n}": 1 for n in range(11)}},
    "allowances": {"grant": {"allowances": {f"a{n}": {} for n in range(11)}}},
    "editors": {"grant": {"editors": ["a"] * 11}},
    "kept": {"kept": {f"variables.{n}": {"digest": "0" * 64, "size": 1, "of": "c"} for n in range(11)}},
    "left": {"fault": {"step": "1", "type": "E", "left": ["x"] * 11}},
    "unheard_of": {"unheard_of": [1] * 11},
}


@pytest.mark.parametrize(("name", "fields"), MEMBERS.items(), ids=MEMBERS)
def test_every_other_list_is_counted_as_well(name, fields):
    """Also one of a newer release; the error names it."""
    body = json.loads(message("a").to_json())
    body["routing_slip"] |= fields
    with pytest.raises(MessageTooLarge, match=f"11 entries of '{name}', the limit is 10"):
        decode(json.dumps(body).encode(), SIZE, 10)


def test_values_of_users_are_not_counted():
    """They are limited by their size."""
    many = {"numbers": list(range(100)), "log": [1] * 100, "itinerary": {str(n): n for n in range(100)}}
    step = ActivitySpec(name="a", arguments=many, deps=many)
    written = PaigeantMessage(
        routing_slip=RoutingSlip(itinerary=(step,), log=(entry("0", output=many),), variables=many),
        received={"signal:x": [{"value": many}]},
        progress=many,
        principal=many,
    )
    assert decode(written.to_json(), SIZE, 10) == written


def test_a_large_slip_with_all_there_is_is_read_at_its_limit():
    """Members of steps and entries are not counted as steps."""
    steps = tuple(
        ActivitySpec(name="a", retry={"attempts": 3}, when={"variable": "x", "among": [1, 2, 3]}) for _ in "x" * 50
    )
    written = PaigeantMessage(routing_slip=RoutingSlip(itinerary=steps, log=tuple(entry(f"e{n}") for n in range(50))))
    assert decode(written.to_json(), SIZE, 50) == written


def test_workflows_that_begin_at_once_are_counted():
    """Each is a message and a row."""
    refuse_too_many_begun(10, 10)
    with pytest.raises(MessageTooLarge, match="begins 11 workflows at once, the limit is 10"):
        refuse_too_many_begun(11, 10)


@pytest.mark.parametrize("value", ["x" * 1000, ["x" * 200] * 5, {"a": "x" * 1000}, 10**1000, "\x00" * 200])
def test_a_value_is_measured_as_json(value):
    """The error says what it is, its size and the setting."""
    with pytest.raises(MessageTooLarge, match=r"the output is 1,\d{3} bytes, the limit for a value 1,000") as refused:
        refuse_too_large(value, "the output", 1000)
    assert "PAIGEANT_VALUE_LIMIT" in refused.value.hint


@pytest.mark.parametrize("value", [None, True, 1.5, 7, "x" * 998, "\x00" * 166, ["x"], float("inf")])
def test_a_value_within_the_limit_is_taken(value):
    """At the limit, too."""
    refuse_too_large(value, "the output", 1000)


def test_of_variables_only_new_ones_are_measured():
    """A workflow may carry what an earlier release or another setting allowed."""
    before = {"old": "x" * 2000}
    refuse_changed_ones({**before, "new": 1}, before, 1000)
    with pytest.raises(MessageTooLarge, match=r"variables\['new'\] is 2,002 bytes"):
        refuse_changed_ones({**before, "new": "y" * 2000}, before, 1000)
