"""Carrying out plans: the one place with effects, in one order: record, publish, acknowledge, announce.

With transport and store in one database the first three are one transaction, made by the transport. With them apart the
store gets the successor along with the history, so that a redelivered finished step republishes it instead of running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from paigeant import codec
from paigeant.errors import StoreError, StoreRefused
from paigeant.events import Event, MessageDeadLettered, WorkflowDispatched
from paigeant.message import PaigeantMessage
from paigeant.plan import Plan, Release, Send, Settle
from paigeant.slip import ActivitySpec
from paigeant.store import Store
from paigeant.transport import BaseTransport, Delivery, Outgoing

log = structlog.stdlib.get_logger("paigeant.dispatch")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to record the end of a step."""

Observer = Callable[[Event], None]
"""Told about an event after it was recorded."""


def queue_name(prefix: str, activity: str) -> str:
    """The queue of an activity."""
    return f"{prefix}.{activity}"


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Sends messages and settles deliveries for one App. ``joined``: the store writes in the transport's database."""

    transport: BaseTransport
    store: Store | None
    joined: bool
    prefix: str
    message_limit: int
    observers: Sequence[Observer] = ()

    # --- plans ------------------------------------------------------------------------------------------------

    def outgoing(self, plan: Plan) -> list[Outgoing]:
        """The plan's messages as bytes.

        Raises:
            MessageTooLarge: naming the part that takes the most room.
        """
        return [self._encoded(send) for send in plan.send] if isinstance(plan, Settle) else []

    async def carry_out(
        self, plan: Plan, delivery: Delivery, outgoing: Sequence[Outgoing], *, cause: str | None, worker: str, at: float
    ) -> None:
        """Act on a plan for a delivery; ``cause`` is the id of the message it carried.

        Raises:
            Superseded: another worker owns the delivery; nothing was recorded or sent.
            TransportError, StoreError: the delivery is still held.
        """
        if isinstance(plan, Release):
            await self.transport.release(delivery, plan.delay)
            return
        record = list(plan.record)
        if plan.set_aside is not None:
            letter = _dead_letter(plan, delivery, worker, at)
            record.append(letter)
            if self.store is None:
                outgoing = [*outgoing, self._kept(letter)]
        if await self._settle(delivery, outgoing, record, cause):
            self._announce(record)

    async def _settle(
        self, delivery: Delivery, outgoing: Sequence[Outgoing], record: Sequence[Event], cause: str | None
    ) -> bool:
        """Whether this was the first settlement of the message, as far as can be known."""
        if self.joined or self.store is None:
            await self.transport.settle(delivery, outgoing, record if self.joined else ())
            return True
        first = await self._recorded(self.store, record, outgoing, cause)
        if not first:
            outgoing = await self.store.successors(cause or "") or ()
        await self.transport.settle(delivery, outgoing)
        return first

    async def _recorded(
        self, store: Store, record: Sequence[Event], outgoing: Sequence[Outgoing], cause: str | None
    ) -> bool:
        """Record as soon as the store takes it: a step that has ended must not run again because the store is away."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                return await store.record(record, outgoing, cause)
            except StoreRefused:
                raise
            except StoreError as error:
                log.warning("cannot record the end of a step, trying again", error=str(error), delay=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def repeat(self, delivery: Delivery, message_id: str) -> bool:
        """For a message that is done with: publish again what followed it, and acknowledge. False for any other.

        In a joined database a finished message is never delivered again: its row went with the record.
        """
        if self.joined or self.store is None:
            return False
        outgoing = await self.store.successors(message_id)
        if outgoing is None:
            return False
        await self.transport.settle(delivery, outgoing)
        return True

    async def note(self, events: Sequence[Event]) -> None:
        """Record what is not the end of a step."""
        if self.store is not None:
            await self.store.record(events)
        self._announce(events)

    # --- beginnings -------------------------------------------------------------------------------------------

    async def start(self, event: WorkflowDispatched, outgoing: Outgoing, *, repeated: bool = False) -> None:
        """Send a workflow's first message; when this returns the broker has it.

        ``repeated``: it may have been sent before. In a joined database a known workflow was, and its message may be
        done with: sent again it would run again. Elsewhere the inbox knows what is done with, so it is sent again.

        Raises:
            TransportError, StoreError: nothing was sent, or it is unknown whether it was.
        """
        if repeated and self.joined and self.store is not None and await self.store.workflow(event.correlation_id):
            return
        if self.store is not None:
            await (self.store.connect() if self.joined else self.store.record([event], [outgoing]))
        await self.transport.send([outgoing], [event] if self.joined else ())
        self._announce([event])

    def encoded(self, message: PaigeantMessage, delay: float = 0.0) -> Outgoing:
        """A message as bytes for its queue."""
        return self._encoded(Send(message, delay))

    # --- parts ------------------------------------------------------------------------------------------------

    def queue_of(self, step: ActivitySpec) -> str:
        return step.queue or queue_name(self.prefix, step.name)

    def _encoded(self, send: Send) -> Outgoing:
        message = send.message
        return Outgoing(
            queue=self.queue_of(message.step),
            body=codec.encode(message, self.message_limit),
            id=message.id,
            delay=send.delay,
            priority=message.step.priority,
        )

    def _kept(self, letter: MessageDeadLettered) -> Outgoing:
        """Without a store, what is set aside waits in a queue of its own."""
        headers = {"reason": letter.reason, "queue": letter.queue, "deliveries": str(letter.deliveries)}
        return Outgoing(queue=queue_name(self.prefix, "dead-letter"), body=letter.body, headers=headers)

    def _announce(self, events: Sequence[Event]) -> None:
        for observer in self.observers:
            for event in events:
                _tell(observer, event)


def _tell(observer: Observer, event: Event) -> None:
    try:
        observer(event)
    except Exception as error:  # it only looks on: the step must not suffer
        log.exception("an observer failed", observer=repr(observer), event_type=event.type, error=str(error))


def _dead_letter(plan: Settle, delivery: Delivery, worker: str, at: float) -> MessageDeadLettered:
    return MessageDeadLettered(
        correlation_id=plan.record[0].correlation_id if plan.record else "",
        at=at,
        message_id=delivery.id,
        queue=delivery.queue,
        reason=plan.set_aside or "",
        body=delivery.body,
        worker=worker,
        deliveries=delivery.deliveries,
    )
