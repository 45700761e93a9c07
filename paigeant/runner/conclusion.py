"""Turns an outcome into a plan, executes the plan, logs it, and wakes messages that waited for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from paigeant.decisions.failure import error_info
from paigeant.decisions.forward import decide, give_up, within_grant, without_others
from paigeant.decisions.lock_names import KEYS
from paigeant.decisions.outcome import Dropped, Faulted, Outcome, Poisoned, Refused, Returned
from paigeant.decisions.plan import TIMER, Plan, Release, SetAside, Settle
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.packing import Packed
from paigeant.dispatch.timers import Timers
from paigeant.errors import (
    BrokerRefused,
    IdempotencyConflict,
    MessageTooLarge,
    StoreError,
    StoreRefused,
    StoreRequired,
    Superseded,
    TransportError,
)
from paigeant.events import ErrorInfo, Event, LetterKind, WorkflowEnded
from paigeant.runner.locks import Locks
from paigeant.runner.memory import Memory
from paigeant.runner.outcome_log import log_outcome
from paigeant.runner.returns import OUTAGE_PAUSE, copy_of, is_fault_of_message, pause_after, returns_of
from paigeant.runner.run import Run
from paigeant.transport import Delivery, Outgoing
from paigeant.wire.message import PaigeantMessage, is_sleep

log = structlog.stdlib.get_logger("paigeant.conclusion")


@dataclass(slots=True)
class Conclusions:
    """Concludes the runs of one worker."""

    dispatcher: Dispatcher
    timers: Timers | None = None
    locks: Locks | None = None
    memory: Memory | None = None

    async def draw(self, run: Run, outcome: Outcome, before: Sequence[Event] = (), cause: str | None = None) -> None:
        """Conclude a run with this outcome.

        ``before`` has the events from the delivered message, whose id is ``cause``, to the message of this run.

        Raises:
            Superseded: another worker owns the delivery; nothing was recorded or published.
            ResultRefused: the store rejected the outcome; the delivery is settled.
            TransportError, StoreError: this worker still holds the delivery.
        """
        outcome = within_grant(run.message, outcome)
        try:
            await self._draw(run, outcome, before, cause or run.message.id)
        except BrokerRefused as error:
            if isinstance(outcome, Dropped | Returned):
                raise
            await self._give_up_on(run, error)
        except StoreRefused as error:  # a retry would not help, so the step fails with this error
            if isinstance(outcome, Dropped | Returned):
                raise
            failed = Faulted(outcome.execution, _unwritable(outcome, error))
            await self._draw(run, failed, before, cause or run.message.id)

    async def _draw(self, run: Run, outcome: Outcome, before: Sequence[Event], cause: str) -> None:
        now = run.clock.now()
        outcome, plan, packed = await self._as_before(run.message, *self._packed(run.message, outcome, now), now)
        if before and isinstance(plan, Settle):
            plan = replace(plan, record=(*before, *plan.record))
        if isinstance(plan, Release) and plan.grows:
            await self._give_back(run.delivery, plan)
        else:
            await self.dispatcher.settling.carry_out(plan, run.delivery, packed, cause=cause, worker=run.worker, at=now)
        if isinstance(plan, Settle):
            self._remember(cause, run.message.id)
        log_outcome(outcome)
        await self._wake(plan)

    def _remember(self, *message_ids: str) -> None:
        """Remember that these messages have ended, if there is no store that knows."""
        if self.memory is not None:
            for message_id in message_ids:
                self.memory.add(message_id)

    async def _give_back(self, delivery: Delivery, plan: Release) -> None:
        """Settle the delivery with a copy of its message that counts this return."""
        returns = returns_of(delivery.headers).after_wait()
        copy = copy_of(delivery, returns, pause_after(returns.waits, plan.delay, plan.most), plan.headers)
        await self.dispatcher.settling.put_off(delivery, copy)

    async def repeat(self, run: Run, successors: Sequence[Outgoing]) -> None:
        """Settle the delivery of a finished step: publish its next messages again.

        Raises:
            Superseded, TransportError: as :meth:`draw`.
        """
        try:
            await self.dispatcher.settling.settle(run.delivery, successors)
        except BrokerRefused as error:
            await self._give_up_on(run, error)

    async def _give_up_on(self, run: Run, error: BrokerRefused) -> None:
        """Make the delivery a dead letter, because the broker rejects the next message. A redrive publishes only that.

        If no end of the step is recorded, the step fails with the broker's reason.
        """
        info = error_info(error)
        if self.dispatcher.store is None or self.dispatcher.joined:
            await self.abandon(run, info)
            return
        plan, now = give_up(run.message, Faulted(run.execution(), info)), run.clock.now()
        await self.dispatcher.settling.add_letter(plan, run.delivery, worker=run.worker, at=now)
        log.error("dead letter: the broker rejects the next message", reason=str(info), queue=run.delivery.queue)

    async def put_back(self, delivery: Delivery, error: BaseException) -> bool:
        """Return an unsettled delivery to its queue after an error; False if it must become a dead letter instead.

        Raises:
            Superseded: another worker owns the delivery.
            TransportError, StoreError: this worker still holds the delivery.
        """
        if not is_fault_of_message(error):  # the store may be away, so do not wait for it
            await self.dispatcher.transport.release(delivery, OUTAGE_PAUSE)
            return True
        returns = returns_of(delivery.headers).after_fault()
        if returns.is_last:
            return False
        await self.dispatcher.settling.put_off(delivery, copy_of(delivery, returns, returns.pause))
        return True

    async def abandon(self, run: Run, error: ErrorInfo) -> None:
        """Make a dead letter of a message that was returned too often, and end its workflow with minimal work.

        If the end of its step is already recorded, only the dead letter is added.
        """
        plan, now = give_up(run.message, Faulted(run.execution(), error)), run.clock.now()
        about: dict[str, Any] = {"worker": run.worker, "at": now}
        try:
            packed = self.dispatcher.packing.packed(plan, now, run.message)
            await self.dispatcher.settling.carry_out(plan, run.delivery, packed, cause=run.message.id, **about)
        except TransportError:
            if self.dispatcher.store is None or self.dispatcher.joined:
                raise
            await self.dispatcher.settling.add_letter(plan, run.delivery, **about)
        self._remember(run.message.id)
        log.error("dead letter: the message was returned too often", reason=str(error), queue=run.delivery.queue)

    def _packed(self, message: PaigeantMessage, outcome: Outcome, now: float) -> tuple[Outcome, Plan, Packed]:
        """Return the plan and its encoded messages. If encoding fails, return those of the step's failure instead."""
        plan = decide(message, outcome)
        try:
            return outcome, plan, self.dispatcher.packing.packed(plan, now, message)
        except (MessageTooLarge, StoreRequired) as error:
            assert not isinstance(outcome, Dropped | Returned)
            outcome = failed = Faulted(outcome.execution, _unwritable(outcome, error))
        for one in (message, without_others(message)):
            plan = decide(one, outcome)
            with suppress(MessageTooLarge):
                return outcome, plan, self.dispatcher.packing.packed(plan, now, message)
        plan = give_up(message, failed)
        return outcome, plan, self.dispatcher.packing.packed(plan, now, message)

    async def _as_before(
        self, message: PaigeantMessage, outcome: Outcome, plan: Plan, packed: Packed, now: float
    ) -> tuple[Outcome, Plan, Packed]:
        """Return these; or the step's failure, if it now dispatches different workflows than in its earlier run."""
        is_first = message.resumes == 0 and message.attempt == 1 and message.epoch == 0
        if is_first or isinstance(outcome, Dropped | Returned):
            return outcome, plan, packed
        try:
            await self.dispatcher.patiently(partial(self.dispatcher.beginning.refuse_changed, packed))
        except IdempotencyConflict as error:
            return self._packed(message, Faulted(outcome.execution, error_info(_changed(message, error))), now)
        return outcome, plan, packed

    async def _wake(self, plan: Plan) -> None:
        """Wake messages that wait for what was recorded, and recorded messages whose wait is already over."""
        if self.timers is None or not isinstance(plan, Settle):
            return
        for hold in plan.hold:
            if hold.due_at is not None:
                self.timers.expect(hold.due_at)
            if hold.key.startswith(KEYS) and self.locks is not None:
                await self.locks.grant(hold.key)  # it may have become free before this was recorded
        concerned = {hold.message.correlation_id for hold in plan.hold if hold.key != TIMER and not is_sleep(hold.key)}
        concerned |= {event.parent for event in plan.record if isinstance(event, WorkflowEnded) and event.parent}
        try:
            for correlation_id in sorted(concerned):
                await self.timers.match(correlation_id)
        except (StoreError, TransportError) as error:  # the next poll of any worker finds them
            log.warning("could not wake waiting messages", error=str(error))

    async def set_aside(self, delivery: Delivery, kind: LetterKind, reason: str, worker: str, at: float) -> None:
        """Store the delivery's bytes as a dead letter with the reason, without reading them."""
        plan = Settle(set_aside=SetAside(kind, reason))
        try:
            await self.dispatcher.settling.carry_out(plan, delivery, Packed(), cause=None, worker=worker, at=at)
        except Superseded:
            return
        log.warning("message became a dead letter", queue=delivery.queue, reason=reason, worker=worker)


def _changed(message: PaigeantMessage, error: IdempotencyConflict) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"step {message.step.name!r} dispatched workflow {error.correlation_id} in an earlier run; now it dispatches "
        "a different workflow in its place",
        correlation_id=error.correlation_id,
        hint="a step starts again from the top after each wait: dispatch the same workflows each time, or distinguish "
        "them with ctx.dispatch(..., key=...)",
    )


def _unwritable(outcome: Outcome, error: MessageTooLarge | StoreRequired | StoreRefused) -> ErrorInfo:
    """Return the error for next messages that cannot be encoded, with the earlier error of the step, if any."""
    info = error_info(error)
    if not isinstance(outcome, Faulted | Poisoned | Refused):
        return info
    return replace(info, message=f"{info.message} (after {outcome.error.type})", traceback=outcome.error.traceback)
