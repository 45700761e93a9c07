"""Recording how workflows advance, and saying how they stand: what every step asks of a store, in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, or_, select

from paigeant.clock import Clock
from paigeant.database import retrying
from paigeant.database.among import among
from paigeant.database.prepared import execute
from paigeant.errors import StoreRefused
from paigeant.events import Event, StepEnded
from paigeant.io_thread import OncePerTurn, answer
from paigeant.records import Standing, Status
from paigeant.stores import posted, rows
from paigeant.stores.access import Access
from paigeant.stores.history import FINISHED, SqlLedger
from paigeant.stores.tables import outbox, workflows
from paigeant.transport import Outgoing

T = TypeVar("T")
R = TypeVar("R")

# Built once, so that SQLAlchemy compiles them once and need not even look whether it has.
_DONE_WITH = delete(outbox).where(among(outbox.c.message_id, "ids"))
_FOLLOWING = select(outbox).where(among(outbox.c.cause_id, "ids"))
_STEERED = select(workflows.c.correlation_id, workflows.c.status, workflows.c.cancel).where(
    among(workflows.c.correlation_id, "workflows"),
    or_(workflows.c.status != Status.RUNNING.value, workflows.c.cancel.is_not(None)),
)
_REMARKABLE = select(or_(FINISHED.exists(), _STEERED.exists()))


class Advance(Access):
    """Whatever is asked at the same time is answered by the same few statements, and written in one transaction."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        super().__init__(url, clock)
        self._ledger = SqlLedger(url)
        self._flushing = OncePerTurn(lambda: self._thread.post(self._flush))
        self._news: list[Event] = []
        self._waiting: SimpleQueue[tuple[_Write | _Question | _Doubt | _Deed, asyncio.Future[Any]]] = SimpleQueue()

    def _end(self) -> None:
        self._flush()
        super()._end()

    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        accepted: bool = await self._together(_Write(events, outbox, cause))
        return accepted

    async def successors(self, message_id: str) -> Sequence[Outgoing] | None:
        found: Sequence[Outgoing] | None = await self._together(_Question(message_id))
        return found

    async def _together(self, request: _Write | _Question | _Doubt | _Deed) -> Any:
        """What is asked at the same time is answered by the same few statements."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put((request, future))
        self._flushing.ask()
        return await future

    def _flush(self) -> None:
        """Everything that waits; a later call for the same batch finds nothing to do. Others are told last."""
        batch = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        self._answer([(one, future) for one, future in batch if isinstance(one, _Doubt)], self._standings)
        self._answer([(one, future) for one, future in batch if isinstance(one, _Question)], self._successors)
        self._answer([(one, future) for one, future in batch if isinstance(one, _Write)], self._write)
        for do in dict.fromkeys(one.do for one, _ in batch if isinstance(one, _Deed)):
            self._answer([(one, future) for one, future in batch if isinstance(one, _Deed) and one.do is do], self._do)
        news, self._news = self._news, []
        if news:
            self._watch.tell(lambda: self._reader, news)

    def _answer(self, batch: Sequence[tuple[T, asyncio.Future[Any]]], handle: Callable[[list[T]], list[Any]]) -> None:
        if not batch:
            return
        requests = [request for request, _ in batch]
        try:
            values = self._guarded(lambda: retrying(lambda: handle(requests)))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            if isinstance(error, StoreRefused) and len(batch) > 1:
                for one in batch:  # what cannot be written must not hold up the others
                    self._answer([one], handle)
                return
            answer((future, None, error) for _, future in batch)
        else:
            answer((future, value, None) for (_, future), value in zip(batch, values, strict=True))

    def _write(self, writes: Sequence[_Write]) -> list[bool]:
        """All of it in one transaction. Whoever records the end of a message first is accepted, the others are not."""
        accepted = self._write_together(writes)
        self._news += [event for write, ok in zip(writes, accepted, strict=True) if ok for event in write.events]
        return accepted

    def _write_together(self, writes: Sequence[_Write]) -> list[bool]:
        with self._writer.begin():
            first = self._ledger.end(self._writer, [write.ends[0] for write in writes if write.ends])
            accepted = [_take_turn(write, first) for write in writes]
            standing = [write for write, ok in zip(writes, accepted, strict=True) if ok]
            self._ledger.end(self._writer, [event for write in standing for event in write.ends[1:]])
            self._ledger.note(self._writer, [event for write in standing for event in write.events])
            now = self._database.now()
            posted.post(self._writer, now, [(one, write.cause) for write in standing for one in write.outbox])
            if finished := [write.cause for write in standing if write.cause]:
                execute(self._writer, _DONE_WITH, {"ids": finished})
            return accepted

    async def _in_group(self, do: Callable[[Connection, Sequence[R], float], Sequence[T]], request: R) -> T:
        """Have it done in one transaction with all of its sort that are asked for at the same time."""
        value: T = await self._together(_Deed(do, request))
        return value

    def _do(self, deeds: Sequence[_Deed]) -> list[Any]:
        with self._writer.begin():
            return list(deeds[0].do(self._writer, [deed.request for deed in deeds], self._database.now()))

    def _successors(self, questions: Sequence[_Question]) -> list[Sequence[Outgoing] | None]:
        done = self._ledger.finished(self._reader, [question.message_id for question in questions])
        followed: dict[str, list[Outgoing]] = {message_id: [] for message_id in done}
        if done:
            now = self._database.now()
            for row in self._reader.execute(_FOLLOWING, {"ids": list(done)}):
                followed[row.cause_id].append(rows.outgoing(row, now))
        return [followed.get(question.message_id) for question in questions]

    async def standing(self, message_id: str, correlation_id: str) -> Standing:
        found: Standing = await self._together(_Doubt(message_id, correlation_id))
        return found

    def _standings(self, doubts: Sequence[_Doubt]) -> list[Standing]:
        """Of most there is nothing to say, which is one question."""
        named = {"workflows": [doubt.correlation_id for doubt in doubts]}
        if not execute(self._reader, _REMARKABLE, {"ids": [doubt.message_id for doubt in doubts], **named}).scalar():
            return [Standing()] * len(doubts)
        done = self._successors([_Question(doubt.message_id) for doubt in doubts])
        found = self._reader.execute(_STEERED, named)
        steered = {
            row.correlation_id: Standing(status=rows.status_of(row.status), cancellation=rows.cancellation(row.cancel))
            for row in found
        }
        return [
            replace(steered.get(doubt.correlation_id, Standing()), done=one)
            for doubt, one in zip(doubts, done, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Deed:
    """Something to be done in a transaction, together with all else that ``do`` does."""

    do: Callable[[Connection, Sequence[Any], float], Sequence[Any]]
    request: Any


@dataclass(frozen=True, slots=True)
class _Write:
    """A call of :meth:`SqlStore.record` waiting for its transaction."""

    events: Sequence[Event]
    outbox: Sequence[Outgoing]
    cause: str | None

    @property
    def ends(self) -> list[StepEnded]:
        """The attempts that ended: that of the message that was delivered, then those that followed it in place."""
        return [event for event in self.events if isinstance(event, StepEnded)]


@dataclass(frozen=True, slots=True)
class _Question:
    """A call of :meth:`SqlStore.successors` waiting for its answer."""

    message_id: str


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A call of :meth:`SqlStore.standing` waiting for its answer."""

    message_id: str
    correlation_id: str


def _take_turn(write: _Write, first: set[str]) -> bool:
    """Whether the write stands: it ends no message, or is the first to end it, in this batch too."""
    if not write.ends:
        return True
    message_id = write.ends[0].message_id
    stands = message_id in first
    first.discard(message_id)
    return stands
