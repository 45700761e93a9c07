"""Dead letters in a store. What becomes of one is recorded with its removal, in one transaction.

A redrive holds the message in the store, where every worker looks for what is due: whoever dies after that loses
nothing. Two who redrive one letter take turns, and the later one finds it gone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from paigeant.dead_letters.box import LetterBox, Opened, refused
from paigeant.decisions.attest import Order
from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Execution, Faulted
from paigeant.decisions.plan import Hold, Send, Settle
from paigeant.decisions.redrive import REDRIVEN, Again, awaits, judge
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.timers import Timers
from paigeant.errors import DeadLetterError, DeadLetterNotFound, PaigeantError
from paigeant.events import (
    DeadLetterDiscarded,
    DeadLetterEdited,
    DeadLetterRedriven,
    ErrorInfo,
    Event,
    MessageHeld,
    WorkflowCompensated,
    WorkflowEnded,
)
from paigeant.records.workflow import DeadLetter, Letters, Move, Owner, Status, WorkflowRecord, elsewhere
from paigeant.runtime.clock import Clock
from paigeant.store import Store
from paigeant.wire.frame import link_in
from paigeant.wire.message import PaigeantMessage

log = structlog.stdlib.get_logger("paigeant.dead_letters")

DISCARDED = "Discarded"
"""The type of the error with which a step fails whose message somebody has thrown away."""

_PAGE = 100
_AT_ONCE = 0.0
_TRIES = 5
"""How often a decision is made anew because the workflow has moved meanwhile."""


@dataclass(frozen=True, slots=True)
class StoredLetters(LetterBox):
    """The dead letters of one store."""

    dispatcher: Dispatcher
    store: Store
    timers: Timers

    @property
    def clock(self) -> Clock:
        return self.timers.clock

    def now(self) -> float:
        return self.clock.now()

    @asynccontextmanager
    async def opened(
        self, which: Letters, ids: Collection[str] | None = None, most: int | None = None
    ) -> AsyncGenerator[AsyncIterator[Opened], None]:
        yield self._each(which, most) if ids is None else self._named(ids)

    async def _each(self, which: Letters, most: int | None) -> AsyncIterator[Opened]:
        below, left = None, most
        while left is None or left > 0:
            page = await self.store.dead_letters(_PAGE if left is None else min(_PAGE, left), which, below)
            for letter in page:
                yield StoredLetter(letter, self)
                below = _number(letter)
            if not page:
                return
            left = None if left is None else left - len(page)

    async def _named(self, ids: Collection[str]) -> AsyncIterator[Opened]:
        for id in ids:  # noqa: A001
            if id.isdecimal() and len(id) < 19 and (letter := await self.store.dead_letter(int(id))) is not None:
                yield StoredLetter(letter, self)

    async def count(self, which: Letters) -> int:
        return await self.store.count_dead_letters(which)

    async def uncompensated(self, correlation_id: str) -> Sequence[str]:
        """The steps that a workflow could not take back, when it last ended."""
        after, left = 0, list[str]()
        while batch := await self.store.events(correlation_id, after):
            after = batch[-1].offset
            left = next((one.data["left"] for one in reversed(batch) if one.type == WorkflowCompensated.type), left)
        return left

    async def parked(self, plan: Settle, now: float, before: PaigeantMessage, order: Order) -> Sequence[Event]:
        """Return the record of the plan. It says that the next messages are due, wherever their workers are.

        ``before`` is the letter's message, and ``order`` is what somebody does to it.
        """
        holds = tuple(Hold(one.message, REDRIVEN, _AT_ONCE) for one in plan.send)
        packed = self.dispatcher.packing.packed(replace(plan, send=(), hold=holds), now, before, order)
        await self.dispatcher.keep(packed.outgoing, packed.parcels)
        known = await self.store.brokers()
        return [
            self._owned(fact, known) if isinstance(fact, MessageHeld) else fact
            for fact in packed.proven([*plan.record, *packed.facts])
        ]

    def _owned(self, parked: MessageHeld, known: Sequence[Owner]) -> MessageHeld:
        """The same message; one of another App is left to that App, which publishes it to its own broker."""
        owner = elsewhere(parked.queue, self.dispatcher.owner, known)
        return parked if owner is None else replace(parked, prefix=owner.prefix, broker=owner.broker)

    async def announce(self, record: Sequence[Event]) -> None:
        """Tell who looks on, and send on what is due by now."""
        self.dispatcher.announce(record)
        try:
            await self.timers.sweep()
            for event in record:
                if isinstance(event, WorkflowEnded) and event.parent:
                    await self.timers.match(event.parent)
        except PaigeantError as error:  # any worker's next look finds it
            log.warning("could not send on what is due", error=str(error))


@dataclass(frozen=True, slots=True)
class StoredLetter(Opened):
    """A row of the store."""

    letter: DeadLetter
    box: StoredLetters

    async def redrive(self, by: str | None, *, fresh: bool) -> PaigeantMessage:
        message = self.box.message(self.letter)
        for _ in range(_TRIES):
            again = await self._judged(message)
            if fresh:
                await self.box.store.forget_journal(message.correlation_id, message.step.id)
            plan, now = Settle(send=(Send(again.message),)), self.box.clock.now()
            due = await self.box.parked(plan, now, message, Order("redrive"))
            record = [self._redriven(again.message, by), *due]
            if await self._taken(again.move, record):
                return again.message
        raise self._restless()

    async def _judged(self, message: PaigeantMessage) -> Again:
        found = await self._workflow(message)
        left: Sequence[str] = ()
        if found is not None and found.status is Status.COMPENSATION_INCOMPLETE:
            left = await self.box.uncompensated(found.correlation_id)
        verdict = judge(message, self.letter.kind, found, left, self.box.clock.now())
        if not isinstance(verdict, Again):
            raise refused(self.letter, verdict)
        return verdict

    async def _workflow(self, message: PaigeantMessage) -> WorkflowRecord | None:
        return await self.box.store.workflow(message.correlation_id)

    def _redriven(self, message: PaigeantMessage, by: str | None) -> DeadLetterRedriven:
        return DeadLetterRedriven(
            correlation_id=message.correlation_id,
            at=self.box.clock.now(),
            letter=_number(self.letter),
            by=by,
            message_id=message.id,
            step_id=message.step.id,
            activity=message.step.name,
            epoch=message.epoch,
        )

    async def discard(self, by: str | None, note: str, *, vouch: bool = False) -> None:
        thrown = DeadLetterDiscarded(
            correlation_id=self.letter.correlation_id,
            at=self.box.clock.now(),
            letter=_number(self.letter),
            by=by,
            note=note,
        )
        for _ in range(_TRIES):
            is_believed = vouch or not self.letter.code
            move, end = await self._failing(by, note) if is_believed else (None, ())
            if await self._taken(move, [thrown, *end]):
                return
        raise self._restless()

    async def _failing(self, by: str | None, note: str) -> tuple[Move | None, Sequence[Event]]:
        """What follows if its workflow waits for this letter: its step has failed for good."""
        try:
            message = self.box.message(self.letter)
        except DeadLetterError:
            return None, ()
        found = await self._workflow(message)
        if found is None or not awaits(message, self.letter.kind, found):
            return None, ()
        now = self.box.clock.now()
        ran = Execution(worker="", deliveries=self.letter.deliveries, started_at=now, finished_at=now)
        who, why = f" by {by}" if by else "", f": {note}" if note else ""
        error = ErrorInfo(type=DISCARDED, message=f"its message was set aside and discarded{who}{why}")
        plan = decide(message, Faulted(ran, error))
        assert isinstance(plan, Settle)
        follow = await self.box.parked(plan, now, message, Order("discard"))
        return Move(correlation_id=message.correlation_id, before=found.status, after=None), follow

    async def replace(self, body: bytes, changed: list[str], by: str | None) -> DeadLetter:
        edited = DeadLetterEdited(
            correlation_id=self.letter.correlation_id,
            at=self.box.clock.now(),
            letter=_number(self.letter),
            by=by,
            changed=changed,
            proof=link_in(body),
        )
        if not await self.box.store.edit_dead_letter(_number(self.letter), self.letter.body, body, [edited]):
            raise DeadLetterNotFound(
                f"dead letter {self.letter.id} is gone, or was edited meanwhile", hint="see: paigeant dlq list"
            )
        self.box.dispatcher.announce([edited])
        if {*changed} - {"deadline", "obo_token"}:  # what an agent did, it did on other grounds
            await self.box.store.forget_journal(self.letter.correlation_id, self.letter.step_id)
        found = await self.box.store.dead_letter(_number(self.letter))
        return found or self.letter

    async def _taken(self, move: Move | None, record: Sequence[Event]) -> bool:
        """Whether it was taken away with this record; False when its workflow has moved meanwhile."""
        if await self.box.store.take_dead_letter(_number(self.letter), move, record):
            await self.box.announce(record)
            return True
        if await self.box.store.dead_letter(_number(self.letter)) is None:
            raise DeadLetterNotFound(
                f"dead letter {self.letter.id} is gone: it was sent again or discarded meanwhile",
                hint="see: paigeant dlq list",
            )
        return False

    def _restless(self) -> DeadLetterError:
        return DeadLetterError(
            f"the workflow of dead letter {self.letter.id} keeps moving: nothing was done", hint="try again"
        )


def _number(letter: DeadLetter) -> int:
    assert isinstance(letter.id, int)
    return letter.id
