"""The wire format is a contract: what is written here is read by workers of other releases and languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from unit.builders import messages, slips

from paigeant.errors import MalformedMessage
from paigeant.wire.codec import decode
from paigeant.wire.message import SPEC_VERSION, PaigeantMessage
from paigeant.wire.slip import RoutingSlip

GOLDEN = Path(__file__).parents[1] / "golden"
WIRE_FORMAT = Path(__file__).parents[3] / "docs" / "reference" / "wire-format.md"

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


def versions() -> dict[str, set[str]]:
    """The versions that the documentation lists, with the fields that each brought."""
    rows = re.findall(r"^\| (1\.\d+) \| (.*) \|$", WIRE_FORMAT.read_text(), re.MULTILINE)
    return {version: set(re.findall(r"`(\w+)`", brought)) for version, brought in rows}


def fields_in(value: Any) -> Iterator[str]:
    """The names in a JSON value, at every depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from fields_in(part)


def test_the_latest_version_is_documented():
    """And is the one that is written."""
    assert list(versions())[-1] == SPEC_VERSION


@pytest.mark.parametrize("version", sorted({*versions()} - {SPEC_VERSION} | {"1.1"}))
def test_golden_messages_have_every_field_of_their_version(version):
    """Each version before the present one is kept in messages that use all it brought."""
    kept = [golden(path.name) for path in GOLDEN.glob(f"message-{version}*.json")]
    assert kept
    assert versions()[version] <= {name for one in kept for name in fields_in(one)}


def test_a_message_that_waited_for_branches_means_what_it_meant():
    """A scatter inside a branch of another workflow, tried again and gone on."""
    one = decode((GOLDEN / "message-1.1.json").read_bytes(), 10**6)
    assert (one.attempt, one.tries, one.resumes, one.progress) == (3, 2, 1, {"asked": 2})
    assert (one.deadline, one.start_by) == (1767323045.5, 1767322045.25)
    assert (one.parent, one.branch.join, one.branch.index) == ("019b7f3c-0000-7c44-9d2e-3f8a6b1c0d55", "join:1:0:0", 2)
    assert [part["output"] for part in one.received["join:3:0:0"][0]["value"] if "output" in part] == [7]
    asked = one.step.branches[1].itinerary[0]
    assert (asked.start_timeout, asked.retry.quick, asked.retry.exhausted) == (30.0, 2, "park")
    validated, reserved = one.routing_slip.log
    assert (validated.aside, validated.source) == (True, "5d41402abc4b2a76b9719d911017c592")
    assert (reserved.undo.queue, reserved.undo.arguments) == ("booking.reserve", {"seat": "12A"})


def test_a_message_on_its_way_back_means_what_it_meant():
    """What is taken back, what still stands, and why."""
    slip = decode((GOLDEN / "message-1.1-back.json").read_bytes(), 10**6).routing_slip
    assert slip.is_back
    assert [(step.name, step.id, step.arguments) for step in slip.itinerary] == [("reserve", "2", {"seat": "12A"})]
    assert (slip.fault.step, slip.fault.type, slip.fault.message) == ("4", "CardRefused", "no funds")
    assert slip.fault.left == ("0",)


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


def test_a_message_with_steps_to_run_instead_means_what_it_meant():
    """A step that took the place of one that failed, with steps of its own for that case."""
    one = decode((GOLDEN / "message-1.4.json").read_bytes(), 10**6)
    ask, wait = one.step.otherwise
    assert (one.step.name, ask.name, ask.queue, ask.timeout) == (
        "pay_by_invoice",
        "ask_customer",
        "shop.ask_customer",
        60.0,
    )
    assert [step.name for step in wait.otherwise] == ["give_up"]
    assert [(fault.step, fault.type, fault.message) for fault in one.routing_slip.failed] == [
        ("2", "CardRefused", "no funds")
    ]
