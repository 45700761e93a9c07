"""Tokens of users: what is believed, and what is not."""

from __future__ import annotations

import base64
import hmac
import json
import time

import pytest
from http_server import answering
from tokens import AUDIENCE, ISSUER, Issuer

from paigeant.config import load_settings
from paigeant.errors import ConfigurationError, KeysUnavailable, TokenRefused
from paigeant.security.claims import Tokens

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def tokens(issuer: Issuer) -> Tokens:
    return Tokens.of(load_settings(**issuer.settings))


def unsigned(header: dict[str, str]) -> str:
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 60}
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (header, said))


async def test_a_valid_token_says_who_the_user_is(issuer, tokens):
    """With whatever else it says."""
    claims = await tokens.claims(issuer.token(groups=["finance"]))
    assert (claims["sub"], claims["groups"]) == ("ann", ["finance"])


async def test_clocks_may_differ_a_little(issuer, tokens):
    """By the leeway."""
    assert await tokens.claims(issuer.token(exp=time.time() - tokens.leeway + 5))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1000}, "expired"),
        ({"nbf": 10_000_000_000}, "not yet valid"),
        ({"aud": "another"}, "Audience"),
        ({"iss": "https://elsewhere.example"}, "issuer"),
        ({"sub": None}, '"sub"'),
        ({"exp": None}, '"exp"'),
        ({"sub": 5}, "Subject"),
    ],
)
async def test_a_token_that_is_not_meant_is_refused(issuer, tokens, claims, reason):
    """With the reason, and without the token."""
    token = issuer.token(**claims)
    with pytest.raises(TokenRefused, match=reason) as refused:
        await tokens.claims(token)
    assert token not in str(refused.value)


@pytest.mark.parametrize("kind", ["other key", "none", "secret", "changed", "no token", "empty"])
async def test_a_token_that_the_issuer_did_not_sign_is_refused(issuer, tokens, kind):
    """Whatever its header says about how it is signed."""
    head, body, signature = issuer.token().split(".")
    by_secret = unsigned({"alg": "HS256"})
    secret = hmac.digest(issuer.pem.encode(), by_secret.encode(), "sha256")
    token = {
        "other key": Issuer().token(),
        "none": unsigned({"alg": "none"}) + ".",
        "secret": f"{by_secret}.{base64.urlsafe_b64encode(secret).decode()}",
        "changed": f"{head}.{body[:-4]}AAAA.{signature}",
        "no token": "user-session-token",
        "empty": "",
    }[kind]
    with pytest.raises(TokenRefused):
        await tokens.claims(token)


async def test_what_was_done_is_taken_back_after_the_token_has_expired(issuer, tokens):
    """It has to be the issuer's all the same."""
    assert await tokens.claims(issuer.token(exp=1000), expires=False)
    with pytest.raises(TokenRefused):
        await tokens.claims(Issuer().token(), expires=False)


async def test_keys_are_fetched_once_and_a_new_one_at_once(issuer):
    """From where the issuer publishes them."""
    published = [issuer]
    with answering(lambda _: (200, json.dumps({"keys": [one.keys["keys"][0] for one in published]}))) as (url, asked):
        settings = issuer.settings | {"obo_public_key": None, "obo_jwks_url": f"{url}/keys"}
        tokens = Tokens.of(load_settings(**settings))
        for _ in range(3):
            await tokens.claims(issuer.token())
        assert asked == ["/keys"]
        published.append(Issuer("2"))
        assert await tokens.claims(published[1].token())
        with pytest.raises(TokenRefused):
            await tokens.claims(Issuer("3").token())


@pytest.mark.parametrize("answer", [(500, "down"), (200, '{"keys": []}')])
async def test_keys_that_cannot_be_fetched_are_no_fault_of_the_token(issuer, answer):
    """The step is tried again."""
    with answering(lambda _: answer) as (url, _):
        tokens = Tokens.of(load_settings(**issuer.settings | {"obo_public_key": None, "obo_jwks_url": url}))
        with pytest.raises(KeysUnavailable, match=ISSUER):
            await tokens.claims(issuer.token())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"obo_issuer": None}, "PAIGEANT_OBO_ISSUER"),
        ({"obo_public_key": None}, "PAIGEANT_OBO_PUBLIC_KEY"),
        ({"obo_jwks_url": "https://login.example/keys"}, "either"),
        ({"obo_public_key": "nowhere.pem"}, "obo_public_key"),
        ({"obo_public_key": None, "obo_jwks_url": "file:///etc/keys"}, "no https URL"),
        ({"obo_public_key": None, "obo_jwks_url": "http://login.example/keys"}, "no https URL"),
        ({"obo_algorithms": ("HS256",)}, "obo_algorithms"),
    ],
)
def test_settings_that_check_nothing_are_refused(issuer, change, complaint):
    """Half of them, a key that is none, and keys that anybody may change on their way."""
    with pytest.raises(ConfigurationError) as refused:
        Tokens.of(load_settings(**{name: one for name, one in (issuer.settings | change).items() if one}))
    assert complaint in f"{refused.value} {refused.value.hint}"


def test_the_key_may_be_in_a_file(issuer, tmp_path):
    """As operators keep them."""
    (tmp_path / "key.pem").write_text(issuer.pem)
    assert Tokens.of(load_settings(**issuer.settings | {"obo_public_key": str(tmp_path / "key.pem")}))
