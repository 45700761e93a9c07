from __future__ import annotations

import json

import pytest
from hypothesis import given
from pydantic import ValidationError
from unit.builders import entry, message, messages, slip

from paigeant.ids import derive_message_id
from paigeant.message import SPEC_VERSION, PaigeantMessage
from paigeant.slip import RoutingSlip


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


def test_a_message_without_a_correlation_id_begins_a_workflow():
    """Each a new one."""
    one, other = PaigeantMessage(routing_slip=slip("a")), PaigeantMessage(routing_slip=slip("a"))
    assert one.correlation_id != other.correlation_id
    assert one.id != other.id
