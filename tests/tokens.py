"""An issuer of tokens for tests, with keys of its own."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from paigeant.wire import base64url

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

    def claims(self, **claims: Any) -> dict[str, Any]:
        """What a token says that is valid for a minute; None leaves a claim out."""
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 60} | claims
        return {name: value for name, value in said.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, /, **claims: Any) -> str:
        """A token with these claims, and these members in its header."""
        headers = {"kid": self.kid} | (header or {})
        return jwt.encode(self.claims(**claims), self.key, algorithm="ES256", headers=headers)

    def signed(self, header: str, claims: str) -> str:
        """A token with exactly these texts as its header and claims."""
        text = f"{base64url.encode(header.encode())}.{base64url.encode(claims.encode())}"
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{base64url.encode(r.to_bytes(32) + s.to_bytes(32))}"

    @property
    def keys(self) -> dict[str, Any]:
        """What it publishes."""
        own = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [own | {"kid": self.kid, "use": "sig", "alg": "ES256"}]}
