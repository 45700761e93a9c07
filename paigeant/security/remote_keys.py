"""Public keys that sign messages, published as a JWK set under an https URL."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from paigeant.errors import KeysUnavailable
from paigeant.runtime.clock import boot_time
from paigeant.runtime.urls import masked
from paigeant.security.fetching import fetched, refuse_insecure
from paigeant.security.jwk import ExposedKey, UnusableKey, entries_of
from paigeant.security.keyring import KnownKey, known_key
from paigeant.wire.values import printable

log = structlog.stdlib.get_logger("paigeant.security")

FRESH_FOR = 30.0
"""Seconds between two requests: a key that was revoked may be trusted for so long."""

_LONGEST_FAULT = 300
"""Characters of a fault in texts for people."""


@dataclass(slots=True)
class Remote:
    """Public keys under a URL, asked for at most once in :data:`FRESH_FOR` seconds."""

    url: str
    fetch: Callable[[str], bytes] = fetched
    now: Callable[[], float] = boot_time
    _asked_at: float = -math.inf
    _answer: Mapping[str, KnownKey] = field(default_factory=dict)
    _fault: str | None = None
    _left_out: tuple[str, ...] = ()

    @classmethod
    def at(cls, url: str) -> Remote:
        """Return the keys at this URL, without a request yet.

        Raises:
            ConfigurationError: somebody on the way can change the answers: the URL is no https URL.
        """
        refuse_insecure(url)
        return cls(url)

    def read(self) -> Mapping[str, KnownKey]:
        """Return the keys by their ids. May block for some seconds.

        Raises:
            KeysUnavailable: the server cannot be reached, or its answer is no JWK set of public keys.
        """
        if self.now() - self._asked_at >= FRESH_FOR:
            self._asked_at = self.now()
            try:
                self._answer, self._fault = self._read(self.fetch(self.url)), None
            except (OSError, ValueError) as error:
                self._fault = printable(str(error))[:_LONGEST_FAULT] or type(error).__name__
        if self._fault is not None:
            raise KeysUnavailable(f"the keys at {masked(self.url)} cannot be fetched: {self._fault}")
        return self._answer

    def _read(self, data: bytes) -> Mapping[str, KnownKey]:
        """Return the keys of a JWK set. Those that sign no messages are left out: one makes no other bad.

        Raises:
            ValueError: it is no JWK set, it publishes a key that must be secret, or two keys have one id.
        """
        found, left_out = dict[str, KnownKey](), list[str]()
        for number, jwk in enumerate(entries_of(data), start=1):
            try:
                key = known_key(jwk)
            except ExposedKey as error:
                raise ValueError(f"key no. {number}: {error}") from None
            except UnusableKey as error:
                left_out.append(f"key no. {number}: {error}")
                continue
            if found.setdefault(key.kid, key) is not key:
                raise ValueError(f"two keys have the id {key.kid!r}")
        if left_out and tuple(left_out) != self._left_out:
            log.warning("keys that sign no messages are left out", url=masked(self.url), reasons=left_out)
        self._left_out = tuple(left_out)
        return found
