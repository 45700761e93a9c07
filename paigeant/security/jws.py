"""Signs statements and checks their signatures: compact JWS (RFC 7515) with what RFC 8725 advises.

The header has three members, ``alg``, ``kid`` and ``typ``, and no other. The kind of the statement is its type, and
each reader accepts one kind. The algorithm is the key's: a header that names another one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from paigeant.security.jwk import PublicKey
from paigeant.wire import base64url, strict_json
from paigeant.wire.canonical import canonical
from paigeant.wire.proof import Kind

KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
"""What the id of a key looks like. It is never used as a path."""

LARGEST = 65_536
"""Maximum characters of a signed statement."""

_LARGEST_HEADER = 512
_MEMBERS = {"alg", "kid", "typ"}
_P256_BYTES = 32
_NAMES = {"EdDSA": "EdDSA", "Ed25519": "EdDSA", "ES256": "ES256", "HS256": "HS256"}
"""The algorithms in use, by the names under which they are read."""


class BadSignature(ValueError):
    """A text is no signed statement of this kind, or its signature is wrong. ``code`` is for programs."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Signer(Protocol):
    """Signs with one key: a key in memory, or a key in a KMS or HSM. ``sign`` may block."""

    @property
    def kid(self) -> str:
        """The id of the key, under which the others have its public part."""

    @property
    def alg(self) -> str:
        """The algorithm: EdDSA or ES256, for a shared secret HS256."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature over these bytes, in the form that JWS prescribes for the algorithm."""


PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Signs with a private key in memory."""

    kid: str
    key: PrivateKey = field(repr=False)

    @property
    def alg(self) -> str:
        return "EdDSA" if isinstance(self.key, Ed25519PrivateKey) else "ES256"

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(data)
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(_P256_BYTES) + s.to_bytes(_P256_BYTES)


@dataclass(frozen=True, slots=True)
class SharedSigner:
    """Signs with a secret that all members of one team have. It cannot tell them apart."""

    kid: str
    secret: bytes = field(repr=False)
    alg: str = "HS256"

    def sign(self, data: bytes) -> bytes:
        return _mac(self.secret, data)


def _mac(secret: bytes, data: bytes) -> bytes:
    mac = HMAC(secret, SHA256())
    mac.update(data)
    return mac.finalize()


VerifyKey = PublicKey | bytes
"""What checks a signature: a public key, or the secret of a team."""


def sign(kind: Kind, claims: object, signer: Signer) -> str:
    """Return the claims, an object of JSON types, as a signed statement of this kind.

    Raises:
        ValueError: the statement is too large.
    """
    signed = f"{_header(kind, signer.alg, signer.kid)}.{base64url.encode(canonical(claims))}"
    token = f"{signed}.{base64url.encode(signer.sign(signed.encode()))}"
    if len(token) > LARGEST:
        raise ValueError(f"the signed {kind} has {len(token):,} characters, and {LARGEST:,} is the limit")
    return token


@lru_cache(256)
def _header(kind: Kind, alg: str, kid: str) -> str:
    return base64url.encode(canonical({"alg": alg, "kid": kid, "typ": type_of(kind)}))


def type_of(kind: Kind) -> str:
    """Return the ``typ`` of this kind of statement."""
    return f"paigeant-{kind.value}+jwt"


@lru_cache(1024)
def _read_header(text: str) -> tuple[str, str, str]:
    """Return algorithm, key id and type of a header.

    Raises:
        BadSignature: it is no header of ours.
    """
    try:
        header = strict_json.loads(base64url.decode(text), limit=_LARGEST_HEADER, deepest=2)
    except ValueError as error:
        raise BadSignature("header", f"the header of a signature is wrong: {error}") from None
    if not isinstance(header, dict) or header.keys() != _MEMBERS:
        raise BadSignature("header", "the header of a signature has other members than alg, kid and typ")
    alg, kid, typ = header["alg"], header["kid"], header["typ"]
    if not (isinstance(alg, str) and isinstance(typ, str) and isinstance(kid, str) and KID.fullmatch(kid)):
        raise BadSignature("header", "the header of a signature has a wrong alg, kid or typ")
    if alg not in _NAMES:
        raise BadSignature("algorithm", f"the algorithm {alg[:20]!r} is not one of {', '.join(_NAMES)}")
    return _NAMES[alg], kid, typ


def kid_of(token: str) -> str:
    """Return the id of the key that claims to have signed, unchecked.

    Raises:
        BadSignature: it is no signed statement.
    """
    return _read_header(_parts(token)[0])[1]


def is_of(token: str, kind: Kind) -> bool:
    """Whether a text claims to be a signed statement of this kind, unchecked.

    Raises:
        BadSignature: it is no signed statement.
    """
    return _read_header(_parts(token)[0])[2] == type_of(kind)


def verify(token: str, kind: Kind, key_of: Callable[[str], VerifyKey]) -> bytes:
    """Return the claims of a signed statement of this kind, as bytes of JSON. ``key_of`` finds the key by its id.

    Raises:
        BadSignature: it is not signed, not of this kind, or by another key.
    """
    header, payload, signature = _parts(token)
    alg, kid, typ = _read_header(header)
    if typ != type_of(kind):
        raise BadSignature("type", f"a {typ[:40]!r} stands where a {type_of(kind)!r} belongs")
    try:
        raw, claims = base64url.decode(signature), base64url.decode(payload)
    except ValueError as error:
        raise BadSignature("encoding", f"a signed {kind} is no base64url: {error}") from None
    if not _is_right(key_of(kid), alg, token[: len(header) + 1 + len(payload)].encode(), raw):
        raise BadSignature("signature", f"the signature of a {kind} by key {kid!r} is wrong")
    return claims


def _parts(token: str) -> tuple[str, str, str]:
    if len(token) > LARGEST:
        raise BadSignature("too-large", f"a signed statement has {len(token):,} characters, the limit is {LARGEST:,}")
    parts = token.split(".")
    if len(parts) != len(_MEMBERS):
        raise BadSignature("encoding", "a signed statement does not consist of header, claims and signature")
    return parts[0], parts[1], parts[2]


def _is_right(key: VerifyKey, alg: str, data: bytes, signature: bytes) -> bool:
    try:
        match key:
            case Ed25519PublicKey() if alg == "EdDSA":
                key.verify(signature, data)
            case ec.EllipticCurvePublicKey() if alg == "ES256" and len(signature) == 2 * _P256_BYTES:
                r, s = signature[:_P256_BYTES], signature[_P256_BYTES:]
                key.verify(encode_dss_signature(int.from_bytes(r), int.from_bytes(s)), data, ec.ECDSA(SHA256()))
            case bytes() if alg == "HS256":
                mac = HMAC(key, SHA256())
                mac.update(data)
                mac.verify(signature)
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def unchecked(token: str) -> tuple[Kind, str, dict[str, Any]]:
    """Return kind, key id and claims of a signed statement, without checking its signature: believe none of it.

    Raises:
        BadSignature: it is no signed statement.
    """
    header, payload, _ = _parts(token)
    _, kid, typ = _read_header(header)
    kind = next((one for one in Kind if type_of(one) == typ), None)
    if kind is None:
        raise BadSignature("type", f"{typ[:40]!r} is no kind of statement that is known here")
    try:
        claims = strict_json.loads(base64url.decode(payload), limit=LARGEST)
    except ValueError as error:
        raise BadSignature("claims", f"the claims of a {kind} are wrong: {error}") from None
    if not isinstance(claims, dict):
        raise BadSignature("claims", f"the claims of a {kind} are no object")
    return kind, kid, claims
