"""The issuer and the token service that tests use: they refuse what real ones refuse."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from http_server import Reply
from issuer import ACCESS_TOKEN, ASSERTION, EXCHANGE, JWT, AuthorizationServer, Client, signer
from sts import Role, SecurityTokenService

from paigeant.config import load_settings
from paigeant.security.claims import Tokens

pytestmark = pytest.mark.anyio

BILLING = "https://billing"
ROLE = "arn:aws:iam::123456789012:role/clerk"
WORKER = signer("worker")


@pytest.fixture
def idp() -> Iterator[AuthorizationServer]:
    clients = [
        Client("worker", "s:cret/", keys=WORKER.keys, audiences=[BILLING], scopes=["refunds", "orders"]),
        Client("batch", "other", audiences=[BILLING], scopes=["orders"], exchanges=False),
    ]
    with AuthorizationServer(clients, trusted={"https://partner": signer("partner").keys}).running() as running:
        yield running


def post(url: str, form: dict[str, str], login: tuple[str, str] | None = ("worker", "s:cret/")) -> tuple[int, str]:
    """Status and body of the answer to a form."""
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())
    if login is not None:
        quoted = ":".join(map(urllib.parse.quote_plus, login))
        request.add_header("Authorization", f"Basic {base64.b64encode(quoted.encode()).decode()}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def asked(idp: AuthorizationServer, form: dict[str, str], **more: Any) -> tuple[int, dict[str, Any]]:
    status, body = post(f"{idp.url}/token", form, **more)
    return status, json.loads(body)


def exchange(token: str, **more: str) -> dict[str, str]:
    about = {"subject_token": token, "subject_token_type": ACCESS_TOKEN, "audience": BILLING}
    return {"grant_type": EXCHANGE, **about, **more}


def read(idp: AuthorizationServer, token: str) -> dict[str, Any]:
    """The claims of a token, verified with the keys that the issuer publishes."""
    with urllib.request.urlopen(f"{idp.url}/.well-known/oauth-authorization-server") as answer:
        metadata = json.loads(answer.read())
    assert (metadata["issuer"], metadata["token_endpoint"]) == (idp.url, f"{idp.url}/token")
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], audience=BILLING, issuer=idp.url)
    return claims


def test_keys_are_the_same_in_every_run() -> None:
    """And another key for each name, and for each number."""
    keys = [str(signer(*of).keys) for of in (("a", "1"), ("a", "1"), ("a", "2"), ("b", "1"))]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


async def test_an_app_believes_its_tokens(idp):
    """Also after it has changed its key."""
    tokens = Tokens.of(load_settings(**idp.settings))
    assert (await tokens.claims(idp.token()))["sub"] == "ann"
    idp.rotate()
    assert len(idp.keys["keys"]) == 2


def test_a_client_gets_a_token_of_its_own(idp):
    """With some of its scopes, or all."""
    status, answer = asked(idp, {"grant_type": "client_credentials", "audience": BILLING, "scope": "orders"})
    claims = read(idp, answer["access_token"])
    assert (status, claims["sub"], claims["scope"], claims["client_id"]) == (200, "worker", "orders", "worker")
    assert 0 < answer["expires_in"] <= 300
    _, answer = asked(idp, {"grant_type": "client_credentials", "audience": BILLING}, login=("batch", "other"))
    assert answer["scope"] == "orders"


@pytest.mark.parametrize("way", ["posted", "asserted"])
def test_a_client_may_prove_in_other_ways_who_it_is(idp, way):
    """By its secret in the form, or by a token that it has signed."""
    assertion = WORKER.token(iss="worker", sub="worker", aud=f"{idp.url}/token")
    proofs = {
        "posted": {"client_id": "worker", "client_secret": "s:cret/"},
        "asserted": {"client_assertion_type": ASSERTION, "client_assertion": assertion},
    }
    form = {"grant_type": "client_credentials", "audience": BILLING, **proofs[way]}
    assert asked(idp, form, login=None)[0] == 200


def test_a_users_token_is_exchanged_for_one_that_does_less(idp):
    """It is still the user's, it names the actors, and it does not outlive the first one."""
    subject = idp.token(scope="refunds profile", exp=time.time() + 60)
    step = signer("partner").token(iss="https://partner", sub="refund-step")
    status, answer = asked(idp, exchange(subject, actor_token=step, actor_token_type=JWT))
    claims = read(idp, answer["access_token"])
    assert (status, answer["issued_token_type"], answer["token_type"]) == (200, ACCESS_TOKEN, "Bearer")
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("ann", BILLING, "refunds")
    assert claims["act"] == {"sub": "refund-step", "iss": "https://partner"}
    assert claims["exp"] <= time.time() + 60
    _, second = asked(idp, exchange(answer["access_token"], actor_token=idp.token(sub="next"), actor_token_type=JWT))
    assert read(idp, second["access_token"])["act"]["act"] == claims["act"]
    assert [one["sub"] for one in idp.issued] == ["ann", "ann"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"subject_token": "no token"}, "invalid_grant"),
        ({"subject_token": signer("stranger").token()}, "invalid_grant"),
        ({"subject_token_type": "urn:of:another"}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
        ({"actor_token_type": JWT}, "invalid_request"),
        ({"actor_token": "no token", "actor_token_type": JWT}, "invalid_grant"),
        ({"audience": "https://elsewhere"}, "invalid_target"),
        ({"scope": "orders"}, "invalid_scope"),
        ({"scope": "refunds admin"}, "invalid_scope"),
        ({"requested_token_type": "urn:of:another"}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_id": "worker", "client_secret": "s:cret/"}, "invalid_request"),
    ],
)
def test_an_exchange_that_is_not_allowed_is_refused(idp, change, code):
    """With the code that the standard names; nothing is issued."""
    status, answer = asked(idp, exchange(idp.token(scope="refunds")) | change)
    assert (status, answer["error"], idp.issued) == (400, code, [])


@pytest.mark.parametrize("claims", [{"exp": 1000}, {"iss": "https://partner"}, {"may_act": {"sub": "another"}}])
def test_a_token_that_may_not_be_exchanged_is_refused(idp, claims):
    """Expired, of another issuer than it says, or for another actor."""
    step = signer("partner").token(iss="https://partner", sub="refund-step")
    form = exchange(idp.token(**claims), actor_token=step, actor_token_type=JWT)
    assert asked(idp, form)[1]["error"] == "invalid_grant"


def test_a_client_that_nobody_knows_is_refused(idp):
    """Also one that may not exchange tokens."""
    form = exchange(idp.token())
    for login in (("worker", "wrong"), ("nobody", ""), None):
        assert asked(idp, form, login=login) == (401, asked(idp, form, login=("worker", "wrong"))[1])
    assert asked(idp, form, login=("batch", "other"))[1]["error"] == "unauthorized_client"


def test_a_test_may_choose_the_next_answers(idp):
    """An outage, or nonsense."""
    idp.answer_next(Reply(503, "down"), Reply(200, "<html>"))
    form = {"grant_type": "client_credentials", "audience": BILLING}
    assert [post(f"{idp.url}/token", form) for _ in range(2)] == [(503, "down"), (200, "<html>")]
    assert asked(idp, form)[0] == 200


# --- AWS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"RoleArn": "arn:aws:iam::123456789012:role/admin"}, "AccessDenied"),
        ({"RoleSessionName": "a name with blanks"}, "ValidationError"),
        ({"DurationSeconds": "5"}, "ValidationError"),
        ({"WebIdentityToken": "no token"}, "InvalidIdentityToken"),
        ({"WebIdentityToken": signer("stranger").token(iss="https://partner")}, "InvalidIdentityToken"),
        ({"WebIdentityToken": signer("partner").token(iss="https://partner", exp=1000)}, "ExpiredTokenException"),
        ({"WebIdentityToken": signer("partner").token(iss="https://partner", aud="b")}, "InvalidIdentityToken"),
        ({"WebIdentityToken": signer("partner").token(iss="https://partner", sub="bob")}, "AccessDenied"),
        ({"Action": "AssumeRole"}, "InvalidAction"),
    ],
)
def test_a_role_is_assumed_with_the_token_of_a_provider(change, code):
    """Everything else is refused with AWS's own codes."""
    partner = signer("partner")
    service = SecurityTokenService(
        {"https://partner": partner.keys}, {ROLE: Role("https://partner", "paigeant", "ann*")}
    )
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "ann",
        "WebIdentityToken": partner.token(iss="https://partner"),
    }
    with service.running() as url:
        status, answer = post(url, form | change)
    if code is None:
        assert status == 200
        assert f"<AccessKeyId>{next(iter(service.sessions))}</AccessKeyId>" in answer
    else:
        assert (status in (400, 403), f"<Code>{code}</Code>" in answer, service.sessions) == (True, True, {})
