"""Public keys: which of them verify signatures, and with which algorithms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from paigeant.security.jwk import KeySet, load_key, load_keys, load_pem
from paigeant.wire.base64url import encode

ED25519 = Ed25519PrivateKey.generate().public_key()
P256, P384, P521, K1 = (
    ec.generate_private_key(curve()).public_key() for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1, ec.SECP256K1)
)
RSA = rsa.generate_private_key(65537, 2048).public_key()
WEAK = rsa.RSAPublicNumbers(65537, (1 << 1023) + 1).public_key()


def big(number: int, size: int = 0) -> str:
    return encode(number.to_bytes(size or (number.bit_length() + 7) // 8))


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            own = {"kty": "RSA", "n": big(numbers.n), "e": big(numbers.e)}
        case ec.EllipticCurvePublicKey():
            point, size = key.public_numbers(), (key.key_size + 7) // 8
            names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
            own = {"kty": "EC", "crv": names.get(key.curve.name, key.curve.name)}
            own |= {"x": big(point.x, size), "y": big(point.y, size)}
        case _:
            own = {"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_bytes_raw())}
    return own | more


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (ED25519, "EdDSA Ed25519"),
        (P256, "ES256"),
        (P384, "ES384"),
        (P521, "ES512"),
        (RSA, "RS256 RS384 RS512 PS256 PS384 PS512"),
    ],
)
def test_a_key_decides_its_algorithms(key, algorithms):
    """The same ones, whether it is a JWK or PEM."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for read in (load_key(json.dumps(jwk(key, kid="1"))), load_pem(pem, "1"), load_pem(pem.decode(), "1")):
        assert (read.public, read.algorithms, read.kid) == (key, frozenset(algorithms.split()), "1")


@pytest.mark.parametrize(
    ("key", "alg", "algorithms"),
    [
        (ED25519, "EdDSA", "EdDSA Ed25519"),
        (ED25519, "Ed25519", "EdDSA Ed25519"),
        (P256, "ES256", "ES256"),
        (RSA, "PS256", "PS256"),
    ],
)
def test_a_jwk_may_allow_one_algorithm(key, alg, algorithms):
    """EdDSA has two names."""
    assert load_key(json.dumps(jwk(key, alg=alg))).algorithms == frozenset(algorithms.split())


def test_members_that_are_not_known_are_no_fault():
    """Certificates, for example."""
    assert load_key(json.dumps(jwk(P256, x5c=["..."], ext=True, key_ops=["verify"], use="sig"))).kid is None


BAD = [
    (jwk(P256, alg="ES384"), "its algorithm .* is none of ES256"),
    (jwk(RSA, alg="RSA-OAEP"), "its algorithm"),
    (jwk(RSA, alg="none"), "its algorithm"),
    (jwk(RSA, alg=["RS256"]), "its algorithm"),
    (jwk(P256, use="enc"), "its use"),
    (jwk(P256, key_ops=["encrypt"]), "its operations"),
    (jwk(P256, key_ops="verify"), "its operations"),
    (jwk(P256, kid=""), "its id"),
    (jwk(P256, kid="x" * 257), "its id"),
    (jwk(P256, kid=1), "its id"),
    (jwk(P256, crv="P-384"), "'x' has 32 bytes, not 48"),
    (jwk(P256, crv=["P-256"]), "its curve"),
    (jwk(P256, y=big(1, 32)), "not on the curve"),
    (jwk(P256, x=None), "no member 'x'"),
    (jwk(P256, x="*"), "'x' is no base64url"),
    (jwk(K1), "its curve"),
    (jwk(ED25519, crv="X25519"), "its curve"),
    (jwk(ED25519, x="AA"), "'x' has 1 bytes, not 32"),
    (jwk(WEAK), "1024 bits, RSA needs 2048 to 8192"),
    (jwk(RSA, n=big((1 << 8192) + 1)), "8193 bits"),
    (jwk(RSA, e=big((1 << 40) + 1)), "its exponent"),
    (jwk(RSA, e=big(2)), "it is no RSA key"),
    ({"kty": "AKP", "kid": "1"}, "its type .* 'AKP' is not known"),
    ({"kty": None}, "its type"),
    ([1], "no JSON object"),
    ("key", "no JSON object"),
]
EXPOSED = [
    ({"kty": "oct", "k": "c2VjcmV0", "kid": "2"}, "secret key"),
    (jwk(ED25519, d="AAAA"), "private key"),
]


@pytest.mark.parametrize(("wrong", "complaint"), [*BAD, *EXPOSED])
def test_a_key_that_may_not_verify_is_refused(wrong, complaint):
    """With what is wrong."""
    with pytest.raises(ValueError, match=complaint):
        load_key(json.dumps(wrong))


@pytest.mark.parametrize(("wrong", "complaint"), [*BAD, (jwk(P384), "it has no id")])
def test_a_bad_key_of_a_set_makes_no_other_bad(wrong, complaint):
    """It is left out, and the set says so."""
    keys = load_keys(json.dumps({"keys": [wrong, jwk(P256, kid="good")]}))
    assert list(keys.keys) == ["good"]
    assert len(keys.left_out) == 1
    found = load_keys_fault({"keys": [wrong]})
    assert found.endswith(keys.left_out[0])


def load_keys_fault(keys: Any) -> str:
    with pytest.raises(ValueError, match=r"\w") as refused:
        load_keys(json.dumps(keys))
    return str(refused.value)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ([], "no list"),
        ({}, "no list"),
        ({"keys": {}}, "no list"),
        ({"keys": []}, "no key that verifies"),
        ({"keys": [jwk(P256, kid="1"), jwk(P384, kid="1")]}, "the same id"),
        *(({"keys": [jwk(P256, kid="1"), one]}, complaint) for one, complaint in EXPOSED),
    ],
)
def test_a_set_that_cannot_be_right_is_refused(keys, complaint):
    """As a whole."""
    assert complaint in load_keys_fault(keys)


@pytest.mark.parametrize("read", [load_key, load_keys])
@pytest.mark.parametrize(
    "data", ["<html>", "[" * 100, '{"keys": [], "keys": []}', b"\xff", '{"keys": []}' + " " * 65_536, "NaN"]
)
def test_only_short_strict_json_is_read(read, data):
    """At most 64 KiB."""
    with pytest.raises(ValueError, match=r"no JSON|nested|twice|no UTF-8|longer|NaN"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "x" * 65_537,
        WEAK.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        K1.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_pem_of_another_key_is_refused(data):
    """The same ones as in a JWK."""
    with pytest.raises(ValueError, match=r"\w"):
        load_pem(data)


def test_a_set_says_which_keys_it_left_out_without_control_characters():
    """Its text goes to the log."""
    keys = load_keys(json.dumps({"keys": [jwk(P256, kid="\x1b[31m\u202e", use="enc"), jwk(P256, kid="1")]}))
    assert isinstance(keys, KeySet)
    assert keys.left_out[0].isascii()
    assert keys.left_out[0].isprintable()
