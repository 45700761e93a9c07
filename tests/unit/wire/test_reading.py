"""What is read is what every other reader reads, whether or not paigeant wrote it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from unit.builders import json_values, messages

from paigeant.wire import reading, strict_json
from paigeant.wire.reading import read
from paigeant.wire.slip import RoutingSlip

REFUSED = [
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":2}',
    b'{"a":{"b":[{"c":1,"d":2,"c":3}]}}',
    b'{"a":NaN}',
    b"[Infinity]",
    b"[-Infinity]",
    b"[1e999]",
    b'["\\ud800"]',
    b"\xff",
    b"",
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: data[:30].decode(errors="replace"))
def test_what_readers_read_differently_is_refused(data):
    """Members that are there twice, numbers that JSON does not have, what is no JSON."""
    with pytest.raises(ValueError, match=r"."):
        read(data)


def test_text_with_half_a_character_is_refused():
    """It has no bytes that JSON allows."""
    with pytest.raises(ValueError, match=r"."):
        read('"\ud800"')


@given(json_values)
def test_all_else_is_read_as_ever(value):
    """However it is written."""
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False, indent=1),
        json.dumps(value, separators=",:"),
    ):
        assert read(text) == read(text.encode()) == value


@given(messages)
def test_what_paigeant_writes_is_read_quickly(one):
    """Without the slow parser, which would cost each hop several percent."""
    slow = strict_json.loads
    try:
        reading.strict_json.loads = None
        assert read(one.to_json()) == json.loads(one.to_json())
    finally:
        reading.strict_json.loads = slow


def test_a_slip_from_a_file_is_read_as_strictly():
    """A person who reads the file sees the slip that runs."""
    written = b'{"itinerary":[{"name":"a","name":"b"}]}'
    with pytest.raises(ValueError, match="'name' is there twice"):
        RoutingSlip.from_json(written)
