"""Reads deliveries: checks the signatures first, if the App has a policy, and parses the message then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from paigeant.decisions.received import Opened
from paigeant.errors import KeysUnavailable, Untrusted
from paigeant.runtime.clock import Clock
from paigeant.wire.frame import is_frame
from paigeant.wire.message import PaigeantMessage

if TYPE_CHECKING:  # it brings cryptography, which an App that does not sign need not load
    from paigeant.security.notary import Notary

log = structlog.stdlib.get_logger("paigeant.runner")


@dataclass(slots=True)
class Opening:
    """Reads the deliveries of one worker. ``unsigned`` counts the messages that it accepted without a signature."""

    notary: Notary | None
    decoded: Callable[[bytes], PaigeantMessage]
    clock: Clock
    unsigned: int = 0
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def opened(self, body: bytes) -> Opened:
        """Return the message of these bytes, with the statements it came with if they were verified.

        Raises:
            MessageError: it is no message, or it is not trusted.
            KeysUnavailable: it is signed with a key that is not known here yet.
        """
        if self.notary is None:
            return Opened(self.decoded(body))
        if self.notary.keyring.is_old:
            await self._refresh(self.notary)
        if not is_frame(body):
            return self._unsigned(self.notary, body)
        try:
            return self.notary.opened(body, self.clock.now(), self.decoded)
        except KeysUnavailable:
            if not self.notary.keyring.may_look:
                raise
        await self._refresh(self.notary)
        return self.notary.opened(body, self.clock.now(), self.decoded)

    def _unsigned(self, notary: Notary, body: bytes) -> Opened:
        if notary.is_strict:
            raise Untrusted("unsigned", "the message is not signed, and signing is required here")
        self.unsigned += 1
        if self.unsigned == 1:
            log.warning("messages that are not signed are accepted", hint='set signing to "required" once none come')
        return Opened(self.decoded(body))

    async def _refresh(self, notary: Notary) -> None:
        """Read the public keys again: one read at a time, for all messages together."""
        async with self._refreshing:
            if notary.keyring.is_old or notary.keyring.may_look:
                try:
                    await asyncio.to_thread(notary.keyring.refresh)
                except KeysUnavailable as error:
                    log.warning("the public keys cannot be read", error=str(error))
