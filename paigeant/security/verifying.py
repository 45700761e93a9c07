"""Sets up what only verifies: the public keys and the policy of a deployment, without a private key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paigeant.config import Settings
from paigeant.errors import ConfigurationError
from paigeant.security.inspecting import Trust
from paigeant.security.keyring import Given, Keyring
from paigeant.security.notary import Mode, Notary
from paigeant.security.signing import notary_of


@dataclass(frozen=True, slots=True)
class _NoKey:
    """Stands where a signer belongs, and signs nothing."""

    kid: str = ""
    alg: str = ""

    def sign(self, data: bytes) -> bytes:
        raise ConfigurationError("there is no signing key here: this only verifies")


def verifier_of(path: Path, settings: Settings) -> Notary:
    """Return a notary that verifies with the policy in this file and its public keys. May block.

    A team with one shared secret has no public keys: then the secret of the settings verifies.

    Raises:
        ConfigurationError: policy or keys cannot be read, or are wrong.
    """
    if settings.signing == "shared" and (notary := notary_of(settings, "")) is not None:
        return notary
    trust = Trust.read(path)
    keyring = Keyring(Given(trust.keys))
    keyring.refresh()
    return Notary(
        mode=Mode.REQUIRED,
        signer=_NoKey(),
        name="",
        keyring=keyring,
        policy=trust.policy,
        app="",
        lifetime=trust.policy.max_age,
        limit=settings.message_limit,
    )
