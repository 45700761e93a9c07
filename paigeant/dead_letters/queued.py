"""Dead letters without a store: they wait in a queue of their own on the broker.

To look at them is to take them out and to give them back, so whoever looks at the same time may miss some. Nobody
knows how their workflows stand; a redrive is published before the letter is acknowledged, so it is never lost, and on
a broker that cannot do both at once it may come twice if the process dies in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from paigeant.dead_letters.box import LetterBox, Opened, refused
from paigeant.decisions.attest import Order
from paigeant.decisions.plan import Send, Settle
from paigeant.decisions.redrive import Again, judge
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.packing import DEAD_LETTER, queue_name
from paigeant.errors import DeadLetterNotFound, MessageError, Superseded
from paigeant.events import ErrorInfo, LetterKind
from paigeant.records.workflow import DeadLetter, Letters
from paigeant.runtime.clock import Clock
from paigeant.transport import Delivery, Outgoing
from paigeant.wire.message import PaigeantMessage

MOST = 1000
"""How many letters of a queue are looked at."""

_QUIET = 2.0
"""Seconds without another letter after which the rest of a queue is held by somebody else."""


@dataclass(frozen=True, slots=True)
class QueuedLetters(LetterBox):
    """The dead letters of one App's queue."""

    dispatcher: Dispatcher
    clock: Clock

    def now(self) -> float:
        return self.clock.now()

    @property
    def queue(self) -> str:
        """Where they wait."""
        return queue_name(self.dispatcher.prefix, DEAD_LETTER)

    @asynccontextmanager
    async def opened(
        self, which: Letters, ids: Collection[str] | None = None, most: int | None = None
    ) -> AsyncGenerator[AsyncIterator[Opened], None]:
        transport = self.dispatcher.transport
        await transport.declare(self.queue)
        # Over Redis, what a dead process holds comes back when somebody consumes: so an empty queue is listened to.
        depth = min(max(await transport.depth(self.queue), 1), MOST)
        async with aclosing(transport.consume([self.queue], depth)) as batches:
            taken = await _taken(batches, depth)
        claimed = [QueuedLetter(self._letter(one), one, self) for one in taken]
        meant = [one for one in claimed if (ids is None or one.letter.id in ids) and is_meant(one.letter, which)]
        try:
            yield _each(sorted(meant, key=lambda one: -one.letter.at)[:most])
        finally:
            for one in claimed:
                if not one.is_settled:
                    await transport.release(one.delivery)

    async def count(self, which: Letters) -> int:
        async with self.opened(which) as letters:
            return len([one async for one in letters])

    def _letter(self, delivery: Delivery) -> DeadLetter:
        said = {name: value for name, value in delivery.headers.items() if isinstance(value, str)}
        at = _number(said.get("at"))
        digest = blake2b(f"{said.get('queue')}\x1f{at}\x1f".encode() + delivery.body, digest_size=6)
        letter = DeadLetter(
            id=digest.hexdigest(),
            kind=_kind(said.get("kind")),
            correlation_id="",
            message_id=None,
            queue=said.get("queue", ""),
            reason=said.get("reason", "nothing says why"),
            body=delivery.body,
            worker=said.get("worker", ""),
            deliveries=int(_number(said.get("deliveries"))),
            at=at,
            error=_error(said),
            code=said.get("code", ""),
        )
        return self._known(letter)

    def _known(self, letter: DeadLetter) -> DeadLetter:
        """With what its message says, if it can be read."""
        try:
            message = self.dispatcher.decoded(letter.body)
        except MessageError:
            return letter
        step = message.step
        if letter.code:  # it was refused, so it only claims all that
            return replace(letter, claimed=message.correlation_id)
        return replace(
            letter,
            correlation_id=message.correlation_id,
            message_id=message.id,
            activity=step.name,
            step_id=step.id,
            heading=message.routing_slip.heading.value,
        )


def _kind(said: str | None) -> LetterKind:
    try:
        return LetterKind(said or "")
    except ValueError:
        return LetterKind.UNREADABLE


def _error(said: Mapping[str, str]) -> ErrorInfo | None:
    kind = said.get("error-type")
    return ErrorInfo(type=kind, message=said.get("error", "")) if kind else None


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e12 else 0.0


def is_meant(letter: DeadLetter, which: Letters) -> bool:
    """Whether a letter is all of what is said."""
    has = {
        "kind": letter.kind,
        "queue": letter.queue,
        "activity": letter.activity,
        "error": letter.error.type if letter.error else "",
        "code": letter.code,
    }
    wanted = {name: getattr(which, name) for name in has}
    return (
        which.workflow in (None, letter.correlation_id, letter.claimed)
        and all(value is None or has[name] == value for name, value in wanted.items())
        and (which.reason is None or which.reason in letter.reason)
        and (which.since is None or letter.at >= which.since)
        and (which.before is None or letter.at < which.before)
    )


async def _taken(batches: AsyncGenerator[Sequence[Delivery], None], depth: int) -> list[Delivery]:
    """As many as there are, or as nobody else holds."""
    taken = list[Delivery]()
    while len(taken) < depth:
        try:
            async with asyncio.timeout(_QUIET):
                taken += await anext(batches)
        except TimeoutError:
            break
    return taken


async def _each(letters: Sequence[QueuedLetter]) -> AsyncIterator[Opened]:
    for one in letters:
        yield one


@dataclass(slots=True)
class QueuedLetter(Opened):
    """A delivery from the queue of dead letters, held until it is settled or the queue is closed."""

    letter: DeadLetter
    delivery: Delivery
    box: QueuedLetters
    is_settled: bool = False

    async def redrive(self, by: str | None, *, fresh: bool) -> PaigeantMessage:  # it always is: there is no journal
        message = self.box.message(self.letter)
        now = self.box.clock.now()
        verdict = judge(message, self.letter.kind, None, (), now)
        if not isinstance(verdict, Again):
            raise refused(self.letter, verdict)
        again = verdict.message.due(now)
        plan = Settle(send=(Send(again),))
        packed = self.box.dispatcher.packing.packed(plan, now, message, Order("redrive"))
        await self._settle(packed.outgoing)
        return again

    async def discard(self, by: str | None, note: str, *, vouch: bool = False) -> None:  # nobody knows its workflow
        await self._settle([])

    async def replace(self, body: bytes, changed: list[str], by: str | None) -> DeadLetter:
        headers: dict[str, Any] = {name: one for name, one in self.delivery.headers.items() if isinstance(one, str)}
        outgoing = Outgoing(queue=self.box.queue, body=body, headers=headers)
        await self._settle([outgoing])
        return self.box._letter(replace(self.delivery, body=body))

    async def _settle(self, outgoing: Sequence[Outgoing]) -> None:
        self.is_settled = True
        await self.box.dispatcher.keep(outgoing)
        try:
            await self.box.dispatcher.transport.settle(self.delivery, outgoing)
        except Superseded as error:
            raise DeadLetterNotFound(
                f"dead letter {self.letter.id} is in somebody else's hands", hint="see: paigeant dlq list"
            ) from error
