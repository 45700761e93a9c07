"""Sets up signing for an App: its key, the public keys it knows, and the policy, as the settings name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from paigeant.config import Settings
from paigeant.errors import ConfigurationError, KeysUnavailable
from paigeant.security import policy as policies
from paigeant.security.jws import KID, KeySigner, PrivateKey, Signer
from paigeant.security.keyring import Keyring, State, UnknownKey, source_of
from paigeant.security.notary import Mode, Notary
from paigeant.wire import base64url, strict_json

KEYS_INIT = "paigeant keys init NAME makes a key, a policy, and the files for both"

_LARGEST = 65_536


def notary_of(settings: Settings, app: str, signer: Signer | None = None) -> Notary | None:
    """Return the notary that the settings ask for; None if the App does not sign.

    ``signer`` replaces the key that the settings name.

    Raises:
        ConfigurationError: a key or the policy is missing or wrong, or the policy has no rule for the key.
    """
    mode = Mode(settings.signing)
    if mode is Mode.OFF:
        return None
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
    if mine.state in (State.REVOKED, State.RETIRED):
        raise ConfigurationError(
            f"the signing key {signer.kid!r} is {mine.state.value}", hint=f"paigeant keys rotate {mine.name}"
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


def signer_of(given: str) -> KeySigner:
    """Return the signer for a private key: a JWK, or the path of a file with a JWK or with PEM.

    Raises:
        ConfigurationError: it is no private key for EdDSA or ES256, or it has no usable id.
    """
    text, where = given, "the setting signing_key"
    if not given.lstrip().startswith(("{", "-----BEGIN")):
        path = Path(given).expanduser()
        where = str(path)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the signing key {path} cannot be read: {error}", hint=KEYS_INIT) from error
    try:
        return _of_pem(text, where) if "-----BEGIN" in text else _of_jwk(text)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{where} is no private key for EdDSA or ES256: {error}", hint=KEYS_INIT) from None


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
