"""Tokens of users on whose behalf workflows run: what one says counts after it was checked, with what is configured.

Nothing that decides is taken from the token itself: issuer, audience, keys and algorithms come from the settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from paigeant.config import CHECKS_TOKENS, Settings
from paigeant.errors import ConfigurationError, KeysUnavailable, TokenRefused

_REQUIRED = ("iss", "aud", "exp", "sub")
_PATIENCE = 10.0
"""Seconds for which the issuer may take to give its keys."""
_KEYS_STAND_FOR = 300.0
"""Seconds until keys are asked for again; one that is not among them is asked for at once."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Reads tokens of one issuer for one audience. ``key_of`` finds the key of a token; it may block."""

    issuer: str
    audience: str
    key_of: Callable[[str], Any]
    algorithms: Sequence[str]
    leeway: float

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """As the settings say.

        Raises:
            ConfigurationError: they say half of it, or the key cannot be read.
        """
        issuer, audience = settings.obo_issuer, settings.obo_audience
        url, pem = settings.obo_jwks_url, settings.obo_public_key
        if not (issuer and audience) or bool(url) == bool(pem):
            raise ConfigurationError(
                "the settings do not say how tokens of users are checked", hint=f"set {CHECKS_TOKENS}"
            )
        key_of = _fetched(url) if url else _given(pem or "")
        return cls(issuer, audience, key_of, settings.obo_algorithms, settings.obo_leeway)

    async def claims(self, token: str, *, expires: bool = True) -> Mapping[str, Any]:
        """What the token says.

        Raises:
            TokenRefused: it is not what is asked for, or, where it ``expires``, has expired.
            KeysUnavailable: the issuer's keys cannot be fetched now.
        """
        return await asyncio.to_thread(self._claims, token, expires)

    def _claims(self, token: str, expires: bool) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.key_of(token),
                algorithms=self.algorithms,
                audience=self.audience,
                issuer=self.issuer,
                leeway=self.leeway,
                options={"require": list(_REQUIRED), "verify_exp": expires},
            )
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError) as error:
            raise KeysUnavailable(f"the keys of {self.issuer!r} cannot be fetched: {error}") from error
        except jwt.PyJWTError as error:
            raise TokenRefused(f"the token of the user on whose behalf the workflow runs is refused: {error}") from None
        return claims


def _fetched(url: str) -> Callable[[str], Any]:
    where = urlsplit(url)
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in ("127.0.0.1", "::1", "localhost")):
        raise ConfigurationError(f"keys are not fetched from {url!r}: it is no https URL")
    client = jwt.PyJWKClient(url, lifespan=_KEYS_STAND_FOR, timeout=_PATIENCE)
    client.cooldown_duration = (
        0.0  # a key that is unknown is asked for at once: what it signed would be refused for good
    )
    return client.get_signing_key_from_jwt


def _given(pem: str) -> Callable[[str], Any]:
    try:
        text = pem if "-----BEGIN" in pem else Path(pem).read_text()
        key = load_pem_public_key(text.encode())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the setting obo_public_key is neither a public key in PEM nor a file with one: {type(error).__name__}"
        ) from error
    return lambda token: key
