"""The canonical form of JSON values, and digests over it: equal values have equal bytes, whoever wrote them.

The form is the JSON Canonicalization Scheme (RFC 8785), with two differences. Integers of any size are written in full,
because Python and other languages with large integers carry them exactly. Numbers that are not finite are written as
the texts that stand for them in a message.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from json.encoder import JSONEncoder
from math import isfinite, isnan
from typing import Any

_FAST = JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False).encode
_text = JSONEncoder(ensure_ascii=False).encode

_PLAIN = (str, bool, int, type(None))

_DIGITS_FROM, _DIGITS_TO = 1e-6, 1e21
"""Bounds between which ECMAScript writes a number without an exponent (ECMA-262, Number::toString)."""


def canonical(value: Any) -> bytes:
    """Return the canonical UTF-8 JSON of a value of JSON types.

    Raises:
        ValueError: a text has a lone surrogate.
        TypeError: a part is not of a JSON type.
    """
    return (_FAST(value) if _is_plain(value) else _written(value)).encode()


def digest(data: bytes) -> str:
    """Return the SHA-256 of these bytes, as base64url without padding: 43 characters."""
    return urlsafe_b64encode(sha256(data).digest())[:-1].decode()


def digest_of(value: Any) -> str:
    """Return the digest of the canonical form of a value of JSON types; see :func:`canonical`."""
    return digest(canonical(value))


def _is_plain(value: Any) -> bool:
    """Whether Python's encoder writes the value as RFC 8785 wants it.

    It writes numbers with a fraction in another way, and sorts names by code points instead of UTF-16 code units.
    """
    if type(value) in _PLAIN:
        return True
    if isinstance(value, dict):
        return all(type(name) is str and name.isascii() and _is_plain(one) for name, one in value.items())
    return isinstance(value, list) and all(map(_is_plain, value))


def _written(value: Any) -> str:
    match value:
        case dict():
            members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
            return "{" + ",".join(f"{_text(_name(name))}:{_written(one)}" for name, one in members) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_written, value)) + "]"
        case float():
            return _number(value)
        case str() | bool() | int() | None:
            return _text(value)
        case _:
            raise TypeError(f"a value of {type(value).__name__} has no canonical JSON")


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a member is named by a text, not by a value of {type(name).__name__}")
    return name


def _number(value: float) -> str:
    """Return a number as ECMAScript writes it: the shortest digits that read back as the same double."""
    if not isfinite(value):
        return _text("NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity")
    if value == 0:
        return "0"
    sign, digits, exponent = _parts(value)
    if _DIGITS_FROM <= abs(value) < _DIGITS_TO:
        point = len(digits) + exponent
        if exponent >= 0:
            return sign + digits + "0" * exponent
        if point > 0:
            return f"{sign}{digits[:point]}.{digits[point:]}"
        return f"{sign}0.{'0' * -point}{digits}"
    power = len(digits) + exponent - 1
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{sign}{mantissa}e{'+' if power > 0 else '-'}{abs(power)}"


def _parts(value: float) -> tuple[str, str, int]:
    """Return sign, significant digits and decimal exponent: the value is ``digits`` times ten to the ``exponent``."""
    text, _, power = repr(value).partition("e")
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = text.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits, exponent = whole + fraction, int(power or 0) - len(fraction)
    stripped = digits.rstrip("0")
    return sign, stripped.lstrip("0"), exponent + len(digits) - len(stripped)
