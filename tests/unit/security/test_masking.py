"""Tokens of users are shown to nobody."""

from __future__ import annotations

import json

import pytest
from unit.builders import message

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


def test_a_message_is_printed_without_its_token():
    """In a traceback, for example."""
    assert "secret" not in repr(message("a", obo_token="secret"))
