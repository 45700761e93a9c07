"""Makes, rotates and revokes keys: a private key in a file of its own, and public keys in a folder that all share."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from paigeant.errors import ConfigurationError
from paigeant.runtime import private
from paigeant.security import policy as policies
from paigeant.security.jws import KID
from paigeant.security.keyring import MEMBER, SUFFIX, Files, KnownKey, State, is_url
from paigeant.wire import base64url

_PRIVATE, _NEXT = ".key", ".next.key"
_OWN, _ALL = private.FILE, 0o644
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Made:
    """A key that was made: its id, the file of the private key, and the file of the public one if there is one."""

    kid: str
    private: Path
    public: Path | None = None


@dataclass(frozen=True, slots=True)
class Promoted:
    """A next key that became the current one; the keys ``retired`` are accepted ``until`` then (epoch seconds)."""

    kid: str
    private: Path
    retired: tuple[str, ...]
    until: float


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The files of a deployment: ``folder`` has the private keys, and ``keys`` the public ones."""

    folder: Path
    keys: Path

    @classmethod
    def of(cls, trust: Path) -> KeyFiles:
        """Return the files that belong to a policy, whether it exists or not.

        Raises:
            ConfigurationError: the policy is wrong, or its keys are not in a folder.
        """
        where = policies.load(trust)[1] if trust.exists() else "keys"
        keys = trust.parent / Path(where).expanduser()
        if is_url(where) or keys.is_file():
            raise ConfigurationError(
                f"{trust} has its keys in {where}, and only a folder of keys can be changed here",
                hint="change the keys where their folder is, and publish them: paigeant keys jwks",
            )
        return cls(trust.parent, keys)

    def known(self) -> Sequence[KnownKey]:
        """Return the public keys by name, and by state within a name.

        Raises:
            KeysUnavailable: one of them is wrong.
        """
        order = [*State]
        found = Files(self.keys).read().values() if self.keys.is_dir() else ()
        return sorted(found, key=lambda one: (one.name, order.index(one.state), one.kid))

    def jwks(self) -> dict[str, Any]:
        """Return the JWK set of the public keys."""
        return {"keys": [self._read(one.kid)[1] for one in self.known()]}

    # --- making ----------------------------------------------------------------------------------------------------

    def create(self, name: str) -> Made:
        """Make the first key of a service or a person.

        Raises:
            ConfigurationError: it has one, or the name cannot be that of a file.
        """
        _check(name)
        if has := [one.kid for one in self.known() if one.name == name and one.state is not State.REVOKED]:
            raise ConfigurationError(
                f"{name!r} has a key already: {has[0]}", hint=f"to replace it: paigeant keys rotate {name}"
            )
        return self._make(name, State.CURRENT, self.folder / f"{name}{_PRIVATE}")

    def create_secret(self, name: str) -> Made:
        """Make the secret of a team.

        Raises:
            ConfigurationError: its file exists, or the name cannot be that of a file.
        """
        _check(name)
        secret = secrets.token_bytes(_SECRET_BYTES)
        kid = _kid(name, sha256(b"paigeant " + secret).digest())
        path = self.folder / f"{name}{_PRIVATE}"
        _create(path, {"kty": "oct", "alg": "HS256", "kid": kid, "k": base64url.encode(secret)}, _OWN)
        return Made(kid, path)

    def _make(self, name: str, state: State, file: Path) -> Made:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw()
        kid = _kid(name, public)
        jwk = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid, "x": base64url.encode(public)}
        _create(file, jwk | {"d": base64url.encode(key.private_bytes_raw())}, _OWN)
        self.keys.mkdir(parents=True, exist_ok=True)
        path = self.keys / f"{kid}{SUFFIX}"
        _create(path, jwk | {"use": "sig", MEMBER: {"name": name, "state": state.value}}, _ALL)
        return Made(kid, file, path)

    # --- changing --------------------------------------------------------------------------------------------------

    def rotate(self, name: str, overlap: float, now: float) -> Made | Promoted:
        """Make the next key, or, if there is one, make it the current one and retire the others.

        A retired key is accepted for ``overlap`` seconds more, so that processes that still have it can be restarted.
        Every part of this can be repeated: a rotation that was interrupted is finished by the next call.

        Raises:
            ConfigurationError: nobody has this name, or the private part of the next key is not here.
        """
        _check(name)
        own = [one for one in self.known() if one.name == name]
        if not own:
            raise ConfigurationError(f"{name!r} has no key in {self.keys}", hint=f"paigeant keys init {name}")
        mine = self.folder / f"{name}{_NEXT}"
        if not mine.exists():
            if waiting := [one.kid for one in own if one.state is State.NEXT]:
                raise ConfigurationError(
                    f"the private part of the next key {waiting[0]!r} is not in {mine}",
                    hint=f"copy it there, or give the key up: paigeant keys revoke {waiting[0]}",
                )
            return self._make(name, State.NEXT, mine)
        return self._promote(name, mine, own, now + overlap)

    def _promote(self, name: str, file: Path, own: Sequence[KnownKey], until: float) -> Promoted:
        kid = str(json.loads(file.read_text()).get("kid"))
        if kid not in {one.kid for one in own}:
            raise ConfigurationError(
                f"the key of {file} is not among the public keys in {self.keys}",
                hint=f"delete {file}, and begin again: paigeant keys rotate {name}",
            )
        retired = [one.kid for one in own if one.state is State.CURRENT and one.kid != kid]
        self._set(kid, State.CURRENT)
        for one in retired:
            self._set(one, State.RETIRED, until)
        file.replace(self.folder / f"{name}{_PRIVATE}")
        return Promoted(kid, self.folder / f"{name}{_PRIVATE}", tuple(retired), until)

    def revoke(self, kid: str) -> KnownKey:
        """Trust nothing any more that this key has signed, and return the key.

        Raises:
            ConfigurationError: there is no such key.
        """
        key = next((one for one in self.known() if one.kid == kid), None)
        if key is None:
            known = ", ".join(one.kid for one in self.known())
            raise ConfigurationError(f"there is no key {kid!r} in {self.keys}", hint=f"it has: {known or 'no keys'}")
        self._set(kid, State.REVOKED)
        return key

    def _set(self, kid: str, state: State, until: float | None = None) -> None:
        path, jwk = self._read(kid)
        about = jwk.get(MEMBER, {}) | {"state": state.value}
        about.pop("until", None)
        _write(path, _text(jwk | {MEMBER: about if until is None else about | {"until": int(until)}}), _ALL)

    def _read(self, kid: str) -> tuple[Path, dict[str, Any]]:
        """Return file and JWK of a key; the file may have another name than the key."""
        for path in sorted(self.keys.glob(f"*{SUFFIX}")):
            jwk = json.loads(path.read_bytes())
            if jwk["kid"] == kid:
                return path, jwk
        raise ConfigurationError(f"there is no key {kid!r} in {self.keys}")


def _check(name: str) -> None:
    if not KID.fullmatch(name) or len(name) > 64 or name.endswith((".next", ".")):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a key", hint="use letters, digits, dots and dashes, at most 64"
        )


def _kid(name: str, public: bytes) -> str:
    return f"{name}-{sha256(public).hexdigest()[:8]}"


def _text(jwk: Mapping[str, Any]) -> str:
    return json.dumps(jwk, indent=2) + "\n"


def _create(path: Path, jwk: Mapping[str, Any], mode: int) -> None:
    """Write a new file: all of it, or nothing; never over another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = _beside(path, _text(jwk), mode)
    try:
        os.link(written, path)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists, and is not overwritten", hint="move it away first") from None
    finally:
        written.unlink()


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file: a reader sees the old one or the new one."""
    _beside(path, text, mode).replace(path)


def write_policy(path: Path, text: str) -> None:
    """Write a policy, or replace it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, text, _ALL)


def _beside(path: Path, text: str, mode: int) -> Path:
    """Write a file with a name of its own beside this one, and return it."""
    other = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with private.create(other) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode != private.FILE:
            other.chmod(mode)
    except OSError as error:
        with suppress(OSError):
            other.unlink()
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    return other
