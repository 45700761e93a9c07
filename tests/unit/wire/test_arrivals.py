"""What a step has received: every entry is checked where the message is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.builders import message

from paigeant.errors import MalformedMessage
from paigeant.wire.codec import decode

LIMIT = 100_000


def with_received(received: Any) -> bytes:
    """A valid message, but for what its step has received."""
    return json.dumps(message("a").to_dict() | {"received": received}).encode()


WRONG = {
    "no lists by key": [],
    "no list": {"signal:x": 5},
    "a text": {"signal:x": "abc"},
    "an object": {"signal:x": {"value": 1}},
    "no object": {"timer": [5]},
    "nothing": {"signal:x": [None]},
    "an empty entry": {"signal:x": [{}]},
    "an entry that says nothing": {"signal:x": [{"valeu": 1}]},
    "kept nowhere": {"signal:x": [{"kept": {"digest": "../../etc", "size": 1, "of": "w"}}]},
    "an error that is no text": {"signal:x": [{"error": {}}]},
    "a timeout that is no truth": {"timer": [{"timeout": []}]},
    "a child's end that is no object": {"child:c": [{"value": 7}]},
    "a child's end without a status": {"child:c": [{"value": {"output": 1}}]},
    "a child that used nonsense": {"child:c": [{"value": {"status": "completed", "used": {"steps": "many"}}}]},
    "a child whose error is a text": {"child:c": [{"value": {"status": "failed", "error": "boom"}}]},
    "an answer that is no object": {"approval:1:x:0": [{"value": True}]},
    "an answer that decides nothing": {"approval:1:x:0": [{"value": {"by": "ann"}}]},
    "a join without an end": {"join:1:0:0": []},
    "branches that are no list": {"join:1:0:0": [{"value": 3}]},
    "a branch that is no object": {"join:1:0:0": [{"value": [3]}]},
    "a branch that used nonsense": {"join:1:0:0": [{"value": [{"used": 3}]}]},
    "a branch that left nonsense": {"join:1:0:0": [{"value": [{"standing": [{"id": 1}]}]}]},
}

RIGHT = {
    "a signal": {"signal:x": [{"value": None}, {"value": {"a": [1]}}]},
    "a time": {"timer": [{"timeout": True}]},
    "what was too large": {"signal:x": [{"error": "what came is too large"}]},
    "what is kept": {"join:1:0:0": [{"kept": {"digest": "0" * 64, "size": 1, "of": "w"}}]},
    "a child": {"child:c": [{"value": {"status": "completed", "output": 1, "error": None, "used": {}}}]},
    "an answer": {"approval:1:x:0": [{"value": {"approved": True, "by": None, "reason": "", "arguments": None}}]},
    "branches": {"join:1:0:0": [{"value": [{"output": 1}, {"status": "failed", "error": None, "workflow": "w"}]}]},
    "a later release's field": {"signal:x": [{"value": 1, "heard": "yes"}]},
    "a key of a later release": {"omen:x": [{"value": 1}]},
}


@pytest.mark.parametrize("received", WRONG.values(), ids=WRONG)
def test_a_wrong_entry_makes_no_message(received):
    """It is named, and none of its values is."""
    with pytest.raises(MalformedMessage, match="received"):
        decode(with_received(received), LIMIT)


@pytest.mark.parametrize("received", RIGHT.values(), ids=RIGHT)
def test_a_right_entry_travels_on_as_it_is(received):
    """Every field of it, also those that this release does not know."""
    one = decode(with_received(received), LIMIT)
    assert one.received == received
    assert json.loads(one.to_json())["received"] == received


def test_the_reason_does_not_repeat_the_value():
    """It goes to logs and dead letters."""
    with pytest.raises(MalformedMessage, match=r"'child:c': value\.status") as refused:
        decode(with_received({"child:c": [{"value": {"status": ["s3cret"]}}]}), LIMIT)
    assert "s3cret" not in str(refused.value)
