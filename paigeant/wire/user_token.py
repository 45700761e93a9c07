"""Reads what the token of a user (a JWT) says, whether or not anybody has verified its signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paigeant.wire import base64url, strict_json

LIMIT = 16_384
"""Bytes of a token. A longer one is refused before anything of it is parsed."""

DEEPEST = 32
"""How many arrays and objects of a token may be inside each other."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The header and the claims of a token. Neither is verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def parts(token: str) -> Parts:
    """Split a token into its parts.

    Raises:
        ValueError: it is too long or no JWT, has a member twice or is nested too deeply. The text says what is wrong
            and contains nothing of the token but the name of a member.
    """
    if len(token) > LIMIT:
        raise ValueError(f"it is longer than {LIMIT:,} bytes")
    segments = token.split(".")
    if len(segments) != 3:
        raise ValueError("it is no JWT: it has not three parts")
    return Parts(_object(segments[0], "its header"), _object(segments[1], "its claims"))


def claims_of(token: str | None) -> Mapping[str, Any]:
    """Return the claims of a token that nobody has verified; none if the token cannot be read.

    Workers verify the token before they act on it, so these claims serve to refuse early and to show.
    """
    try:
        return {} if token is None else parts(token).claims
    except ValueError:
        return {}


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes of a token: the words of the claim ``scope``; without it, those of the text or list ``scp``.

    Raises:
        ValueError: the claim has another form.
    """
    if "scope" in claims:
        given = claims["scope"]
        if not isinstance(given, str):
            raise ValueError('its claim "scope" is no text')
        return frozenset(given.split())
    given = claims.get("scp", "")
    if isinstance(given, str):
        return frozenset(given.split())
    if not (isinstance(given, list) and all(isinstance(one, str) for one in given)):
        raise ValueError('its claim "scp" is neither a text nor a list of texts')
    return frozenset(given)


def claimed_scopes(token: str | None) -> frozenset[str]:
    """Return the scopes of a token that nobody has verified; none if they cannot be read."""
    try:
        return scopes_of(claims_of(token))
    except ValueError:
        return frozenset()


def listed(scopes: Iterable[str]) -> str:
    """Name scopes in a sentence."""
    names = sorted(scopes)
    if not names:
        return "no scope"
    return f"the scope{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _object(segment: str, what: str) -> Mapping[str, Any]:
    try:
        value = strict_json.loads(base64url.decode(segment), limit=LIMIT, deepest=DEEPEST)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what}: no JSON object")
    return value
