"""The token of a user: what it says, before anybody has verified it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paigeant.wire import base64url
from paigeant.wire.user_token import LIMIT, claimed_scopes, claims_of, listed, parts, scopes_of


def token(claims: Any, header: Any = None) -> str:
    head, body = (base64url.encode(json.dumps(one).encode()) for one in (header or {}, claims))
    return f"{head}.{body}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, ""),
        ({"scope": ""}, ""),
        ({"scope": "orders refunds  orders"}, "orders refunds"),
        ({"scp": "orders refunds"}, "orders refunds"),
        ({"scp": ["orders", "refunds"]}, "orders refunds"),
        ({"scp": []}, ""),
        ({"scope": "orders", "scp": ["refunds"]}, "orders"),
    ],
)
def test_scopes_are_words_or_a_list(claims, scopes):
    """``scope`` counts before ``scp``."""
    assert scopes_of(claims) == frozenset(scopes.split())
    assert claimed_scopes(token(claims)) == frozenset(scopes.split())


@pytest.mark.parametrize("claims", [{"scope": ["orders"]}, {"scope": None}, {"scp": [1]}, {"scp": 1}, {"scp": None}])
def test_scopes_of_another_form_are_refused(claims):
    """Nobody guesses what they mean; to refuse early, they are none."""
    with pytest.raises(ValueError, match='its claim "sc'):
        scopes_of(claims)
    assert claimed_scopes(token(claims)) == frozenset()


@pytest.mark.parametrize(
    "unreadable", [None, "", "a.b.c", "a.b", token([]), token({}, [1]), "x" * (LIMIT + 1), token({}) + ".x"]
)
def test_a_token_that_cannot_be_read_says_nothing(unreadable):
    """It has no claims and no scopes."""
    assert claims_of(unreadable) == {}
    assert claimed_scopes(unreadable) == frozenset()


def test_a_token_has_a_header_and_claims():
    """Both as they are."""
    found = parts(token({"sub": "ann"}, {"alg": "none"}))
    assert (found.header, found.claims) == ({"alg": "none"}, {"sub": "ann"})


def test_scopes_are_named_in_order():
    """For people."""
    assert [listed(one) for one in ([], ["b"], ["b", "a"])] == ["no scope", "the scope 'b'", "the scopes 'a', 'b'"]
