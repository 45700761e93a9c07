"""The public keys that a deployment knows, by their ids, and what state each is in."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import structlog

from paigeant.errors import ConfigurationError, KeysUnavailable
from paigeant.security.jwk import UnusableKey, key_of
from paigeant.security.jws import KID, BadSignature, VerifyKey
from paigeant.wire import strict_json

log = structlog.stdlib.get_logger("paigeant.security")

MEMBER = "paigeant"
"""The member of a JWK that says whose key it is and in which state."""

SUFFIX = ".jwk"
_LARGEST = 65_536
_MOST_FILES = 1_000

LOOKS_AFTER = 30.0
"""Seconds between two reads of the keys because of an unknown key: for all messages together."""

VALID_FOR = 3600.0
"""Seconds for which keys are used that can no longer be read: beyond that, a revoked key could be among them."""

READ_AGAIN_AFTER = 10.0
"""Seconds after which the keys are read again, so that a revoked key is noticed."""


class State(StrEnum):
    """What a key is used for."""

    NEXT = "next"
    """It is accepted, and signs soon."""
    CURRENT = "current"
    """It signs."""
    RETIRED = "retired"
    """What it signed until then is accepted."""
    REVOKED = "revoked"
    """Nothing that it signed is trusted."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key, whose it is, and its state.

    ``until`` (epoch seconds) is the time at which a retired key ends; it may lie ahead.
    """

    kid: str
    name: str
    verifies: VerifyKey
    state: State = State.CURRENT
    until: float | None = None

    def check(self, signed_at: float) -> None:
        """Check that the key may have signed at this time (epoch seconds).

        Raises:
            BadSignature: it was revoked, or retired before that.
        """
        if self.state is State.REVOKED:
            raise BadSignature("revoked", f"key {self.kid!r} of {self.name!r} was revoked")
        if self.state is State.RETIRED and signed_at > (self.until or 0.0):
            raise BadSignature("retired", f"key {self.kid!r} of {self.name!r} was retired before this was signed")

    def refuses_signing(self, now: float) -> str | None:
        """Return why the key may not sign now (epoch seconds), or None if it may."""
        if self.state is State.REVOKED:
            return "is revoked"
        if self.state is State.RETIRED and now > (self.until or 0.0):
            return "is retired"
        return None


class Source(Protocol):
    """Where public keys come from. ``read`` may block."""

    def read(self) -> Mapping[str, KnownKey]:
        """Return the keys by their ids.

        Raises:
            KeysUnavailable: they cannot be read now.
        """


def known_key(jwk: Any) -> KnownKey:
    """Return the key of a parsed JWK. Without the member ``paigeant`` its name is its id.

    Raises:
        UnusableKey: it is malformed, or not for signatures.
    """
    key = key_of(jwk)
    if key.kid is None or not KID.fullmatch(key.kid):
        raise UnusableKey("its kid is missing, or has characters that no kid has")
    about = jwk.get(MEMBER, {})
    if not isinstance(about, dict):
        raise UnusableKey(f"its member {MEMBER!r} is no object")
    name, state, until = about.get("name", key.kid), about.get("state", State.CURRENT), about.get("until")
    if not isinstance(name, str) or state not in {one.value for one in State}:
        raise UnusableKey(f"its name or its state is wrong; the states are {', '.join(State)}")
    if until is not None and not isinstance(until, int | float):
        raise UnusableKey('"until" is no number of seconds')
    return KnownKey(key.kid, name, key.public, State(state), until)


@dataclass(frozen=True, slots=True)
class Files:
    """Public keys in a folder of JWK files, or in one file with a JWK set."""

    path: Path

    def read(self) -> Mapping[str, KnownKey]:
        found = dict[str, KnownKey]()
        for where, jwk in self._entries():
            try:
                key = known_key(jwk)
            except ValueError as error:
                raise KeysUnavailable(f"{where} is no public key: {error}") from None
            if found.setdefault(key.kid, key) is not key:
                raise KeysUnavailable(f"{where}: another key has the same id {key.kid!r}")
        return found

    def _entries(self) -> list[tuple[str, Any]]:
        try:
            if not self.path.is_dir():
                data = self._parsed(self.path)
                keys = data.get("keys") if isinstance(data, dict) and "keys" in data else [data]
                return [(str(self.path), one) for one in keys] if isinstance(keys, list) else []
            files = sorted(self.path.glob(f"*{SUFFIX}"))[:_MOST_FILES]
            return [(str(file), self._parsed(file)) for file in files]
        except OSError as error:
            raise KeysUnavailable(f"the keys in {self.path} cannot be read: {error.strerror}") from error

    def _parsed(self, file: Path) -> Any:
        try:
            return strict_json.loads(file.read_bytes()[: _LARGEST + 1], limit=_LARGEST, deepest=8)
        except ValueError as error:
            raise KeysUnavailable(f"{file} is no JWK: {error}") from None


@dataclass(frozen=True, slots=True)
class Given:
    """Keys that are given once: those of tests, or the shared secret of a team."""

    keys: Mapping[str, KnownKey]

    def read(self) -> Mapping[str, KnownKey]:
        return self.keys


class UnknownKey(KeysUnavailable):
    """No key has this id, as far as is known here."""


class Keyring:
    """The keys of one source, read again from time to time. It may be used by several threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._keys: Mapping[str, KnownKey] = {}
        self._read_at = self._looked_at = self._found_at = float("-inf")
        self._fault = ""
        self.edition = 0
        """Counts the changes of the keys: what was remembered under an earlier one is forgotten."""

    def find(self, kid: str) -> KnownKey:
        """Return the key with this id.

        Raises:
            UnknownKey: nobody has it; :meth:`refresh` may help.
        """
        if (key := self._keys.get(kid)) is None:
            raise UnknownKey(f"key {kid!r} is not known here", hint="publish its JWK where the trust policy finds keys")
        return key

    @property
    def is_old(self) -> bool:
        """Whether the keys were read so long ago that they should be read again."""
        return time.monotonic() > self._read_at + READ_AGAIN_AFTER

    @property
    def may_look(self) -> bool:
        """Whether the keys may be read again because one of them is not known."""
        return time.monotonic() > self._looked_at + LOOKS_AFTER

    def refresh(self) -> None:
        """Read the keys again. May block.

        Raises:
            KeysUnavailable: they cannot be read now, and none were read in the last :data:`VALID_FOR` seconds.
        """
        with self._lock:
            self._looked_at = time.monotonic()
            try:
                keys = self._source.read()
            except KeysUnavailable as error:
                self._failed(str(error))
                if not self._keys:
                    raise
            else:
                self._take(keys)
                self._fault, self._found_at = "", time.monotonic()
            self._read_at = time.monotonic()

    def _failed(self, fault: str) -> None:
        """Say once why the keys cannot be read, and forget keys that are too old."""
        if self._keys and fault != self._fault:
            log.warning("the public keys cannot be read; those read before are used", reason=fault, seconds=VALID_FOR)
        self._fault = fault
        if time.monotonic() > self._found_at + VALID_FOR:
            self._take({})

    def _take(self, keys: Mapping[str, KnownKey]) -> None:
        self.edition += keys != self._keys
        self._keys = keys

    def all(self) -> Mapping[str, KnownKey]:
        """Return the keys as they were last read, by their ids."""
        return self._keys


def is_url(where: str) -> bool:
    """Whether a policy names its keys by a URL rather than by a path."""
    return "://" in where


def source_of(where: str, folder: Path) -> Source:
    """Return the source that a trust policy names: a URL, a folder or a file; a path is relative to ``folder``.

    Raises:
        ConfigurationError: there is nothing at that place, or the URL is no https URL.
    """
    if is_url(where):
        from paigeant.security.remote_keys import Remote

        return Remote.at(where)
    path = folder / Path(where).expanduser()
    if not path.exists():
        raise ConfigurationError(f"there are no keys at {path}", hint="paigeant keys init NAME makes them")
    return Files(path)
