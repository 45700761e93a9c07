"""Carrying out plans: the one place with effects, in one order: record, publish, acknowledge, announce.

With transport and store in one database the first three are one transaction, made by the transport. With them apart the
store gets the successor along with the history, so that a redelivered finished step republishes it instead of running.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from pydantic_core import from_json

from paigeant import aside, codec
from paigeant.claim_check import Keeper, Parcel
from paigeant.errors import StoreError, StoreRefused, StoreRequired
from paigeant.events import Event, MessageDeadLettered, MessageHeld, StepFailed, WorkflowDispatched
from paigeant.idempotency import refuse_other
from paigeant.message import PaigeantMessage
from paigeant.observers import Observer, tell
from paigeant.plan import Hold, Plan, Release, Send, SetAside, Settle
from paigeant.records import KeyState, KeyUse, Standing
from paigeant.slip import ActivitySpec, LogEntry
from paigeant.store import Store
from paigeant.transport import BaseTransport, Delivery, Outgoing

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.dispatch")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to record the end of a step, and the shortest between two looks at what others do."""

TIMER = "retry"
"""What a delayed message waits for that a broker without delays cannot keep: nothing but its time."""

_LONGEST_DELAY, _LONGEST_ON_BROKER = 5.0, 86_400.0
"""Seconds a message is delayed by a broker that cannot, and by one that can; longer ones wait in the store."""

_OUTPUTS = 8
"""How many outputs travel in a message beside those in the store."""

_MIDDLING = 1_024
"""Bytes from which values go aside of a message that would be too large without."""

_LONGEST_ERROR = 1000
"""Characters of an error's message beside a dead letter in a queue."""

DEAD_LETTER = "dead-letter"
"""Where messages are set aside without a store: the part of the queue's name after the prefix."""


def queue_name(prefix: str, activity: str) -> str:
    """The queue of an activity."""
    return f"{prefix}.{activity}"


@dataclass(frozen=True, slots=True)
class Written:
    """A plan's messages as bytes: those to publish, and the facts about those to hold and about workflows begun.

    ``parcels`` are values of those to hold that have to be kept first.
    """

    outgoing: Sequence[Outgoing] = ()
    facts: Sequence[Event] = ()
    parcels: Sequence[Parcel] = ()


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Sends messages and settles deliveries for one App. ``joined``: the store writes in the transport's database.

    Values of ``large`` bytes or more go aside, to the ``keeper``, up to ``value_limit``.
    """

    transport: BaseTransport
    store: Store | None
    joined: bool
    app: str
    prefix: str
    message_limit: int
    stream_retention: float = 86_400.0
    observers: Sequence[Observer] = ()
    keeper: Keeper | None = None
    large: int = 65_536
    value_limit: int = 67_108_864

    # --- plans ------------------------------------------------------------------------------------------------

    def written(self, plan: Plan, at: float) -> Written:
        """The plan's messages as bytes.

        Raises:
            MessageTooLarge: naming the part that takes the most room.
            StoreRequired: the plan holds a message, and there is no store to hold it.
        """
        if not isinstance(plan, Settle):
            return Written()
        holds, sends = list(plan.hold), list[Outgoing]()
        for send in plan.send:
            if self.store is not None and send.delay > self._longest_delay:
                holds.append(Hold(send.message, TIMER, at + send.delay))
            else:
                sends.append(self._encoded(send))
        begun = [(message, self._encoded(Send(message))) for message in plan.begin]
        sends += [encoded for _, encoded in begun]
        facts = [self.dispatched(message, encoded.body, at) for message, encoded in begun]
        held = [(hold, self._kept_for(hold)) for hold in holds]
        parcels = [parcel for _, encoded in held for parcel in encoded.parcels]
        return Written(sends, [*facts, *(_held(hold, encoded, at) for hold, encoded in held)], parcels)

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
            letter = _dead_letter(plan, plan.set_aside, delivery, worker, at)
            record.append(letter)
            if self.store is None:
                outgoing = [*outgoing, self._kept(letter)]
        await self._patiently(lambda: self.keep(outgoing, written.parcels))
        if await self._settle(delivery, outgoing, record, cause):
            self.announce(record)

    async def _settle(
        self, delivery: Delivery, outgoing: Sequence[Outgoing], record: Sequence[Event], cause: str | None
    ) -> bool:
        """Whether this was the first settlement of the message, as far as can be known."""
        if self.joined or self.store is None:
            await self.transport.settle(delivery, outgoing, record if self.joined else ())
            return True
        store = self.store
        first = await self._patiently(lambda: store.record(record, outgoing, cause))
        if not first:
            outgoing = await self.store.successors(cause or "") or ()
        await self.transport.settle(delivery, outgoing)
        return first

    async def _patiently(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write as soon as the store takes it: a step that has ended must not run again because the store is away."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                return await write()
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

    async def keep(self, outgoing: Sequence[Outgoing], parcels: Sequence[Parcel] = ()) -> None:
        """Keep what these messages refer to, before anybody can see them.

        Raises:
            StoreError: it is unknown what is kept; the same again does no harm.
        """
        parcels = [*(parcel for one in outgoing for parcel in one.parcels), *parcels]
        if parcels:
            assert self.keeper is not None, "nothing goes aside without a keeper"
            await self.keeper.keep(parcels)

    async def whole(self, message: PaigeantMessage) -> PaigeantMessage:
        """The message with the values its current step needs, and the output of the step before.

        Raises:
            ValueMissing: one of them is not where it was kept.
            StoreError: it cannot be read now.
        """
        slip = message.routing_slip
        if self.store is not None and (entry := slip.aside) is not None:
            output = await asyncio.to_thread(self.output, entry)
            message = message.model_copy(update={"routing_slip": slip.with_previous(output)})
        if needed := aside.needed(message):
            kept = await self.keeper.fetch(needed.keys()) if self.keeper is not None else {}
            message = await asyncio.to_thread(aside.whole, message, kept)
        return message

    def output(self, entry: LogEntry) -> Any:
        """What an earlier step left in the store. Blocks.

        Raises:
            StoreRequired: this App has none.
            ValueMissing: it is not there.
            StoreError: the store cannot be read now.
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

    async def post(self, outgoing: Sequence[Outgoing], record: Sequence[Event], parcels: Sequence[Parcel] = ()) -> None:
        """Record and publish what no delivery leads to: in one transaction, or in this order.

        Raises:
            TransportError, StoreError: it is unknown what was done; the same again does no harm.
        """
        await self.keep(outgoing, parcels)
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
        body = written.outgoing[0].body if written.outgoing else _body_of(written.facts)
        return replace(written, facts=[self.dispatched(send.message, body, at), *written.facts])

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
        await self.post(begun.outgoing, begun.facts, begun.parcels)

    def encoded(self, message: PaigeantMessage, delay: float = 0.0) -> Outgoing:
        """A message as bytes for its queue."""
        return self._encoded(Send(message, delay))

    def dispatched(self, message: PaigeantMessage, body: bytes, at: float) -> WorkflowDispatched:
        """The fact that this message, which travels as these bytes, begins a workflow."""
        slip = message.routing_slip
        return WorkflowDispatched(
            correlation_id=message.correlation_id,
            at=at,
            name=message.name,
            app=self.app,
            message_id=message.id,
            variables=slip.variables,
            itinerary=[{"id": step.id, "name": step.name, "queue": step.queue} for step in slip.itinerary],
            slip=from_json(body)["routing_slip"] if self.store is not None else None,
            parent=message.parent,
            branch=message.branch,
        )

    # --- parts ------------------------------------------------------------------------------------------------

    def queue_of(self, step: ActivitySpec) -> str:
        return step.queue or queue_name(self.prefix, step.name)

    def _encoded(self, send: Send) -> Outgoing:
        message, body, parcels = self._fitted(send.message)
        return Outgoing(
            queue=self.queue_of(message.step),
            body=body,
            id=message.id,
            delay=send.delay,
            priority=message.step.priority,
            parcels=parcels,
        )

    def _fitted(self, message: PaigeantMessage) -> tuple[PaigeantMessage, bytes, list[Parcel]]:
        """The message as it travels, as bytes, and what is to be kept of it.

        Outputs of earlier steps are left where they are, in the store, as far as that is better.
        """
        message, parcels = aside.stripped(message), list[Parcel]()
        if self.store is not None:
            message = message.compacted(_OUTPUTS)
        body = codec.encode(message, sys.maxsize)
        if len(body) <= min(self.large, self.message_limit):
            return message, body, parcels
        if self.store is not None:
            message = message.compacted(0)
        for size in (self.large, _MIDDLING) if self.keeper is not None else ():
            message, more = aside.put_aside(message, size, self.value_limit)
            parcels += more
            if len(body := codec.encode(message, sys.maxsize)) <= self.message_limit:
                break
        if len(body) > self.message_limit or self.keeper is None:
            body = codec.encode(message, self.message_limit)
        return message, body, parcels

    def _kept_for(self, hold: Hold) -> Outgoing:
        if self.store is None:
            raise StoreRequired(
                f"the step waits for {hold.key!r}, which is kept in a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self._encoded(Send(hold.message))

    def _kept(self, letter: MessageDeadLettered) -> Outgoing:
        """Without a store, what is set aside waits in a queue of its own."""
        headers = {"kind": letter.kind.value, "reason": letter.reason, "queue": letter.queue, "worker": letter.worker}
        headers |= {"deliveries": str(letter.deliveries), "at": str(letter.at)}
        if letter.error is not None:
            headers |= {"error-type": letter.error.type, "error": letter.error.message[:_LONGEST_ERROR]}
        return Outgoing(queue=queue_name(self.prefix, DEAD_LETTER), body=letter.body, headers=headers)

    def announce(self, events: Sequence[Event]) -> None:
        """Tell the observers what was recorded."""
        tell(self.observers, events)


def _held(hold: Hold, encoded: Outgoing, at: float) -> MessageHeld:
    message = hold.message
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


def _body_of(facts: Sequence[Event]) -> bytes:
    """The bytes of a message that is held."""
    return next(fact.body for fact in facts if isinstance(fact, MessageHeld))


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
