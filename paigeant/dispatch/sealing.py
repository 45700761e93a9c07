"""Puts plans and links around the messages of one settlement, if the App signs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paigeant.decisions.attest import Order, Verified
from paigeant.decisions.plan import Settle
from paigeant.errors import Untrusted
from paigeant.wire.canonical import digest
from paigeant.wire.message import PaigeantMessage

if TYPE_CHECKING:  # it brings cryptography, which an App that does not sign need not load
    from paigeant.security.notary import Notary


@dataclass(slots=True)
class Sealing:
    """Signs what one settlement publishes and parks; what comes of an unsigned message stays unsigned.

    ``before`` is the message that is settled. Workflows that begin are sealed first: the link names their plans.
    ``link`` is the latest link that was signed.
    """

    notary: Notary | None
    settle: Settle
    at: float
    before: PaigeantMessage | None = None
    order: Order | None = None
    link: str | None = None
    _begun: dict[str, str] = field(default_factory=dict)

    @property
    def _by(self) -> Verified | None:
        if self.before is None or self.before.chain is None:
            return None
        return Verified(self.before, self.before.chain)

    def _unsigned(self, body: bytes) -> bytes:
        """Return what comes of an unsigned message, if that may travel."""
        if self.notary is not None and self.notary.is_strict:
            raise Untrusted("unsigned", "the message is not signed or not trusted, so what follows it is not signed")
        return body

    def first(self, message: PaigeantMessage, body: bytes) -> bytes:
        """Return the bytes of a workflow's first message."""
        if self.notary is None or (by := self._by) is None:
            return self._unsigned(body)
        frame = self.notary.begin(message, body, self.at, by)
        self._begun[message.correlation_id] = digest(frame.plan.encode())
        return frame.to_bytes()

    def next(self, message: PaigeantMessage, body: bytes) -> bytes:
        """Return the bytes of the message that follows the settled one."""
        if self.notary is None or (by := self._by) is None:
            return self._unsigned(body)
        frame = self.notary.follow(by, self.settle, self.at, message, body, self._begun, self.order)
        self.link = frame.links[-1]
        return frame.to_bytes()

    def end(self) -> None:
        """Sign the link of a message that no other follows."""
        if self.notary is not None and (by := self._by) is not None:
            self.link = self.notary.close(by, self.settle, self.at, self._begun, self.order)
