"""Keys and policies of tests: services with keys of their own, in a folder."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from paigeant import App
from paigeant.wire import base64url

EVERYTHING: Mapping[str, Sequence[str]] = {
    right: ["*"] for right in ("dispatch", "run", "insert", "scopes", "order", "answer")
}
"""Rights of a service that may do everything."""


def signer(name: str) -> str:
    """The name that an answer has: with PAIGEANT_TEST_SIGNED=1 that of the key that signs."""
    return "everybody" if os.environ.get("PAIGEANT_TEST_SIGNED") else name


def sql(app: App, statement: str, *values: Any) -> int:
    """Write to the database of the store, as a stranger could; parameters are written as ``?``. The number of rows."""
    url = app.settings.store_url or app.settings.broker_url
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as rows, rows:
            return rows.execute(statement, values).rowcount
    with psycopg.connect(url) as rows:
        return rows.execute(statement.replace("?", "%s"), values).rowcount


class Deployment:
    """A folder with the keys of several services and one policy."""

    def __init__(self, folder: Path, audience: str = "tests") -> None:
        self.folder, self.audience = folder, audience
        self.rules: dict[str, Mapping[str, Sequence[str]]] = {}
        self.extra = ""
        (folder / "keys").mkdir(parents=True, exist_ok=True)

    @property
    def trust(self) -> str:
        """Path of the policy."""
        return str(self.folder / "trust.toml")

    def key(self, name: str) -> str:
        """Path of the private key of a service."""
        return str(self.folder / f"{name}.key")

    def add(self, name: str, rights: Mapping[str, Sequence[str]] = EVERYTHING, **about: Any) -> str:
        """Make a key for a service, and a rule with these rights; return the path of the private key."""
        private = Ed25519PrivateKey.generate()
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": f"{name}-1"}
        jwk["x"] = base64url.encode(private.public_key().public_bytes_raw())
        public = jwk | {"paigeant": {"name": name, **about}}
        (self.folder / "keys" / f"{name}-1.jwk").write_text(json.dumps(public))
        Path(self.key(name)).write_text(json.dumps(jwk | {"d": base64url.encode(private.private_bytes_raw())}))
        self.rules[name] = rights
        self.write()
        return self.key(name)

    def write(self) -> None:
        """Write the policy."""
        lines = [f'audience = "{self.audience}"', 'keys = "keys"']
        for name, rights in self.rules.items():
            lines += [
                "[[key]]",
                f'name = "{name}"',
                *(f"{right} = {json.dumps(list(rights[right]))}" for right in rights),
            ]
        Path(self.trust).write_text("\n".join([*lines, self.extra]))

    def settings(self, name: str, signing: str = "required") -> dict[str, str]:
        """Return the environment of a process of this service."""
        return {"PAIGEANT_SIGNING": signing, "PAIGEANT_SIGNING_KEY": self.key(name), "PAIGEANT_TRUST": self.trust}
