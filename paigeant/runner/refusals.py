"""Sets refused messages aside. A refused message changes nothing of the workflow that it names."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from paigeant.decisions.refusal import Refusal
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import MessageError, StoreError, Superseded
from paigeant.events import ErrorInfo, MessageDeadLettered, MessageRefused
from paigeant.runtime.clock import Clock, boot_time
from paigeant.transport import Delivery
from paigeant.wire.message import PaigeantMessage

log = structlog.stdlib.get_logger("paigeant.conclusion")

MOST_AN_HOUR = 1000
"""Number of refused messages that a worker keeps in an hour. Of further ones it keeps every hundredth."""

_EVERY = 100
_HOUR = 3600.0


@dataclass(slots=True)
class Tally:
    """Counts the refused messages of an hour, and says which of them become dead letters.

    ``claimed`` are workflows whose first refused message beyond the limit was kept.
    """

    began: float = -_HOUR
    count: int = 0
    claimed: set[str] = field(default_factory=set)

    def add(self, now: float) -> bool:
        """Count a message. Returns whether the limit lets it be kept."""
        if now - self.began >= _HOUR:
            self.began, self.count = now, 0
            self.claimed.clear()
        self.count += 1
        return self.count <= MOST_AN_HOUR or self.count % _EVERY == 0


@dataclass(slots=True)
class Refusals:
    """Refuses messages for one worker."""

    dispatcher: Dispatcher
    worker: str
    clock: Clock
    tally: Tally = field(default_factory=Tally)

    async def refuse(self, delivery: Delivery, error: MessageError, message: PaigeantMessage | None = None) -> None:
        """Make a dead letter of the delivery, acknowledge it, and tell observers. ``message`` if it can be read.

        Raises:
            TransportError, StoreError: this worker still holds the delivery.
        """
        refusal, claimed = Refusal.of(error), message.correlation_id if message is not None else ""
        is_kept = self.tally.add(boot_time()) or await self._is_first_of_known(claimed)
        letter = self._letter(delivery, refusal, claimed, error) if is_kept else None
        told = MessageRefused(
            correlation_id="",
            at=self.clock.now(),
            code=refusal.code,
            reason=refusal.reason,
            queue=delivery.queue,
            message_id=delivery.id,
            worker=self.worker,
            claimed=claimed,
            kept=is_kept,
        )
        message_id = message.id if message is not None else delivery.id
        try:
            await self.dispatcher.settling.refuse(delivery, letter, told, message_id)
        except Superseded:
            return
        self._log(told)

    async def _is_first_of_known(self, claimed: str) -> bool:
        """Whether this is the first message beyond the limit that names this workflow, which has not ended.

        A wrong setting can make a worker refuse every message. No honest workflow may lose its only message then.
        """
        store = self.dispatcher.store
        if store is None or not claimed or claimed in self.tally.claimed:
            return False
        try:
            found = await store.brief(claimed)
        except StoreError:
            return True
        if found is None or found.introduced or found.status.is_terminal:
            return False
        self.tally.claimed.add(claimed)
        return True

    def _letter(self, delivery: Delivery, refusal: Refusal, claimed: str, error: MessageError) -> MessageDeadLettered:
        return MessageDeadLettered(
            correlation_id="",
            at=self.clock.now(),
            kind=refusal.kind,
            message_id=delivery.id,
            queue=delivery.queue,
            reason=refusal.reason,
            body=delivery.body,
            worker=self.worker,
            deliveries=delivery.deliveries,
            error=ErrorInfo(type=type(error).__name__, message=str(error)),
            claimed=claimed,
            code=refusal.code,
        )

    def _log(self, told: MessageRefused) -> None:
        structlog.contextvars.unbind_contextvars("correlation_id")  # the message only claims it
        if told.kept:
            about = {"queue": told.queue, "reason": told.reason, "worker": told.worker, "code": told.code}
            log.warning("message became a dead letter", **about, claimed=told.claimed or None)
        if self.tally.count == MOST_AN_HOUR + 1:
            text = "more than 1,000 messages were refused within an hour: only every hundredth becomes a dead letter"
            log.error(text, code=told.code, queue=told.queue, worker=told.worker)
