"""Carrying out plans: the one place with effects, in one order: record, publish, acknowledge, announce.

With transport and store in one database the first three are one transaction, made by the transport. With them apart the
store gets the successor along with the history, so that a redelivered finished step republishes it instead of running.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from paigeant import codec
from paigeant.errors import StoreError, StoreRefused, StoreRequired
from paigeant.events import Event, MessageDeadLettered, MessageHeld, WorkflowDispatched
from paigeant.idempotency import refuse_other
from paigeant.message import PaigeantMessage
from paigeant.plan import Hold, Plan, Release, Send, Settle
from paigeant.slip import ActivitySpec, LogEntry
from paigeant.store import KeyState, KeyUse, Standing, Store
from paigeant.transport import BaseTransport, Delivery, Outgoing

log = structlog.stdlib.get_logger("paigeant.dispatch")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to record the end of a step, and the shortest between two looks at what others do."""

TIMER = "retry"
"""What a delayed message waits for that a broker without delays cannot keep: nothing but its time."""

_LONGEST_DELAY, _LONGEST_ON_BROKER = 5.0, 86_400.0
"""Seconds a message is delayed by a broker that cannot, and by one that can; longer ones wait in the store."""

_KEPT, _LARGE = 8, 65_536
"""How many outputs travel in a message beside those in the store, and the bytes from which none does."""

Observer = Callable[[Event], None]
"""Told about an event after it was recorded."""


DEAD_LETTER = "dead-letter"
"""Where messages are set aside without a store: the part of the queue's name after the prefix."""


def queue_name(prefix: str, activity: str) -> str:
    """The queue of an activity."""
    return f"{prefix}.{activity}"


@dataclass(frozen=True, slots=True)
class Written:
    """A plan's messages as bytes: those to publish, and the facts about those to hold and about workflows begun."""

    outgoing: Sequence[Outgoing] = ()
    facts: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Sends messages and settles deliveries for one App. ``joined``: the store writes in the transport's database."""

    transport: BaseTransport
    store: Store | None
    joined: bool
    app: str
    prefix: str
    message_limit: int
    observers: Sequence[Observer] = ()

    # --- plans ------------------------------------------------------------------------------------------------

    def written(self, plan: Plan, at: float) -> Written:
        """The plan's messages as bytes.

        Raises:
            MessageTooLarge: naming the part that takes the most room.
            StoreRequired: the plan holds a message, and there is no store to hold it.
        """
        if not isinstance(plan, Settle):
            return Written()
        holds, sends = list(plan.hold), []
        for send in plan.send:
            if self.store is not None and send.delay > self._longest_delay:
                holds.append(Hold(send.message, TIMER, at + send.delay))
            else:
                sends.append(self._encoded(send))
        sends += [self._encoded(Send(message)) for message in plan.begin]
        facts = [self.dispatched(message, at) for message in plan.begin]
        return Written(sends, [*facts, *(self._held(hold, at) for hold in holds)])

    @property
    def _longest_delay(self) -> float:
        """Seconds a message is delayed by the broker; it waits in the store for longer."""
        return _LONGEST_ON_BROKER if self.transport.features.delay else _LONGEST_DELAY

    async def carry_out(
        self, plan: Plan, delivery: Delivery, written: Written, *, cause: str | None, worker: str, at: float
    ) -> None:
        """Act on a plan for a delivery; ``cause`` is the id of the message it carried.

        Raises:
            Superseded: another worker owns the delivery; nothing was recorded or sent.
            TransportError, StoreError: the delivery is still held.
        """
        if isinstance(plan, Release):
            await self.transport.release(delivery, plan.delay)
            return
        record, outgoing = [*plan.record, *written.facts], written.outgoing
        if plan.set_aside is not None:
            letter = _dead_letter(plan, delivery, worker, at)
            record.append(letter)
            if self.store is None:
                outgoing = [*outgoing, self._kept(letter)]
        if await self._settle(delivery, outgoing, record, cause):
            self.announce(record)

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

    async def standing(self, message: PaigeantMessage) -> Standing:
        """Whether the message may run, as far as there is somebody to know."""
        if self.store is None:
            return Standing()
        return await self.store.standing(message.id, message.correlation_id)

    def output(self, entry: LogEntry) -> Any:
        """What an earlier step left in the store. Blocks.

        Raises:
            StoreRequired: this App has none.
            StoreError: it is not there, or cannot be read.
        """
        if self.store is None:
            raise StoreRequired(
                f"the output of {entry.name!r} is in a store, and this App has none",
                hint="give it the store of those who sent the workflow here",
            )
        return self.store.output(entry.source or "")

    async def note(self, events: Sequence[Event]) -> None:
        """Record what is not the end of a step."""
        if self.store is not None:
            await self.store.record(events)
        self.announce(events)

    async def post(self, outgoing: Sequence[Outgoing], record: Sequence[Event]) -> None:
        """Record and publish what no delivery leads to: in one transaction, or in this order.

        Raises:
            TransportError, StoreError: it is unknown what was done; the same again does no harm.
        """
        if self.store is not None and not self.joined:
            await self.store.record(record, outgoing)
        await self.transport.send(outgoing, record if self.joined else ())
        self.announce(record)

    # --- beginnings -------------------------------------------------------------------------------------------

    def begun(self, send: Send, at: float) -> Written:
        """A workflow's first message as bytes, with the fact that it begins.

        Raises:
            MessageTooLarge: naming the part that takes the most room.
            StoreRequired: it is due later than the broker can keep it, and there is no store to hold it.
        """
        if self.store is None and send.delay > self._longest_delay:
            raise StoreRequired(
                f"a message that is due in {send.delay:.0f} s is kept in a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        written = self.written(Settle(send=(send,)), at)
        return Written(written.outgoing, [self.dispatched(send.message, at), *written.facts])

    async def start_once(self, begun: Written, use: KeyUse) -> None:
        """Send a workflow's first message, unless it was sent under the same idempotency key, which is waited for.

        After some seconds without knowing whether it was, it is sent again: the message has the same id.

        Raises:
            IdempotencyConflict: the key stands for something else.
            TransportError, StoreError: nothing was sent, or it is unknown whether it was.
        """
        assert self.store is not None, "an App without a store takes no key"
        if await self._is_ours_to_send(self.store, use):
            await self.start(begun, repeated=True)
            await self.store.mark_sent(use.correlation_id)

    async def _is_ours_to_send(self, store: Store, use: KeyUse) -> bool:
        """Whether nobody has sent it; asked until nobody is about to."""
        while True:
            known = await store.take_key(use)
            refuse_other(use, known)
            if known.state is not KeyState.SENDING:
                return known.state is KeyState.TAKEN
            await asyncio.sleep(_SHORTEST_PAUSE)

    async def start(self, begun: Written, *, repeated: bool = False) -> None:
        """Send a workflow's first message; when this returns the broker has it.

        ``repeated``: it may have been sent before. In a joined database a known workflow was, and its message may be
        done with: sent again it would run again. Elsewhere the inbox knows what is done with, so it is sent again.

        Raises:
            TransportError, StoreError: nothing was sent, or it is unknown whether it was.
        """
        correlation_id = begun.facts[0].correlation_id
        if repeated and self.joined and self.store is not None and await self.store.workflow(correlation_id):
            return
        if self.store is not None and self.joined:
            await self.store.connect()
        await self.post(begun.outgoing, begun.facts)

    def encoded(self, message: PaigeantMessage, delay: float = 0.0) -> Outgoing:
        """A message as bytes for its queue."""
        return self._encoded(Send(message, delay))

    def dispatched(self, message: PaigeantMessage, at: float) -> WorkflowDispatched:
        """The fact that this message begins a workflow."""
        slip = message.routing_slip
        return WorkflowDispatched(
            correlation_id=message.correlation_id,
            at=at,
            name=message.name,
            app=self.app,
            message_id=message.id,
            variables=slip.variables,
            itinerary=[{"id": step.id, "name": step.name, "queue": step.queue} for step in slip.itinerary],
            parent=message.parent,
            branch=message.branch,
        )

    # --- parts ------------------------------------------------------------------------------------------------

    def queue_of(self, step: ActivitySpec) -> str:
        return step.queue or queue_name(self.prefix, step.name)

    def _encoded(self, send: Send) -> Outgoing:
        message, body = self._fitted(send.message)
        return Outgoing(
            queue=self.queue_of(message.step),
            body=body,
            id=message.id,
            delay=send.delay,
            priority=message.step.priority,
        )

    def _fitted(self, message: PaigeantMessage) -> tuple[PaigeantMessage, bytes]:
        """The message, without those outputs of earlier steps that are better left in the store, and as bytes."""
        if self.store is None:
            return message, codec.encode(message, self.message_limit)
        message = message.compacted(_KEPT)
        body = codec.encode(message, sys.maxsize)
        if len(body) > min(_LARGE, self.message_limit):
            message = message.compacted(0)
            body = codec.encode(message, self.message_limit)
        return message, body

    def _held(self, hold: Hold, at: float) -> MessageHeld:
        if self.store is None:
            raise StoreRequired(
                f"the step waits for {hold.key!r}, which is kept in a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        message = hold.message
        encoded = self._encoded(Send(message))
        return MessageHeld(
            correlation_id=message.correlation_id,
            at=at,
            wait_id=message.id,
            step_id=message.step.id,
            activity=message.step.name,
            key=hold.key,
            due_at=hold.due_at,
            detail=hold.detail,
            join=hold.join,
            queue=encoded.queue,
            body=encoded.body,
            priority=encoded.priority,
        )

    def _kept(self, letter: MessageDeadLettered) -> Outgoing:
        """Without a store, what is set aside waits in a queue of its own."""
        headers = {"reason": letter.reason, "queue": letter.queue, "deliveries": str(letter.deliveries)}
        return Outgoing(queue=queue_name(self.prefix, DEAD_LETTER), body=letter.body, headers=headers)

    def announce(self, events: Sequence[Event]) -> None:
        """Tell the observers what was recorded."""
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
