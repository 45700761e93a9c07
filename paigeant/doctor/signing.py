"""Checks how the App signs messages, and whether the workers have one policy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from paigeant.doctor.finding import Finding, Verdict
from paigeant.errors import PaigeantError
from paigeant.records.trust import SHOWN
from paigeant.records.workflow import WorkerRecord
from paigeant.runtime.private import exposed

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.security.notary import Notary

_OFF = "off: workers believe every message in their queues"


def signing_of(app: App, alive: Collection[WorkerRecord]) -> list[Finding]:
    """Check mode and key of the App, and compare its policy with those of the live workers."""
    try:
        notary = app.notary
    except PaigeantError as error:
        return [Finding("signing", Verdict.FAIL, str(error), error.hint)]
    if notary is None:
        return [Finding("signing", Verdict.OK, _OFF), *_policies(alive, None)]
    return [_own(notary), *_exposed(app.settings.signing_key), *_policies(alive, notary.policy.digest)]


def _exposed(key: str | None) -> list[Finding]:
    """Check that only the owner may read the file of the private key."""
    return [
        Finding("signing", Verdict.WARN, f"{path} has the mode {mode:o}: others may use the key", f"chmod 600 {path}")
        for path, mode in exposed([Path(key).expanduser()] if key and not key.lstrip().startswith("{") else []).items()
    ]


def _own(notary: Notary) -> Finding:
    key = notary.keyring.find(notary.signer.kid)
    digest = notary.policy.digest[:SHOWN]
    found = f"{notary.mode.value}; key {key.kid} of {key.name} is {key.state.value}; policy {digest}"
    if (refusal := key.refuses_signing(time.time())) is not None:
        return Finding("signing", Verdict.FAIL, f"{found}: the key {refusal}", f"paigeant keys rotate {key.name}")
    if not notary.is_strict:
        return Finding(
            "signing", Verdict.WARN, f"{found}; unsigned messages are accepted", 'next: signing = "required"'
        )
    return Finding("signing", Verdict.OK, found)


def _policies(alive: Iterable[WorkerRecord], own: str | None) -> list[Finding]:
    """Compare the policies of the live workers with each other, and with ``own``."""
    found = Counter(worker.policy for worker in alive)
    if not any(found) or (len(found) == 1 and own in (None, *found)):
        return []
    policies = ", ".join(f"{digest[:SHOWN] or 'none'} ({number})" for digest, number in found.most_common())
    text = f"the live workers have these trust policies: {policies}"
    if own is not None and own not in found:
        text += f"; the policy here is {own[:SHOWN]}"
    return [Finding("policy", Verdict.WARN, text, "give all of them one trust.toml and restart those with another")]
