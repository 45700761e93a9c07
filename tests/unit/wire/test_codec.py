from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.builders import entry, json_values, message, messages, slip

from paigeant.errors import MalformedMessage, MessageError, MessageTooLarge, UnsupportedVersion
from paigeant.wire.codec import decode, encode
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

LIMIT = 100_000


def body(**changes: Any) -> bytes:
    """A valid message's bytes, with some fields changed."""
    return json.dumps(message("a", "b").to_dict() | changes).encode()


def decode_or_refuse(data: bytes) -> PaigeantMessage | None:
    """The message or None; any error but MessageError fails the test."""
    try:
        one = decode(data, LIMIT)
    except MessageError as error:
        assert str(error).isprintable()  # noqa: PT017 - the reason goes to logs and databases
        return None
    decode(encode(one, LIMIT * 10), LIMIT * 10)  # what was read can be sent on
    return one


@given(messages)
def test_a_message_comes_back(one):
    """Encoding loses nothing."""
    assert decode(encode(one, LIMIT), LIMIT) == one


# --- what is no message ----------------------------------------------------------------------------------------------

DEEP = b'{"spec_version":"1.0","routing_slip":{"variables":' + b"[" * 50_000 + b"]" * 50_000 + b"}}"

GARBAGE = {
    "nothing": b"",
    "text": b"hello",
    "not utf-8": b"\xff\xfe",
    "half": body()[:-5],
    "two": body() + body(),
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no fields": b"{}",
    "no version": json.dumps({"routing_slip": {"itinerary": [{"name": "a"}]}}).encode(),
    "empty version": body(spec_version=""),
    "version is a number": body(spec_version=1.0),
    "version is a list": body(spec_version=["1.0"]),
    "version is no version": body(spec_version="latest"),
    "no slip": json.dumps({"spec_version": "1.0"}).encode(),
    "empty slip": body(id="", routing_slip={}),
    "another id": body(id="0" * 32),
    "id of another attempt": body(attempt=2),
    "attempt 0": body(attempt=0),
    "huge attempt": body(id="", attempt=10**30),
    "huge number": body(attempt=1).replace(b'"correlation_id"', b'"attempt":' + b"9" * 5000 + b',"correlation_id"', 1),
    "nan attempt": body()[:-1] + b', "attempt": NaN}',
    "deep": DEEP,
    "lone surrogate": body().replace(b'"c1"', rb'"\ud800"'),
    "nul in an id": body(id="", correlation_id="a\x00b"),
    "nul in a key": body(trace_context={"a\x00": 5}),
    "empty correlation id": body(id="", correlation_id=""),
    "same step twice": body(id="", routing_slip={"itinerary": [{"name": "a", "id": "1"}, {"name": "a", "id": "1"}]}),
    "nameless step": body(id="", routing_slip={"itinerary": [{"name": ""}]}),
    "priority 99": body(id="", routing_slip={"itinerary": [{"name": "a", "priority": 99}]}),
    "negative timeout": body(id="", routing_slip={"itinerary": [{"name": "a", "timeout": -1}]}),
    "impossible date": body(routing_slip={"log": [entry("0").to_dict() | {"started_at": 1e300}]}),
    "pickled": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_message_is_refused_with_a_reason(data):
    """One line that says which field is wrong, never another exception."""
    with pytest.raises(MalformedMessage) as caught:
        decode(data, LIMIT * 10)
    assert str(caught.value).startswith("not a paigeant message: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 12_000


@given(st.binary(max_size=300))
@example(b'{"spec_version":')
@example(b"\x00" * 20)
def test_arbitrary_bytes_are_refused(data):
    """Nothing that is thrown at a queue can do more than be set aside."""
    assert decode_or_refuse(data) is None


@given(json_values)
def test_arbitrary_json_is_refused(value):
    """Well-formed is not enough."""
    assert decode_or_refuse(json.dumps(value).encode()) is None


@given(messages, st.data())
def test_a_message_with_bytes_changed_is_read_or_refused(one, data):
    """Bit rot, truncation and insertions end in a message or a reason."""
    raw = bytearray(encode(one, LIMIT))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        end = data.draw(st.integers(at, min(len(raw), at + 5)))
        raw[at:end] = data.draw(st.binary(max_size=5))
    decode_or_refuse(bytes(raw))


@given(messages, st.data())
def test_a_message_with_a_value_changed_is_read_or_refused(one, data):
    """Any JSON in any place: wrong types never reach an activity as a crash of the worker."""
    tree = one.to_dict()
    where = data.draw(st.sampled_from(list(_places(tree))))
    _put(tree, where, data.draw(json_values))
    decode_or_refuse(json.dumps(tree).encode())


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


# --- what readers may read differently -------------------------------------------------------------------------------

AMBIGUOUS = {
    "two ids": body()[:-1] + b', "correlation_id": "c2"}',
    "two slips": body()[:-1] + b', "routing_slip": {"itinerary": [{"name": "b"}]}}',
    "two equal names": body(name="a")[:-1] + b', "name": "a"}',
    "two spellings": body(name="a")[:-1] + rb', "n\u0061me": "b"}',
    "two arguments": body(id="", routing_slip={"itinerary": [{"name": "a", "arguments": {"x": 1}}]}).replace(
        b'{"x": 1}', b'{"x": 1, "x": 2}'
    ),
    "two of something unknown": body()[:-1] + b', "new": {"a": 1, "a": 2}}',
    **{
        name.decode(): body(routing_slip={"itinerary": [{"name": "a", "id": "1"}], "variables": {"n": 0}}).replace(
            b'"n": 0', b'"n": ' + name
        )
        for name in (b"NaN", b"Infinity", b"-Infinity", b"1e999")
    },
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_two_readers_may_read_differently_is_refused(data):
    """A gateway that reads the first of two members must not see another message than the worker."""
    with pytest.raises(MalformedMessage, match=r"not a paigeant message: .*(twice|number|NaN|nan|value)"):
        decode(data, LIMIT)


# --- what is read in spite of its looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [b"1e300", b"1" + b"0" * 3999, b"-0.0", b"1E5", b"0.1000"])
def test_odd_numbers_in_variables_do_no_harm(number):
    """They are read and can be sent on."""
    data = body(routing_slip={"itinerary": [{"name": "a", "id": "1"}], "variables": {"n": 0}})
    assert decode_or_refuse(data.replace(b'"n": 0', b'"n": ' + number)) is not None


def test_huge_numbers_in_variables_are_data():
    """JSON has no limit for them; what counts them is bounded by the model."""
    one = PaigeantMessage(routing_slip=slip("a", variables={"n": 10**4000}))
    assert decode(encode(one, LIMIT), LIMIT).payload == {"n": 10**4000}


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_message_at_the_limit_is_taken():
    """The limit is the largest size, for both ends."""
    one = message("a")
    size = len(one.to_json())
    assert decode(encode(one, size), size) == one


BIG = "x" * 5000
TOO_LARGE = {
    r"variables\['doc'\]": PaigeantMessage(routing_slip=slip("a", variables={"doc": BIG, "small": 1})),
    "the output of 'load'": PaigeantMessage(routing_slip=slip("a", log=(entry("0", "load", BIG),))),
    r"a\.arguments\['x'\]": PaigeantMessage(
        routing_slip=RoutingSlip(itinerary=(ActivitySpec(name="a", arguments={"x": BIG}),))
    ),
    r"a\.prompt": PaigeantMessage(routing_slip=RoutingSlip(itinerary=(ActivitySpec(name="a", prompt=BIG),))),
    "the itinerary": PaigeantMessage(routing_slip=slip(*["a"] * 300)),
}


@pytest.mark.parametrize(("part", "one"), TOO_LARGE.items(), ids=TOO_LARGE)
def test_a_message_too_large_is_refused_by_its_largest_part(part, one):
    """The sender learns what to pass by reference."""
    with pytest.raises(MessageTooLarge, match=rf"(?m)bytes, the limit 4,000; {part} alone takes [\d,]+$"):
        encode(one, 4000)


def test_bytes_over_the_limit_are_not_even_parsed():
    """Size is checked first: this is not JSON."""
    with pytest.raises(MessageTooLarge):
        decode(b"{" * 101, 100)


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.99"])
def test_every_minor_version_is_read(version):
    """A minor version only adds."""
    assert decode(body(spec_version=version), LIMIT).spec_version == version


@pytest.mark.parametrize("version", ["0.9", "2.0", "10.0"])
def test_another_major_version_is_refused_by_name(version):
    """Politely: this is no fault of the message."""
    with pytest.raises(UnsupportedVersion, match=f"spec_version '{version}'"):
        decode(body(spec_version=version), LIMIT)


def test_another_major_version_may_look_like_anything():
    """The version is said before anything is called wrong."""
    with pytest.raises(UnsupportedVersion):
        decode(b'{"spec_version": "2.0", "slip": []}', LIMIT)
