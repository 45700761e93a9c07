"""What follows an outcome: it is decided, carried out, logged, and what waited for it is woken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from paigeant.dispatch import TIMER, Dispatcher, Written
from paigeant.errors import (
    MalformedMessage,
    MessageError,
    MessageTooLarge,
    StoreError,
    StoreRequired,
    Superseded,
    TransportError,
)
from paigeant.events import ErrorInfo, Event, LetterKind, WorkflowEnded
from paigeant.failure import error_info
from paigeant.forward import decide, give_up, within_grant
from paigeant.limits.names import KEYS
from paigeant.message import PaigeantMessage
from paigeant.outcome import Dropped, Faulted, Outcome, Poisoned, Refused, Returned
from paigeant.plan import Plan, SetAside, Settle
from paigeant.runner.locks import Locks
from paigeant.runner.outcome_log import log_outcome
from paigeant.runner.run import Run
from paigeant.timers import Timers
from paigeant.transport import Delivery

log = structlog.stdlib.get_logger("paigeant.conclusion")


@dataclass(slots=True)
class Conclusions:
    """How one worker ends what it ran."""

    dispatcher: Dispatcher
    timers: Timers | None = None
    locks: Locks | None = None

    async def draw(self, run: Run, outcome: Outcome, before: Sequence[Event] = (), cause: str | None = None) -> None:
        """``before`` is what led from the message of the delivery, whose id is ``cause``, to the one of this run.

        Raises:
            Superseded: another worker owns the delivery; nothing was recorded or sent.
            TransportError, StoreError: the delivery is still held.
        """
        now = run.clock.now()
        outcome, plan, written = self._written(run.message, outcome, now)
        if before and isinstance(plan, Settle):
            plan = replace(plan, record=(*before, *plan.record))
        cause = cause or run.message.id
        await self.dispatcher.carry_out(plan, run.delivery, written, cause=cause, worker=run.worker, at=now)
        log_outcome(outcome)
        await self._wake(plan)

    def _written(self, message: PaigeantMessage, outcome: Outcome, now: float) -> tuple[Outcome, Plan, Written]:
        """The plan and its messages as bytes; if they cannot be written, those of the failure that this is."""
        outcome = within_grant(message, outcome)
        plan = decide(message, outcome)
        try:
            return outcome, plan, self.dispatcher.written(plan, now)
        except (MessageTooLarge, StoreRequired) as error:
            assert not isinstance(outcome, Dropped | Returned)
            outcome = failed = Faulted(outcome.execution, _unwritable(outcome, error))
        plan = decide(message, outcome)
        try:
            return outcome, plan, self.dispatcher.written(plan, now)
        except MessageTooLarge:
            return outcome, give_up(message, failed), Written()

    async def _wake(self, plan: Plan) -> None:
        """What was recorded may be what a message waits for, or wait for what has come before."""
        if self.timers is None or not isinstance(plan, Settle):
            return
        for hold in plan.hold:
            if hold.due_at is not None:
                self.timers.expect(hold.due_at)
            if hold.key.startswith(KEYS) and self.locks is not None:
                await self.locks.grant(hold.key)  # it may have been freed before this was recorded
        concerned = {hold.message.correlation_id for hold in plan.hold if hold.key != TIMER}
        concerned |= {event.parent for event in plan.record if isinstance(event, WorkflowEnded) and event.parent}
        try:
            for correlation_id in sorted(concerned):
                await self.timers.match(correlation_id)
        except (StoreError, TransportError) as error:  # any worker's next look finds it
            log.warning("could not wake what waits", error=str(error))

    async def set_aside(self, delivery: Delivery, error: MessageError, worker: str, at: float) -> None:
        """The delivery holds no message: keep its bytes, with the reason."""
        reason = f"{type(error).__name__}: {error}"
        kind = LetterKind.UNREADABLE if isinstance(error, MalformedMessage) else LetterKind.REFUSED
        plan = Settle(set_aside=SetAside(kind, reason))
        try:
            await self.dispatcher.carry_out(plan, delivery, Written(), cause=None, worker=worker, at=at)
        except Superseded:
            return
        log.warning("message set aside", queue=delivery.queue, reason=reason, worker=worker)


def _unwritable(outcome: Outcome, error: MessageTooLarge | StoreRequired) -> ErrorInfo:
    """That what follows cannot be written, and what went wrong before, if something did."""
    info = error_info(error)
    if not isinstance(outcome, Faulted | Poisoned | Refused):
        return info
    return replace(info, message=f"{info.message} (after {outcome.error.type})", traceback=outcome.error.traceback)
