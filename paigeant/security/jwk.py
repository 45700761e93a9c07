"""Public keys that verify signatures, read from JWKs (RFC 7517) or PEM.

A key decides which algorithms fit it. The header of what it has signed only chooses among these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from paigeant.wire import base64url, strict_json
from paigeant.wire.values import printable

LIMIT = 65_536
"""Bytes of a JWK, of a JWK set and of a PEM text."""

LONGEST_KID = 256
"""Characters of the id of a key."""

_DEEPEST = 8
_RSA_BITS = range(2048, 8193)
"""A shorter modulus is unsafe; a longer one takes too long to verify."""
_RSA_EXPONENT_BITS = 32
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
"""Members that only a private or a secret key has."""

_EDDSA = ("EdDSA", "Ed25519")
"""Two names of one algorithm: RFC 9864 replaces the first by the second."""
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Mapping[str, tuple[ec.EllipticCurve, str]] = MappingProxyType(
    {"P-256": (ec.SECP256R1(), "ES256"), "P-384": (ec.SECP384R1(), "ES384"), "P-521": (ec.SECP521R1(), "ES512")}
)

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
"""A public key as the library cryptography has it."""


class UnusableKey(ValueError):
    """The key verifies no signature here: it is malformed, too weak, for another use, or of an unknown type."""


class ExposedKey(ValueError):
    """The key is a secret or a private one, and stands where everybody reads it."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, its id, and the names of all algorithms of signatures that it may verify."""

    public: PublicKey
    algorithms: frozenset[str]
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a JWK set by their ids. ``left_out`` says of every other key why it verifies nothing."""

    keys: Mapping[str, VerifyingKey]
    left_out: tuple[str, ...] = ()


def load_key(data: bytes | str) -> VerifyingKey:
    """Read one JWK.

    Raises:
        ValueError: it is no JWK of a public key that verifies signatures; the text says what is wrong.
    """
    return key_of(_json(data))


def load_keys(data: bytes | str) -> KeySet:
    """Read a JWK set. Keys that cannot verify signatures, and keys without an id, are left out: one makes no other bad.

    Raises:
        ValueError: it is no JWK set, it publishes a private or a secret key, two of its keys have one id, or it has no
            key that verifies signatures; the text says what is wrong.
    """
    keys: dict[str, VerifyingKey] = {}
    left_out: list[str] = []
    for place, entry in enumerate(entries_of(data), start=1):
        where = _where(entry, place)
        try:
            key = key_of(entry)
            if key.kid is None:
                raise UnusableKey('it has no id ("kid")')
        except UnusableKey as error:
            left_out.append(f"{where}: {error}")
        except ExposedKey as error:
            raise ValueError(f"{where}: {error}") from None
        else:
            if keys.setdefault(key.kid, key) is not key:
                raise ValueError(f'{where}: another key has the same id ("kid")')
    if not keys:
        raise ValueError("; ".join(["it has no key that verifies signatures", *left_out]))
    return KeySet(MappingProxyType(keys), tuple(left_out))


def entries_of(data: bytes | str) -> list[Any]:
    """Return the parsed entries of a JWK set, unchecked.

    Raises:
        ValueError: it is no JWK set; the text says what is wrong.
    """
    parsed = _json(data)
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError('it is no JWK set: it has no list "keys"')
    return entries


def key_of(jwk: Any) -> VerifyingKey:
    """Return the key of a JWK that is already parsed.

    Raises:
        UnusableKey: it is malformed, of a type that is not known here, or for another use.
        ExposedKey: it is secret or private.
    """
    if not isinstance(jwk, dict):
        raise UnusableKey("it is no JSON object")
    _refuse_exposed(jwk)
    _refuse_other_use(jwk)
    kid, kind = jwk.get("kid"), jwk.get("kty")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= LONGEST_KID):
        raise UnusableKey(f'its id ("kid") is no text of 1 to {LONGEST_KID} characters')
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise UnusableKey(f'its type ("kty") {_shown(kind)} is not known here')
    try:
        public = read(jwk)
    except UnsupportedAlgorithm:
        raise UnusableKey("this machine's OpenSSL does not know its algorithm") from None
    return _limited(of_public(public, kid), jwk.get("alg"))


def of_public(public: object, kid: str | None = None) -> VerifyingKey:
    """Return the key with the algorithms that fit a public key of the library cryptography.

    Raises:
        UnusableKey: it is of another type, or its size is not allowed.
    """
    match public:
        case Ed25519PublicKey():
            return VerifyingKey(public, frozenset(_EDDSA), kid)
        case ec.EllipticCurvePublicKey():
            fitting = [alg for curve, alg in _CURVES.values() if curve.name == public.curve.name]
            if not fitting:
                raise UnusableKey(f"its curve {public.curve.name!r} is not one of {', '.join(_CURVES)}")
            return VerifyingKey(public, frozenset(fitting), kid)
        case rsa.RSAPublicKey():
            if public.key_size not in _RSA_BITS:
                raise UnusableKey(f"it has {public.key_size} bits, RSA needs {_RSA_BITS[0]} to {_RSA_BITS[-1]}")
            if public.public_numbers().e.bit_length() > _RSA_EXPONENT_BITS:
                raise UnusableKey(f"its exponent has more than {_RSA_EXPONENT_BITS} bits")
            return VerifyingKey(public, frozenset(_RSA), kid)
        case _:
            raise UnusableKey(f"a {type(public).__name__} is none of Ed25519, {', '.join(_CURVES)} and RSA")


def load_pem(data: bytes | str, kid: str | None = None) -> VerifyingKey:
    """Read a public key in PEM.

    Raises:
        ValueError: it is no public key in PEM, or none that may verify signatures; the text says what is wrong.
    """
    if len(data) > LIMIT:
        raise ValueError(f"longer than {LIMIT:,} bytes")
    try:
        public = load_pem_public_key(data.encode() if isinstance(data, str) else data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"it is no public key in PEM: {type(error).__name__}") from None
    return of_public(public, kid)


def _json(data: bytes | str) -> Any:
    return strict_json.loads(data, limit=LIMIT, deepest=_DEEPEST)


def _refuse_exposed(jwk: Mapping[str, Any]) -> None:
    """Raise ExposedKey for a key that is not public."""
    if jwk.get("kty") == "oct":
        raise ExposedKey('it is a secret key, which nobody else may see: its type ("kty") is "oct"')
    if members := sorted(_PRIVATE & jwk.keys()):
        raise ExposedKey(f"it is a private key, which nobody else may see: it has the member {members[0]!r}")


def _refuse_other_use(jwk: Mapping[str, Any]) -> None:
    """Raise UnusableKey for a key that its owner publishes for another purpose than signatures."""
    use, operations = jwk.get("use"), jwk.get("key_ops")
    if use not in (None, "sig"):
        raise UnusableKey(f'its use ("use") is {_shown(use)}, not "sig"')
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise UnusableKey('its operations ("key_ops") do not include "verify"')


def _limited(key: VerifyingKey, alg: object) -> VerifyingKey:
    """Return the key for the algorithm that its JWK names. Both names of EdDSA mean the same."""
    if alg is None:
        return key
    if not isinstance(alg, str) or alg not in key.algorithms:
        raise UnusableKey(f'its algorithm ("alg") {_shown(alg)} is none of {", ".join(sorted(key.algorithms))}')
    return key if alg in _EDDSA else VerifyingKey(key.public, frozenset({alg}), key.kid)


def _okp(jwk: Mapping[str, Any]) -> PublicKey:
    if jwk.get("crv") != "Ed25519":
        raise UnusableKey(f'its curve ("crv") {_shown(jwk.get("crv"))} is not "Ed25519"')
    return Ed25519PublicKey.from_public_bytes(_bytes(jwk, "x", 32))


def _ec(jwk: Mapping[str, Any]) -> PublicKey:
    name = jwk.get("crv")
    if not isinstance(name, str) or name not in _CURVES:
        raise UnusableKey(f'its curve ("crv") {_shown(name)} is not one of {", ".join(_CURVES)}')
    curve = _CURVES[name][0]
    size = (curve.key_size + 7) // 8
    x, y = (int.from_bytes(_bytes(jwk, member, size)) for member in ("x", "y"))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise UnusableKey(f"its point is not on the curve {name}") from None


def _rsa(jwk: Mapping[str, Any]) -> PublicKey:
    n, e = (int.from_bytes(_bytes(jwk, member)) for member in ("n", "e"))
    if n.bit_length() not in _RSA_BITS:
        raise UnusableKey(f"it has {n.bit_length()} bits, RSA needs {_RSA_BITS[0]} to {_RSA_BITS[-1]}")
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise UnusableKey(f"it is no RSA key: {printable(str(error))}") from None


_READERS: Mapping[str, Callable[[Mapping[str, Any]], PublicKey]] = MappingProxyType(
    {"OKP": _okp, "EC": _ec, "RSA": _rsa}
)


def _bytes(jwk: Mapping[str, Any], member: str, size: int | None = None) -> bytes:
    text = jwk.get(member)
    if not isinstance(text, str):
        raise UnusableKey(f"it has no member {member!r} that is a text")
    try:
        data = base64url.decode(text)
    except ValueError as error:
        raise UnusableKey(f"its member {member!r} is {error}") from None
    if size is not None and len(data) != size:
        raise UnusableKey(f"its member {member!r} has {len(data)} bytes, not {size}")
    return data


def _where(entry: Any, place: int) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"key {_shown(kid)}" if isinstance(kid, str) else f"key no. {place}"


def _shown(value: Any) -> str:
    """A value of a stranger's JSON for people: short, and without control characters."""
    return printable(ascii(value)[:60])
