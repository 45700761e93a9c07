"""Publishes parked messages whose timer is due or whose signal has arrived.

A parked message is a row in the store. The process that finds it ready writes its value into the row, publishes the
message, and then removes the row. If that process dies in between, any other worker does the rest with the value in the
row. The message has the same id, so it runs once however often it is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import KeysUnavailable, MessageError, MessageTooLarge, UnsupportedVersion, WorkflowError
from paigeant.events import LetterKind, MessageDeadLettered, MessageResumed, SignalReceived
from paigeant.records.workflow import Held
from paigeant.runtime.clock import Clock, SystemClock
from paigeant.runtime.outage import Outage
from paigeant.store import Waits
from paigeant.transport import Outgoing
from paigeant.wire import codec
from paigeant.wire.arrivals import checked
from paigeant.wire.frame import cut, is_frame
from paigeant.wire.limits import refuse_too_large
from paigeant.wire.message import DEADLINE, PaigeantMessage

log = structlog.stdlib.get_logger("paigeant.timers")

MAY_ANSWER = "the trust policy (PAIGEANT_TRUST) says which key may answer which activity"

LOOK, SHORTEST_LOOK = 1.0, 0.01
"""Seconds between two polls for due messages: maximum and minimum."""


@dataclass(slots=True)
class Timers:
    """Publishes the parked messages of one store."""

    dispatcher: Dispatcher
    store: Waits
    clock: Clock = field(default_factory=SystemClock)
    _sooner: asyncio.Event = field(default_factory=asyncio.Event)
    _next_look: float = 0.0
    _newer: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Publish due messages, and those that another process has left unpublished, for ever."""
        outage = Outage(log, "look for what is due")
        while True:
            due_at = None
            with outage.noted():
                due_at = await self.sweep()
                await self.match()
            await self._pause(due_at)

    async def _pause(self, due_at: float | None) -> None:
        now = self.clock.now()
        pause = LOOK if due_at is None else min(max(due_at - now, SHORTEST_LOOK), LOOK)
        self._next_look = now + pause
        self._sooner.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._sooner.wait()

    def expect(self, due_at: float) -> None:
        """Poll again by this time, because a message will be due then."""
        if due_at < self._next_look:
            self._next_look = due_at
            asyncio.get_running_loop().call_later(max(due_at - self.clock.now(), 0.0), self._sooner.set)

    async def deliver(self, correlation_id: str, key: str, value: Any = None, by: str | None = None) -> None:
        """Deliver a value to a workflow, for a step that waits for this key, or will; ``value`` is of JSON types.

        Raises:
            MessageTooLarge: the value is larger than the setting ``value_limit`` allows.
            StoreError, TransportError: nobody knows whether it was delivered.
        """
        refuse_too_large(value, f"the value for {key!r}", self.dispatcher.value_limit)
        await self.dispatcher.note([self._given(correlation_id, key, value, by)])
        await self.match(correlation_id)

    async def answer(
        self, waiting: Held, value: Any = None, by: str | None = None, question: str | None = None
    ) -> bool:
        """Deliver a value to a step that waits for it now; False if none does, or if it has been answered already.

        Raises:
            MessageTooLarge: the value is larger than the setting ``value_limit`` allows.
            WorkflowError: the answer of this App would not be trusted, or the question is not shown as it was asked.
        """
        refuse_too_large(value, f"the value for {waiting.key!r}", self.dispatcher.value_limit)
        if (notary := self.dispatcher.notary) is not None and is_frame(waiting.body):
            try:
                notary.check_answer(waiting, self.clock.now())
            except (MessageError, KeysUnavailable) as error:
                of = waiting.correlation_id
                text = f"step {waiting.activity!r} of workflow {of} cannot be answered: {error}"
                raise WorkflowError(text, correlation_id=of, hint=MAY_ANSWER) from error
        given = self._given(waiting.correlation_id, waiting.key, value, by, question)
        if not await self.store.answer(given):
            return False
        self.dispatcher.announce([given])
        await self.match(waiting.correlation_id)
        return True

    def named(self, by: str | None) -> str | None:
        """Return who gives an answer: the name of the App's key if it signs, otherwise the given name."""
        return by if self.dispatcher.notary is None else self.dispatcher.notary.name

    def _given(
        self, correlation_id: str, key: str, value: Any, by: str | None, question: str | None = None
    ) -> SignalReceived:
        notary, at = self.dispatcher.notary, self.clock.now()
        proof = None if notary is None else notary.answer(correlation_id, key, value, at, by, question)
        return SignalReceived(
            correlation_id=correlation_id,
            at=at,
            key=key,
            value=value,
            by=self.named(by),
            question=question,
            proof=proof,
        )

    async def match(self, correlation_id: str | None = None) -> int:
        """Publish the messages of this workflow (default: of all) whose value has arrived; return how many."""
        return await self.send(await self.store.match(correlation_id))

    async def sweep(self) -> float | None:
        """Publish all due messages. Return when the next one is due, in epoch seconds."""
        while True:
            due, following = await self.store.take_due()
            if not await self.send(due):
                return following

    async def send(self, parked: Sequence[Held]) -> int:
        """Publish these messages, each by itself; return how many. A failure of one does not delay the others.

        Raises:
            StoreError, TransportError: some were not published, or nobody knows whether they were; they are due again.
        """
        now = self.clock.now()
        done = await asyncio.gather(*[self._send(one, now) for one in parked], return_exceptions=True)
        if (error := next((one for one in done if isinstance(one, BaseException)), None)) is not None:
            raise error
        return len(parked)

    async def _send(self, parked: Held, now: float) -> None:
        try:
            outgoing = self._outgoing(parked, now)
        except UnsupportedVersion as error:  # the message is due again soon, and a worker of that release publishes it
            if parked.wait_id not in self._newer:
                self._newer.add(parked.wait_id)
                log.warning("a parked message is left to newer workers", wait_id=parked.wait_id, reason=str(error))
        except (MessageError, ValueError) as error:
            await self.dispatcher.note([_unreadable(parked, error, now), _resumed(parked, now)])
            log.error("a parked message became a dead letter", wait_id=parked.wait_id, reason=str(error))
        else:
            await self.dispatcher.wake(outgoing, _resumed(parked, now), is_left=parked.left)

    def _outgoing(self, parked: Held, now: float) -> Outgoing:
        message = codec.decode(parked.body, len(parked.body), self.dispatcher.step_limit)
        if is_frame(parked.body):
            return self._signed(message, parked)
        if message.start_by is None:
            message = message.due(now)
        key, given = _come(message, parked)
        try:
            return self.dispatcher.packing.encoded(message.receiving(key, checked(key, given)))
        except MessageTooLarge as error:  # report it to the step: it must not delay other due messages
            return self.dispatcher.packing.encoded(message.receiving(key, {"error": f"the value for {key!r}: {error}"}))

    def _signed(self, message: PaigeantMessage, parked: Held) -> Outgoing:
        """Return a signed message with what came for it. Its signed bytes stay as they are, so this needs no key."""
        key, given = _come(message, parked)
        entry, parcels = self.dispatcher.packing.arrived(message, key, dict(checked(key, given)))
        frame = cut(parked.body, len(parked.body)).receiving(key, entry, parked.proof)
        return Outgoing(
            queue=parked.queue,
            body=frame.to_bytes(),
            id=message.id,
            priority=message.step.priority,
            parcels=parcels,
        )


def _come(message: PaigeantMessage, parked: Held) -> tuple[str, Any]:
    """Return the key and value with which a message resumes: its signal, its timer, or the deadline of its workflow."""
    if parked.value is not None:
        return parked.key, parked.value
    ends_at = message.ends_at
    is_the_end = ends_at is not None and parked.due_at is not None and parked.due_at >= ends_at
    return DEADLINE if is_the_end else parked.key, {"timeout": True}


def _resumed(parked: Held, at: float) -> MessageResumed:
    return MessageResumed(correlation_id=parked.correlation_id, at=at, wait_id=parked.wait_id, key=parked.key)


def _unreadable(parked: Held, error: Exception, at: float) -> MessageDeadLettered:
    return MessageDeadLettered(
        correlation_id=parked.correlation_id,
        at=at,
        kind=LetterKind.UNREADABLE,
        message_id=parked.wait_id,
        queue=parked.queue,
        reason=f"{type(error).__name__}: {error}",
        body=parked.body,
        worker="",
        activity=parked.activity,
        step_id=parked.step_id,
    )
