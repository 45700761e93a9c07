"""Tokens of users are shown to nobody."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import json_objects, message

from paigeant.security.masking import MASK, masked


@pytest.mark.parametrize("token", ["a.b.c", 'with "quotes" and \\', ""])
def test_a_message_is_shown_without_its_token(token):
    """And is otherwise the same."""
    one = message("a", "b", obo_token=token)
    shown = json.loads(masked(one.to_json()))
    assert shown.pop("obo_token") == MASK
    whole = json.loads(one.to_json())
    del whole["obo_token"]
    assert shown == whole


def test_bytes_that_are_no_message_are_shown_without_one():
    """Of another version, or cut off."""
    assert b"secret" not in masked(b'{"spec_version": "9.0", "obo_token" : "secret')


SECRET = "SECRET.TO.KEEP"
SPELT = {
    "an escape in the name": rb'{"obo_t\u006fken":"SECRET.TO.KEEP"}',
    "all escapes": rb'{"\u006f\u0062\u006f\u005f\u0074\u006f\u006b\u0065\u006e":"SECRET.TO.KEEP"}',
    "no text": b'{"obo_token":["SECRET.TO.KEEP"]}',
    "an object": b'{"obo_token" : {"a": [{"b": "SECRET.TO.KEEP"}]}, "x": 1}',
    "twice": b'{"obo_token":"a","obo_token":"SECRET.TO.KEEP"}',
    "quotes": rb'{"obo_token":"\"SECRET.TO.KEEP"}',
    "deep inside": b'{"a":[{"b":{"obo_token":"SECRET.TO.KEEP"}}]}',
    "JSON in a text": json.dumps({"body": '{"obo_token":"SECRET.TO.KEEP"}'}).encode(),
    "JSON in a text in a text": json.dumps(json.dumps({"obo_token": "SECRET.TO.KEEP"})).encode(),
    "cut off": b'{"obo_token":"SECRET.TO.KEEP',
    "cut off later": rb'{"obo_t\u006fken":"SECRET.TO.KEEP","name":',
    "no JSON": b"not a message: ['b', '{\"obo_token\": \"SECRET.TO.KEEP\"}']",
    "other quotes": b"{'obo_token':'SECRET.TO.KEEP'}",
    "not UTF-8": b'{"name":"\xff","obo_token":"SECRET.TO.KEEP"}',
    "UTF-16": '{"obo_token":"SECRET.TO.KEEP"}'.encode("utf-16"),
    "UTF-32": '{"obo_token":"SECRET.TO.KEEP"}'.encode("utf-32"),
    "nested without end": b'{"obo_token":"SECRET.TO.KEEP","x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", SPELT.values(), ids=SPELT)
def test_a_token_is_hidden_however_it_is_spelt(body):
    """Wherever it is, and whether or not the bytes are JSON."""
    shown = masked(body)
    assert SECRET.encode() not in shown.replace(b"\0", b"")
    assert MASK.encode() in shown


@given(json_objects, st.text())
def test_every_member_is_masked_and_nothing_else(others, token):
    """What is left is what was there before."""
    body = json.dumps({"obo_token": token, "more": others}).encode()
    assert json.loads(masked(body)) == {"obo_token": MASK, "more": others}


@given(st.binary(max_size=200))
def test_other_bytes_stay(body):
    """Whatever they are."""
    assert masked(body) == body


def test_bytes_that_look_like_a_token_are_hidden_where_nothing_can_be_read():
    """A JWT is known by its beginning."""
    assert masked(b"\x00 eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln more") == b"\x00 (hidden) more"


def test_a_message_is_printed_without_its_token():
    """In a traceback, for example."""
    assert "secret" not in repr(message("a", obo_token="secret"))
