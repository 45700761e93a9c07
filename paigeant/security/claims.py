"""Tokens of users on whose behalf workflows run: their claims count after they were checked with the settings.

Nothing that decides is taken from the token itself: issuer, audience, keys and algorithms come from the settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from paigeant.config import CHECKS_TOKENS, Settings
from paigeant.errors import ConfigurationError, TokenRefused
from paigeant.security import jwk
from paigeant.security.issuer import FetchedKeys, GivenKey, Keys
from paigeant.security.jwk import VerifyingKey
from paigeant.wire import base64url, strict_json, user_token
from paigeant.wire.values import printable

_TYPES = frozenset({"jwt", "at+jwt"})
"""Types of tokens that name a user, in lower case; a token may also leave its type out."""

_MOST_ACTORS = 8
"""How many actors may have acted for each other: claims ``act`` inside each other."""

_LATEST = 1e12
"""Epoch seconds, far beyond which no time of a token is."""

_EDDSA = frozenset({"EdDSA", "Ed25519"})
"""Two names of one algorithm, both read wherever one of them is allowed."""

_JWS = jwt.PyJWS()
if "Ed25519" not in _JWS.get_algorithms():
    _JWS.register_algorithm("Ed25519", jwt.get_algorithm_by_name("EdDSA"))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Reads tokens of one issuer for one audience. Times are seconds.

    ``algorithms`` and ``types`` (in lower case) are those that a token may have. A token is valid for at most
    ``max_age``. A token whose key stays unknown for ``key_patience`` is refused.
    """

    issuer: str
    audience: str
    keys: Keys
    algorithms: frozenset[str]
    leeway: float
    types: frozenset[str] = _TYPES
    max_age: float = 2_592_000.0
    key_patience: float = 600.0
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """Return the reader of tokens that the settings describe.

        Raises:
            ConfigurationError: the settings are incomplete, or the key cannot be read.
        """
        issuer, audience = settings.obo_issuer, settings.obo_audience
        url, pem = settings.obo_jwks_url, settings.obo_public_key
        if not (issuer and audience) or bool(url) == bool(pem):
            raise ConfigurationError(
                "the settings do not say how tokens of users are checked", hint=f"set {CHECKS_TOKENS}"
            )
        return cls(
            issuer,
            audience,
            FetchedKeys(issuer, url) if url else GivenKey(_given(pem or "")),
            _both_names(settings.obo_algorithms),
            settings.obo_leeway,
            _TYPES | {_type(one) for one in settings.obo_types},
            settings.obo_max_age,
            settings.obo_key_patience,
        )

    async def claims(self, token: str, *, expires: bool = True) -> Mapping[str, Any]:
        """Return the claims of the token after every check.

        Raises:
            TokenRefused: the token is not one that the settings ask for, or, where it ``expires``, has expired.
            KeyUnknown: the issuer publishes no key with the id that the token names.
            KeysUnavailable: the issuer's keys cannot be fetched now.
        """
        try:
            header = user_token.parts(token).header
            self._check_header(header)
            claims = self._verified(token, header, await self.keys.of(header.get("kid")))
            self._check_claims(claims, expires)
        except ValueError as error:
            raise TokenRefused(
                f"the token of the user on whose behalf the workflow runs is refused: {printable(str(error))}"
            ) from None
        return claims

    def _check_header(self, header: Mapping[str, Any]) -> None:
        alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
        if not isinstance(alg, str) or alg not in self.algorithms:
            raise ValueError(f'its algorithm ("alg") {_shown(alg)} is not one of {", ".join(sorted(self.algorithms))}')
        if kid is not None and not isinstance(kid, str):
            raise ValueError('the id of its key ("kid") is no text')
        if kind is not None and (not isinstance(kind, str) or _type(kind) not in self.types):
            raise ValueError(f'its type ("typ") {_shown(kind)} is not one of {", ".join(sorted(self.types))}')
        for member in ("crit", "b64"):
            if member in header:
                raise ValueError(f"its header has the member {member!r}")

    def _verified(self, token: str, header: Mapping[str, Any], key: VerifyingKey) -> Mapping[str, Any]:
        """Return the claims, if this key signed them with an algorithm that is the key's own."""
        alg = header["alg"]
        if alg not in key.algorithms:
            raise ValueError(f'its algorithm ("alg") {_shown(alg)} is not that of its key')
        base64url.decode(token.rpartition(".")[2])  # PyJWT reads several forms of one signature
        try:
            payload = _JWS.decode_complete(token, key.public, algorithms=[alg])["payload"]
        except jwt.PyJWTError as error:
            raise ValueError(str(error)) from None
        claims = strict_json.loads(payload, limit=user_token.LIMIT, deepest=user_token.DEEPEST)
        assert isinstance(claims, dict), "the unverified claims were an object"
        return claims

    def _check_claims(self, claims: Mapping[str, Any], expires: bool) -> None:
        if claims.get("iss") != self.issuer:
            raise ValueError('its issuer ("iss") is another one')
        if claims.get("aud") != self.audience:
            is_list = isinstance(claims.get("aud"), list)
            raise ValueError(
                'its audience ("aud") is a list' if is_list else 'its audience ("aud") is another one or none'
            )
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise ValueError('its subject ("sub") is no text, or empty')
        self._check_times(claims, expires)
        _check_actors(claims)
        user_token.scopes_of(claims)

    def _check_times(self, claims: Mapping[str, Any], expires: bool) -> None:
        now = self.now()
        end, begin, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
        if end is None:
            raise ValueError('it has no end ("exp")')
        if expires and end <= now - self.leeway:
            raise ValueError('it has expired ("exp")')
        if begin is not None and begin > now + self.leeway:
            raise ValueError('it is not yet valid ("nbf")')
        if issued is not None and issued > now + self.leeway:
            raise ValueError('it was issued in the future ("iat")')
        if end - min(now if issued is None else issued, now) > self.max_age + self.leeway:
            raise ValueError(f'it is valid for longer than {self.max_age:g} s ("exp")')


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a time in epoch seconds; None if the claims do not have it."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise ValueError(f"its time {name!r} is no number of seconds")
    return float(value)


def _check_actors(claims: Mapping[str, Any]) -> None:
    actor: Any = claims.get("act")
    for _ in range(_MOST_ACTORS):
        if not isinstance(actor, dict):
            return
        actor = actor.get("act")
    if actor is not None:
        raise ValueError(f'more than {_MOST_ACTORS} actors acted for each other ("act")')


def _both_names(algorithms: Collection[str]) -> frozenset[str]:
    named = frozenset(algorithms)
    return named | _EDDSA if named & _EDDSA else named


def _type(name: str) -> str:
    """Return a type as it is compared: RFC 7515 lets its prefix be left out."""
    return name.lower().removeprefix("application/")


def _shown(value: Any) -> str:
    return ascii(value)[:40]


def _given(pem: str) -> VerifyingKey:
    try:
        return jwk.load_pem(pem if "-----BEGIN" in pem else Path(pem).read_bytes())
    except (OSError, ValueError) as error:
        reason = type(error).__name__ if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"the setting obo_public_key is neither a public key in PEM nor a file with one: {reason}"
        ) from error
