"""The wire format is a contract: what is written here is read by workers of other releases and languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from unit.builders import messages, slips

from paigeant.codec import decode
from paigeant.errors import MalformedMessage
from paigeant.message import PaigeantMessage
from paigeant.slip import RoutingSlip

GOLDEN = Path(__file__).parent / "golden"

MESSAGE = Draft202012Validator(PaigeantMessage.model_json_schema())
SLIP = Draft202012Validator(RoutingSlip.model_json_schema())


def golden(name: str) -> dict[str, Any]:
    """A message as an earlier release wrote it."""
    read: dict[str, Any] = json.loads((GOLDEN / name).read_text())
    return read


@pytest.mark.parametrize("model", [PaigeantMessage, RoutingSlip])
def test_the_schema_is_a_json_schema(model):
    """Other tools can use it."""
    Draft202012Validator.check_schema(model.model_json_schema())


@given(messages)
def test_every_message_fits_the_published_schema(one):
    """``paigeant schema message`` tells the truth about what is on the wire."""
    MESSAGE.validate(json.loads(one.to_json()))


@given(slips)
def test_every_slip_fits_the_published_schema(one):
    """``paigeant schema routing-slip``."""
    SLIP.validate(json.loads(one.to_json()))


@pytest.mark.parametrize("field", ["spec_version", "correlation_id", "routing_slip"])
def test_what_the_schema_requires_the_decoder_requires(field):
    """Without a correlation id every delivery would be a workflow of its own."""
    data = golden("message-1.0.json")
    del data[field]
    data.pop("id")
    assert not MESSAGE.is_valid(data)
    with pytest.raises(MalformedMessage, match=f"{field}: Field required"):
        decode(json.dumps(data).encode(), 10**6)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("message-1.*.json")))
def test_a_message_of_every_release_is_still_read(name):
    """And written again without loss. Never change a golden file: add one."""
    data = golden(name)
    MESSAGE.validate(data)
    assert decode(json.dumps(data).encode(), 10**6).to_dict() == data


def test_a_message_of_the_first_release_means_what_it_meant():
    """Field by field, not only as a whole."""
    one = decode((GOLDEN / "message-1.0.json").read_bytes(), 10**6)
    assert one.id == "014a7830d50a2bcf887a649763564f25"
    assert (one.name, one.attempt, one.epoch) == ("onboarding", 2, 1)
    assert (one.step.id, one.step.name, one.step.queue) == ("2", "create_account", "onboarding.create_account")
    assert (one.step.timeout, one.step.retry.attempts, one.step.priority) == (60.0, 5, 5)
    assert one.step.arguments == {"plan": "free", "limits": {"seats": 3}, "note": None}
    assert [step.prompt for step in one.routing_slip.itinerary] == [None, "Welcome {name}."]
    assert one.routing_slip.output("validate") == {"name": "Ann", "raw": "_w=="}
    assert one.payload == {"email": "a@b.c"}
