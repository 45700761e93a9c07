"""Tokens of users: which of them are accepted, and which are refused."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tokens import AUDIENCE, ISSUER, Issuer

from paigeant.config import load_settings
from paigeant.errors import ConfigurationError, TokenRefused
from paigeant.security.claims import Tokens
from paigeant.wire import base64url

pytestmark = pytest.mark.anyio

HEADER = '{"alg": "ES256", "kid": "1"}'
YEARS = 100 * 365 * 86_400


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
    assert await tokens.claims(issuer.token(iat=time.time() + tokens.leeway - 5, nbf=time.time() + tokens.leeway - 5))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1000}, "expired"),
        ({"nbf": 10_000_000_000}, "not yet valid"),
        ({"iat": 10_000_000_000}, "in the future"),
        ({"aud": "another"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": [AUDIENCE]}, "is a list"),
        ({"aud": ["another", AUDIENCE]}, "is a list"),
        ({"iss": "https://elsewhere.example"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"sub": None}, '"sub"'),
        ({"sub": ""}, '"sub"'),
        ({"sub": 5}, "subject"),
        ({"exp": None}, '"exp"'),
        ({"exp": str(int(time.time()) + 60)}, "'exp' is no number"),
        ({"exp": True}, "'exp' is no number"),
        ({"exp": 10**400}, "'exp' is no number"),
        ({"nbf": "0"}, "'nbf' is no number"),
        ({"iat": -1}, "'iat' is no number"),
        ({"exp": time.time() + YEARS}, "longer than 2592000 s|longer than 2.592e\\+06 s"),
        ({"iat": time.time() - 31 * 86_400}, "valid for longer"),
        ({"scope": ["orders"]}, '"scope" is no text'),
        ({"scp": [1]}, '"scp"'),
        ({"act": {"sub": "a", "act": [{"sub": "b"}]}}, None),
    ],
)
async def test_a_token_with_other_claims_is_refused(issuer, tokens, claims, reason):
    """With the reason, and without the token."""
    token = issuer.token(**claims) if "exp" not in claims or claims["exp"] != 10**400 else big(issuer)
    if reason is None:
        assert await tokens.claims(token)
        return
    with pytest.raises(TokenRefused, match=reason) as refused:
        await tokens.claims(token)
    assert token not in str(refused.value)


def big(issuer: Issuer) -> str:
    return issuer.signed(HEADER, json.dumps(issuer.claims(exp=10**400)))


def acting(actors: int) -> dict[str, Any]:
    return {"sub": "x", "act": acting(actors - 1)} if actors > 1 else {"sub": "x"}


@pytest.mark.parametrize(("actors", "is_refused"), [(1, False), (8, False), (9, True), (30, True), (50, True)])
async def test_few_actors_may_have_acted_for_each_other(issuer, tokens, actors, is_refused):
    """At most eight."""
    token = issuer.token(act=acting(actors))
    if not is_refused:
        assert (await tokens.claims(token))["act"] == acting(actors)
        return
    with pytest.raises(TokenRefused, match=r"actors|nested"):
        await tokens.claims(token)


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"])
async def test_a_token_of_a_known_type_is_accepted(issuer, tokens, typ):
    """Its type may be left out."""
    assert await tokens.claims(issuer.token({"typ": typ}))


@pytest.mark.parametrize("typ", ["dpop+jwt", "", "JWS", 5, ["JWT"], "secevent+jwt"])
async def test_a_token_of_another_type_is_refused(issuer, tokens, typ):
    """A proof of possession, for example."""
    header = json.dumps({"alg": "ES256", "kid": "1", "typ": typ})
    with pytest.raises(TokenRefused, match='type \\("typ"\\)'):
        await tokens.claims(issuer.signed(header, json.dumps(issuer.claims())))


async def test_a_setting_adds_types(issuer):
    """In any case of letters."""
    tokens = Tokens.of(load_settings(**issuer.settings | {"obo_types": ["Txntoken+JWT"]}))
    for typ in ("txntoken+jwt", "application/txntoken+jwt", "JWT"):
        assert await tokens.claims(issuer.token({"typ": typ}))


@pytest.mark.parametrize(
    ("header", "claims", "reason"),
    [
        (HEADER[:-1] + ', "alg": "ES256"}', "{}", "its header: the member 'alg' is there twice"),
        (HEADER, '{"sub": "ann", "sub": "eve"}', "its claims: the member 'sub' is there twice"),
        (HEADER[:-1] + ', "crit": ["exp"], "exp": 1}', "{}", "'crit'"),
        (HEADER[:-1] + ', "b64": true}', "{}", "'b64'"),
        ('{"alg": "ES256", "kid": 1}', "{}", '"kid"'),
        ('{"kid": "1"}', "{}", '"alg"'),
        ('["ES256"]', "{}", "its header: no JSON object"),
        (HEADER, "[]", "its claims: no JSON object"),
        (HEADER, '{"exp": NaN}', "NaN"),
        (HEADER, "", "no JSON"),
        (HEADER, "{" + " " * 20_000 + "}", "longer than 16,384 bytes"),
    ],
)
async def test_a_token_that_readers_may_read_differently_is_refused(issuer, tokens, header, claims, reason):
    """Although its issuer signed it."""
    with pytest.raises(TokenRefused, match=reason):
        await tokens.claims(issuer.signed(header, claims))


async def test_a_signature_has_one_form(issuer, tokens):
    """No padding, and no superfluous bits."""
    token = issuer.token()
    for other in (token + "==", token[:-1] + chr(ord(token[-1]) + 1), token + ".", token.replace(".", "..", 1)):
        with pytest.raises(TokenRefused):
            await tokens.claims(other)


@pytest.mark.parametrize("named", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("allowed", ["EdDSA", "Ed25519"])
async def test_ed25519_has_two_names(issuer, named, allowed):
    """RFC 9864 replaces one by the other."""
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    tokens = Tokens.of(load_settings(**issuer.settings | {"obo_public_key": pem, "obo_algorithms": [allowed]}))
    head = base64url.encode(json.dumps({"alg": named}).encode())
    text = f"{head}.{base64url.encode(json.dumps(issuer.claims()).encode())}"
    assert await tokens.claims(f"{text}.{base64url.encode(key.sign(text.encode()))}")


async def test_an_algorithm_has_to_fit_both_settings_and_key(issuer):
    """The header alone decides nothing."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    tokens = Tokens.of(load_settings(**issuer.settings | {"obo_public_key": pem}))
    assert await tokens.claims(jwt.encode(issuer.claims(), key, algorithm="PS256"))
    with pytest.raises(TokenRefused, match="is not one of"):
        await tokens.claims(jwt.encode(issuer.claims(), key, algorithm="RS512"))
    with pytest.raises(TokenRefused, match="is not that of its key"):
        await tokens.claims(issuer.token())


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


async def test_a_compensation_runs_after_the_token_has_expired(issuer, tokens):
    """It has to be the issuer's, and valid for a reasonable time, all the same."""
    assert await tokens.claims(issuer.token(exp=1000), expires=False)
    for wrong in (Issuer().token(), issuer.token(exp=time.time() + YEARS), issuer.token(aud="another")):
        with pytest.raises(TokenRefused):
            await tokens.claims(wrong, expires=False)


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
