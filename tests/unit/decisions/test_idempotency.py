from __future__ import annotations

import base64
import json

import pytest
from unit.builders import message

from paigeant.decisions.idempotency import digest


def token(**claims: object) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({}, claims)]
    return ".".join([*parts, "signature"])


ANN = token(iss="https://issuer", sub="ann", exp=1)


def named(obo_token: str | None) -> str:
    return digest(message("a").model_copy(update={"obo_token": obo_token}))


@pytest.mark.parametrize(
    "other",
    [
        None,
        token(iss="https://issuer", sub="bob", exp=1),
        token(iss="https://other", sub="ann", exp=1),
        "no token",
        "a.b.c",
        "",
    ],
)
def test_another_user_is_another_workflow(other):
    """Whoever repeats the key of somebody else does not get that workflow."""
    assert named(other) != named(ANN)


def test_a_renewed_token_is_the_same_user():
    """Only the issuer and the subject count."""
    assert named(token(iss="https://issuer", sub="ann", exp=2, jti="x")) == named(ANN)
