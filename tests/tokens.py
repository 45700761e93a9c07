"""An issuer of tokens for tests, with keys of its own."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER, AUDIENCE = "https://login.example", "paigeant"


class Issuer:
    """Signs tokens with ES256. ``settings`` are those with which they are checked."""

    def __init__(self, kid: str = "1") -> None:
        self.kid = kid
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def settings(self) -> dict[str, Any]:
        return {"obo_issuer": ISSUER, "obo_audience": AUDIENCE, "obo_public_key": self.pem}

    def token(self, **claims: Any) -> str:
        """A token that is valid for a minute; None leaves a claim out."""
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 60} | claims
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, self.key, algorithm="ES256", headers={"kid": self.kid})

    @property
    def keys(self) -> dict[str, Any]:
        """What it publishes."""
        own = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [own | {"kid": self.kid, "use": "sig", "alg": "ES256"}]}
