"""Settles deliveries: executes a plan in one order: record, publish, acknowledge, announce.

With transport and store in one database, the first three are one transaction of the transport. Where they are separate,
the store records the next messages along with the history. So a finished step that is delivered again publishes them
again instead of running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from paigeant.decisions.plan import Plan, Release, SetAside, Settle
from paigeant.dispatch.packing import Packed, Packing
from paigeant.dispatch.posting import Posting, copy_of
from paigeant.errors import BrokerRefused, ResultRefused, Superseded
from paigeant.events import Event, MessageDeadLettered, MessageRefused, StepFailed, WorkflowCompleted
from paigeant.transport import Delivery, Outgoing

log = structlog.stdlib.get_logger("paigeant.dispatch")

_REJECTED_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between two tries to settle a step whose next messages the broker rejects."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Settles deliveries for one App."""

    posting: Posting
    packing: Packing

    async def carry_out(
        self, plan: Plan, delivery: Delivery, packed: Packed, *, cause: str | None, worker: str, at: float
    ) -> None:
        """Execute a plan for a delivery; ``cause`` is the id of the delivered message.

        Raises:
            Superseded: another worker owns the delivery; nothing was recorded or published.
            ResultRefused: the store rejected the end of the step; the delivery is settled with the recorded end.
            TransportError, StoreError: this worker still holds the delivery.
        """
        if isinstance(plan, Release):
            await self.release(delivery, plan.delay)
            return
        record, outgoing = packed.proven([*_ends(plan, packed), *packed.facts]), packed.outgoing
        if plan.set_aside is not None:
            letter = _dead_letter(plan, plan.set_aside, delivery, worker, at)
            record.append(letter)
            if self.posting.store is None:
                outgoing = [*outgoing, self.packing.letter(letter)]
        await self.posting.patiently(lambda: self.posting.keep(outgoing, packed.parcels))
        await self._settle(delivery, outgoing, record, cause)
        self.posting.announce(record)

    async def add_letter(self, plan: Settle, delivery: Delivery, *, worker: str, at: float) -> None:
        """Record a dead letter and acknowledge the delivery of a step whose end is recorded but cannot be settled.

        Raises:
            Superseded, TransportError, StoreError: as :meth:`carry_out`.
        """
        assert plan.set_aside is not None, "a dead letter has a reason"
        letter = _dead_letter(plan, plan.set_aside, delivery, worker, at)
        await self._settle(delivery, (), [letter], None)
        self.posting.announce([letter])

    async def refuse(
        self, delivery: Delivery, letter: MessageDeadLettered | None, told: MessageRefused, message_id: str | None
    ) -> None:
        """Acknowledge a refused delivery and record its dead letter, if there is one. This records nothing else.

        Raises:
            Superseded, TransportError, StoreError: as :meth:`carry_out`.
        """
        record = [letter] if letter is not None else []
        store = self.posting.store
        if store is None:
            await self.settle(delivery, [self.packing.letter(one) for one in record])
        elif self.posting.joined:
            await self.settle(delivery, record=record)
        else:
            await self.posting.patiently(partial(store.record, record))
            if message_id is not None:
                await self.posting.patiently(partial(store.unpost, message_id, delivery.body))
            await self.settle(delivery)
        self.posting.announce([*record, told])

    async def release(self, delivery: Delivery, delay: float) -> None:
        """Release a delivery to the broker, due again after the delay; see :meth:`postpone`.

        Raises:
            Superseded, TransportError, StoreError: as :meth:`carry_out`.
        """
        if delay > 0:
            await self.postpone(delivery.copy({}, delay))
        await self.posting.transport.release(delivery, delay)

    async def put_off(self, delivery: Delivery, copy: Outgoing) -> None:
        """Settle a delivery with a copy of its message, due after the copy's delay; see :meth:`postpone`.

        Raises:
            Superseded, TransportError, StoreError: as :meth:`carry_out`.
        """
        await self.postpone(copy)
        await self.posting.transport.settle(delivery, [copy])

    async def postpone(self, copy: Outgoing) -> None:
        """Tell a separate store when a postponed message is due, so that it does not count as lost until then.

        Otherwise recovery would publish a second copy of it.

        Raises:
            StoreError: the store is away.
        """
        if self.posting.store is not None and not self.posting.joined:
            await self.posting.store.postpone(copy)

    async def settle(self, delivery: Delivery, outgoing: Sequence[Outgoing] = (), record: Sequence[Event] = ()) -> None:
        """Publish the next messages and acknowledge. Retries with growing pauses while the broker rejects the messages.

        The worker holds the delivery meanwhile, so that a finished step does not run again.

        Raises:
            BrokerRefused: the broker still rejects them, or always will; this worker still holds the delivery.
            Superseded, TransportError: as :meth:`BaseTransport.settle`.
        """
        for pause in (*_REJECTED_PAUSES, None):
            try:
                await self.posting.transport.settle(delivery, outgoing, record)
                return
            except BrokerRefused as error:
                if pause is None or not error.again:
                    raise
                if pause == _REJECTED_PAUSES[0]:
                    log.warning("the broker rejects the next message of a step, trying again", error=str(error))
            await asyncio.sleep(pause)

    async def _settle(
        self, delivery: Delivery, outgoing: Sequence[Outgoing], record: Sequence[Event], cause: str | None
    ) -> None:
        """Record, publish, acknowledge. A separate store alone decides whether a result counts.

        If the connection broke after the store had recorded an end, the store accepts the same end again. It still
        rejects the ends of other workers.
        """
        if self.posting.joined or self.posting.store is None:
            await self.settle(delivery, outgoing, record if self.posting.joined else ())
        elif await self.posting.patiently(partial(self.posting.store.record, record, outgoing, cause)):
            try:
                await self.settle(delivery, outgoing)
            except Superseded:  # its result counts: the new holder, or recovery, publishes the next messages
                log.info("the broker withdrew the delivery of a step whose end is recorded")
        else:
            await self.settle(
                delivery, [copy_of(one) for one in await self.posting.store.successors(cause or "") or ()]
            )
            raise ResultRefused("another worker has recorded the end of this step, or has started it since")


def _ends(plan: Settle, packed: Packed) -> Sequence[Event]:
    """Return the events of the plan. The end of the workflow says what is recorded instead if it was cancelled."""
    if plan.if_cancelled is None or not packed.instead:
        return plan.record
    instead = (plan.if_cancelled.started, *packed.instead)
    return [replace(one, instead=instead) if isinstance(one, WorkflowCompleted) else one for one in plan.record]


def _dead_letter(plan: Settle, kept: SetAside, delivery: Delivery, worker: str, at: float) -> MessageDeadLettered:
    ended = next((event for event in plan.record if isinstance(event, StepFailed)), None)
    step = {name: getattr(ended, name) for name in ("activity", "step_id", "heading")} if ended is not None else {}
    return MessageDeadLettered(
        correlation_id=ended.correlation_id if ended is not None else "",
        at=at,
        kind=kept.kind,
        message_id=delivery.id,
        queue=delivery.queue,
        reason=kept.reason,
        body=delivery.body,
        worker=worker,
        deliveries=delivery.deliveries,
        error=kept.error,
        **step,
    )
