"""Sets up signing for an App: its key, the public keys it knows, and the policy, as the settings name them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from paigeant.config import Settings
from paigeant.errors import ConfigurationError, KeysUnavailable
from paigeant.records.trust import ANYTHING, Policy, Right, Rule
from paigeant.security import policy as policies
from paigeant.security.jws import KID, KeySigner, PrivateKey, SharedSigner, Signer
from paigeant.security.keyring import Given, Keyring, KnownKey, UnknownKey, source_of
from paigeant.security.notary import Mode, Notary
from paigeant.wire import base64url, strict_json

KEYS_INIT = "paigeant keys init NAME makes a key, a policy, and the files for both"

SHARED = "shared"
"""The name by which a policy knows the secret of a team, and the audience of a team without a policy."""

_LARGEST = 65_536
_SHORTEST_SECRET = 32
"""Bytes of a secret: as many as HMAC with SHA-256 has in its result (RFC 7518, section 3.2)."""


def notary_of(settings: Settings, app: str, signer: Signer | None = None) -> Notary | None:
    """Return the notary that the settings ask for; None if the App does not sign.

    ``signer`` replaces the key that the settings name.

    Raises:
        ConfigurationError: a key or the policy is missing or wrong, or the policy has no rule for the key.
    """
    mode = Mode(settings.signing)
    if mode is Mode.OFF:
        return None
    if mode is Mode.SHARED:
        return _shared(settings, app, signer)
    if settings.trust is None or (settings.signing_key is None and signer is None):
        missing = "trust" if settings.trust is None else "signing_key"
        raise ConfigurationError(f"signing is {mode.value!r}, and the setting {missing} is missing", hint=KEYS_INIT)
    path = Path(settings.trust).expanduser()
    policy, keys = policies.load(path)
    keyring = Keyring(source_of(keys, path.parent))
    signer = signer or signer_of(settings.signing_key or "")
    try:
        keyring.refresh()
        mine = keyring.find(signer.kid)
    except UnknownKey:
        raise ConfigurationError(
            f"the public part of the signing key {signer.kid!r} is not among the keys of {path}",
            hint=f"put its JWK where the policy says that the keys are ({keys}), or: {KEYS_INIT}",
        ) from None
    except KeysUnavailable as error:
        raise ConfigurationError(f"the public keys cannot be read: {error}", hint=KEYS_INIT) from error
    if (refusal := mine.refuses_signing(time.time())) is not None:
        raise ConfigurationError(
            f"the signing key {signer.kid!r} {refusal}", hint=f"name the current key of {mine.name} in signing_key"
        )
    if mine.name not in policy.rules:
        raise ConfigurationError(
            f"{path} has no [[key]] with the name {mine.name!r}, whose key signs here",
            hint=f'add: [[key]] name = "{mine.name}"',
        )
    return Notary(
        mode=mode,
        signer=signer,
        name=mine.name,
        keyring=keyring,
        policy=policy,
        app=app,
        lifetime=policy.max_age,
        limit=settings.message_limit,
    )


def _shared(settings: Settings, app: str, signer: Signer | None) -> Notary:
    """Return the notary of a team with one secret. Without a policy its members may do everything."""
    if signer is not None or settings.signing_key is None:
        raise ConfigurationError(
            'signing is "shared", and the setting signing_key does not name the secret of the team',
            hint="paigeant keys init NAME --shared writes one",
        )
    secrets = secrets_of(settings.signing_key)
    policy = Policy(SHARED, {SHARED: Rule(SHARED, dict.fromkeys(Right, (ANYTHING,)))})
    if settings.trust is not None:
        path = Path(settings.trust).expanduser()
        policy, _ = policies.load(path)
        if SHARED not in policy.rules:
            raise ConfigurationError(
                f"{path} has no [[key]] with the name {SHARED!r}", hint=f'add: [[key]] name = "{SHARED}"'
            )
    keyring = Keyring(Given({one.kid: KnownKey(one.kid, SHARED, one.secret) for one in secrets}))
    keyring.refresh()
    return Notary(
        mode=Mode.SHARED,
        signer=secrets[0],
        name=SHARED,
        keyring=keyring,
        policy=policy,
        app=app,
        lifetime=policy.max_age,
        limit=settings.message_limit,
    )


def secrets_of(given: str) -> Sequence[SharedSigner]:
    """Return the secrets of a team: a JWK or a JWK set of type ``oct``, or the path of a file with one.

    The first secret signs. The others verify, so that a team can change its secret.

    Raises:
        ConfigurationError: there is no such secret.
    """
    text, where = _text_of(given)
    try:
        parsed = strict_json.loads(text, limit=_LARGEST, deepest=8)
        entries = parsed.get("keys", [parsed]) if isinstance(parsed, dict) else []
        found = [_secret(one) for one in entries] if isinstance(entries, list) else []
        if not found or len({one.kid for one in found}) < len(found):
            raise ValueError("it has no secret, or two secrets with one id")
    except ValueError as error:
        raise ConfigurationError(
            f"{where} is no secret of a team: {error}", hint="paigeant keys init NAME --shared writes one"
        ) from None
    return found


def _secret(jwk: Any) -> SharedSigner:
    if not isinstance(jwk, dict) or jwk.get("kty") != "oct" or not isinstance(jwk.get("k"), str):
        raise ValueError('it is no JWK with the type "oct"')
    if not KID.fullmatch(str(jwk.get("kid", ""))):
        raise ValueError('it has no id ("kid")')
    secret = base64url.decode(jwk["k"])
    if len(secret) < _SHORTEST_SECRET:
        raise ValueError(f"it has {len(secret)} bytes, and {_SHORTEST_SECRET} are needed")
    return SharedSigner(jwk["kid"], secret)


def signer_of(given: str) -> KeySigner:
    """Return the signer for a private key: a JWK, or the path of a file with a JWK or with PEM.

    Raises:
        ConfigurationError: it is no private key for EdDSA or ES256, or it has no usable id.
    """
    text, where = _text_of(given)
    try:
        return _of_pem(text, where) if "-----BEGIN" in text else _of_jwk(text)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{where} is no private key for EdDSA or ES256: {error}", hint=KEYS_INIT) from None


def is_inline(given: str) -> bool:
    """Whether the setting is the key itself, and not the path of a file."""
    return given.lstrip().startswith(("{", "-----BEGIN"))


def _text_of(given: str) -> tuple[str, str]:
    """Return the text of a key, and where it comes from.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if is_inline(given):
        return given, "the setting signing_key"
    path = Path(given).expanduser()
    try:
        return path.read_text(), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the signing key {path} cannot be read: {error}", hint=KEYS_INIT) from error


def _of_pem(text: str, where: str) -> KeySigner:
    key = load_pem_private_key(text.encode(), password=None)
    kid = Path(where).stem
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey) or not KID.fullmatch(kid):
        raise ValueError("in PEM it is a file whose name, without its ending, is the id of the key")
    return KeySigner(kid, _p256(key))


def _of_jwk(text: str) -> KeySigner:
    jwk = strict_json.loads(text, limit=_LARGEST, deepest=8)
    if not isinstance(jwk, dict) or not KID.fullmatch(str(jwk.get("kid", ""))):
        raise ValueError('it has no id ("kid")')
    if jwk.get("kty") == "oct":
        raise ValueError('it is the secret of a team, which goes with the setting signing = "shared"')
    if not isinstance(jwk.get("d"), str):
        raise ValueError('it is the public part: it has no member "d"')
    return KeySigner(jwk["kid"], _private(jwk))


def _private(jwk: dict[str, Any]) -> PrivateKey:
    secret = base64url.decode(jwk["d"])
    match jwk.get("kty"), jwk.get("crv"):
        case "OKP", "Ed25519":
            return Ed25519PrivateKey.from_private_bytes(secret)
        case "EC", "P-256":
            return ec.derive_private_key(int.from_bytes(secret), ec.SECP256R1())
    raise ValueError("its type is neither Ed25519 nor P-256")


def _p256(key: PrivateKey) -> PrivateKey:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name != "secp256r1":
        raise ValueError(f"its curve is {key.curve.name}, and ES256 needs P-256")
    return key
