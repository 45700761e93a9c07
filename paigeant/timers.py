"""Sending on what waits in the store: when its time has come, or what it waits for has.

A message waits as a row. Whoever finds that it may go on writes its value into the row, publishes the message, and
removes the row with the record of that. If it dies in between, any other worker does the rest: the value is the one
that was written, and the message has the same id, so that however often it is sent it runs once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant import codec
from paigeant.clock import Clock, SystemClock
from paigeant.dispatch import Dispatcher
from paigeant.errors import MessageTooLarge, PaigeantError
from paigeant.events import MessageResumed, SignalReceived
from paigeant.message import DEADLINE, PaigeantMessage
from paigeant.records import Held
from paigeant.store import Store
from paigeant.transport import Outgoing

log = structlog.stdlib.get_logger("paigeant.timers")

LOOK, SHORTEST_LOOK = 1.0, 0.01
"""Seconds between two looks for what is due: at most, and at least."""


@dataclass(slots=True)
class Timers:
    """Serves what waits in one store."""

    dispatcher: Dispatcher
    store: Store
    clock: Clock = field(default_factory=SystemClock)
    _sooner: asyncio.Event = field(default_factory=asyncio.Event)
    _next_look: float = 0.0

    async def run(self) -> None:
        """Send on what waits, for ever: what is due, and what whoever should have sent it on has left."""
        while True:
            due_at = None
            try:
                due_at = await self.sweep()
                await self.match()
            except PaigeantError as error:
                log.warning("could not look for what is due", error=str(error))
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
        """Look again by this time: something will be due then."""
        if due_at < self._next_look:
            self._next_look = due_at
            asyncio.get_running_loop().call_later(max(due_at - self.clock.now(), 0.0), self._sooner.set)

    async def deliver(self, correlation_id: str, key: str, value: Any = None, by: str | None = None) -> None:
        """Give a workflow something that a step of it waits for, or will; ``value`` is of JSON types.

        Raises:
            StoreError, TransportError: it is unknown whether it was delivered.
        """
        received = SignalReceived(correlation_id=correlation_id, at=self.clock.now(), key=key, value=value, by=by)
        await self.dispatcher.note([received])
        await self.match(correlation_id)

    async def answer(self, correlation_id: str, key: str, value: Any = None, by: str | None = None) -> bool:
        """As :meth:`deliver`, to a step that waits for it now; False: none does, or somebody else has given it."""
        given = SignalReceived(correlation_id=correlation_id, at=self.clock.now(), key=key, value=value, by=by)
        if not await self.store.answer(given):
            return False
        self.dispatcher.announce([given])
        await self.match(correlation_id)
        return True

    async def match(self, correlation_id: str | None = None) -> int:
        """Send on the messages of this workflow (default: of all) for which something has come; how many."""
        return await self.send(await self.store.match(correlation_id))

    async def sweep(self) -> float | None:
        """Send on all messages whose time has come; when the next one's will have, in epoch seconds."""
        while True:
            due, following = await self.store.take_due()
            if not await self.send(due):
                return following

    async def send(self, held: Sequence[Held]) -> int:
        """Send these on; how many they are."""
        if held:
            now = self.clock.now()
            await self.dispatcher.post([self._outgoing(one, now) for one in held], [_resumed(one, now) for one in held])
        return len(held)

    def _outgoing(self, held: Held, now: float) -> Outgoing:
        message = codec.decode(held.body, len(held.body))
        if message.start_by is None:
            message = message.due(now)
        key, given = _come(message, held)
        try:
            return self.dispatcher.encoded(message.receiving(key, given))
        except MessageTooLarge as error:  # it must not hold up what else is due: the step is told
            return self.dispatcher.encoded(message.receiving(key, {"error": f"what came for {key!r}: {error}"}))


def _come(message: PaigeantMessage, held: Held) -> tuple[str, Any]:
    """What has come for a message, and for what: what it waits for, its time, or the end of its workflow's."""
    if held.value is not None:
        return held.key, held.value
    ends_at = message.ends_at
    is_the_end = ends_at is not None and held.due_at is not None and held.due_at >= ends_at
    return DEADLINE if is_the_end else held.key, {"timeout": True}


def _resumed(held: Held, at: float) -> MessageResumed:
    return MessageResumed(correlation_id=held.correlation_id, at=at, wait_id=held.wait_id, key=held.key)
