from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.builders import entry, message, messages, slip

from paigeant.errors import NotSerializable
from paigeant.wire.ids import derive_message_id
from paigeant.wire.log import LogEntry, Undo
from paigeant.wire.message import SPEC_VERSION, PaigeantMessage
from paigeant.wire.slip import RoutingSlip


@given(messages)
def test_a_message_survives_the_wire(one):
    """JSON and dictionary forms both give the same message back, and the JSON the same bytes."""
    read = PaigeantMessage.from_json(one.to_json())
    assert read == one
    assert read.to_json() == one.to_json()
    assert PaigeantMessage.from_dict(one.to_dict()) == one


@given(messages)
def test_the_dictionary_form_is_the_json_form(one):
    """Two ways to write, one format."""
    assert one.to_dict() == json.loads(one.to_json())


@given(messages)
def test_the_id_is_derived_from_what_the_message_is(one):
    """Correlation id, step, heading, attempt and epoch; nothing else."""
    heading = one.routing_slip.heading
    assert one.id == derive_message_id(one.correlation_id, one.step.id, heading, one.attempt, one.epoch)


def test_the_same_step_sent_twice_is_one_message():
    """Whatever else the messages say."""
    assert message("a", trace_context={"traceparent": "x"}).id == message("b").id


def test_another_attempt_is_another_message():
    """So a broker that drops copies does not drop a retry."""
    assert message("a").id != message("a", attempt=2).id


def test_a_message_with_another_messages_id_is_refused():
    """An id is a claim that receivers check."""
    with pytest.raises(ValidationError, match="does not belong"):
        message("a", id=message("a", attempt=2).id)


def test_a_message_always_has_a_step():
    """An empty slip is nowhere to go."""
    with pytest.raises(ValidationError, match="always has a current step"):
        PaigeantMessage(routing_slip=RoutingSlip())


def test_a_message_says_which_format_it_has():
    """In every message, although it is the default."""
    assert json.loads(message("a").to_json())["spec_version"] == SPEC_VERSION


@pytest.mark.parametrize("version", ["", "1", "one", "1.0.0", 1.0])
def test_a_version_that_is_none_is_refused(version):
    """Two numbers and a dot."""
    with pytest.raises(ValidationError):
        message("a", spec_version=version)


@pytest.mark.parametrize("field", [{"attempt": 0}, {"attempt": 10**10}, {"epoch": -1}, {"epoch": 10**10}], ids=str)
def test_counters_stay_where_every_database_can_count(field):
    """A number no column holds would fail on every delivery."""
    with pytest.raises(ValidationError):
        message("a", **field)


def test_the_next_message_belongs_to_the_same_workflow():
    """A new id, and this one as its cause."""
    one = message("a", "b", name="onboarding", trace_context={"traceparent": "x"}, obo_token="t")
    after = one.next(one.routing_slip.completed(entry("1")))
    assert (after.step.name, after.attempt, after.causation_id) == ("b", 1, one.id)
    assert (after.correlation_id, after.name, after.trace_context, after.obo_token) == (
        one.correlation_id,
        one.name,
        one.trace_context,
        one.obo_token,
    )


@given(messages)
def test_the_next_attempt_is_a_message_the_next_worker_accepts(one):
    """``next`` does not validate; what it makes must be valid all the same."""
    again = one.again()
    assert PaigeantMessage.from_json(again.to_json()) == again


def test_fields_of_a_newer_minor_version_travel_on():
    """In the message, the slip, its steps and its log, through any number of older workers."""
    data = message("a", "b").to_dict() | {"spec_version": "1.7", "urgency": "soon"}
    data["routing_slip"]["limits"] = {"steps": 9}
    data["routing_slip"]["itinerary"][1]["scatter"] = [1]
    data["routing_slip"]["log"] = [entry("0").to_dict() | {"cost": 5}]
    one = PaigeantMessage.from_json(json.dumps(data))
    after = one.next(one.routing_slip.completed(entry("1"))).to_dict()
    assert (after["spec_version"], after["urgency"]) == ("1.7", "soon")
    assert after["routing_slip"]["limits"] == {"steps": 9}
    assert after["routing_slip"]["itinerary"][0]["scatter"] == [1]
    assert after["routing_slip"]["log"][0]["cost"] == 5


def test_the_payload_is_the_variables():
    """The source documents' name for them."""
    assert PaigeantMessage(routing_slip=slip("a", variables={"x": 1})).payload == {"x": 1}


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_message_can_be_built_with_its_payload(as_dict):
    """As the documents write it; it joins the variables of the slip, as JSON types."""
    before = slip("a", variables={"x": 1, "y": 1})
    given = before.to_dict() if as_dict else before
    message = PaigeantMessage(routing_slip=given, payload={"y": 2, "at": datetime(2030, 1, 1, tzinfo=UTC)})
    assert message.payload == {"x": 1, "y": 2, "at": "2030-01-01T00:00:00Z"}
    assert before.variables == {"x": 1, "y": 1}
    assert PaigeantMessage.from_json(message.to_json()) == message


@pytest.mark.parametrize("payload", [{"x": object()}, {"x": float}])
def test_a_payload_that_is_no_json_is_refused(payload):
    """As a variable is."""
    with pytest.raises(NotSerializable, match="payload 'x' cannot be written as JSON"):
        PaigeantMessage(routing_slip=slip("a"), payload=payload)


def test_a_field_payload_of_a_newer_release_is_passed_on():
    """Off the wire it is a field that this release does not know."""
    message = PaigeantMessage(routing_slip=slip("a", variables={"x": 1}))
    data = json.loads(message.to_json()) | {"payload": {"x": 2}, "unknown": 1}
    read = PaigeantMessage.from_json(json.dumps(data))
    assert read.payload == {"x": 1}
    assert json.loads(read.to_json())["payload"] == {"x": 2}
    with pytest.raises(ValidationError, match="there is no field 'unknwon'"):
        PaigeantMessage(routing_slip=slip("a"), unknwon=1)


def test_a_message_without_a_correlation_id_begins_a_workflow():
    """Each a new one."""
    one, other = PaigeantMessage(routing_slip=slip("a")), PaigeantMessage(routing_slip=slip("a"))
    assert one.correlation_id != other.correlation_id
    assert one.id != other.id


@given(st.lists(st.lists(st.none() | st.integers(0, 20), max_size=4), max_size=4))
def test_what_branches_did_is_listed_as_it_was_completed(branches):
    """Over all of them, and within each in its own order, whatever the clocks of its workers say."""
    told = [
        {"standing": [undoable(f"{branch}-{step}", at).to_dict() for step, at in enumerate(times)]}
        for branch, times in enumerate(branches)
    ]
    one = message("gather", "next").receiving("join:1:0:0", {"value": told})
    found = [one.name for one in one.gathered().log]
    for branch, times in enumerate(branches):
        assert [name for name in found if name.startswith(f"{branch}-")] == [f"{branch}-{n}" for n in range(len(times))]
    told_times = {f"{branch}-{n}": at for branch, times in enumerate(branches) for n, at in enumerate(times)}
    if all(times == sorted(at for at in times if at is not None) for times in branches):
        assert [told_times[name] for name in found] == sorted(told_times.values())


def undoable(name: str, seconds: int | None) -> LogEntry:
    at = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return LogEntry(id=name, name=name, finished_at=at, undo=Undo())
