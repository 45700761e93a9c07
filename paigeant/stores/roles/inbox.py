"""The inbox of an SQL store: what every step asks, in groups.

All requests of one kind that are made at the same time are answered by the same few statements. Everything that is
recorded at the same time is written in one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, delete, or_, select

from paigeant.database.among import among
from paigeant.database.prepared import execute
from paigeant.events import Event, StepEnded, WorkflowDispatched
from paigeant.records.workflow import Standing, Status
from paigeant.store.messages import Inbox
from paigeant.stores import posted, rows
from paigeant.stores.access import Role
from paigeant.stores.groups import Order, Request
from paigeant.stores.history import FINISHED
from paigeant.stores.tables import outbox, workflows
from paigeant.transport import Ledger, Outgoing

# Built once, so that SQLAlchemy compiles them once and need not look whether it has.
_DONE_WITH = delete(outbox).where(among(outbox.c.message_id, "ids"))
_FOLLOWING = select(outbox).where(among(outbox.c.cause_id, "ids"))
_STEERED = select(workflows.c.correlation_id, workflows.c.status, workflows.c.cancel).where(
    among(workflows.c.correlation_id, "workflows"),
    or_(workflows.c.status != Status.RUNNING.value, workflows.c.cancel.is_not(None)),
)
_KNOWN = select(workflows.c.correlation_id).where(among(workflows.c.correlation_id, "workflows"))
_LATE = select(outbox.c.message_id).where(
    among(outbox.c.message_id, "ids"), or_(outbox.c.resent > 0, outbox.c.due_at < bindparam("before"))
)
_REMARKABLE = select(or_(FINISHED.exists(), _STEERED.exists(), _LATE.exists()))

_NEVER = 1e9
"""Seconds by which no message is late."""


class SqlInbox(Role, Inbox):
    """Records the end of each message once."""

    async def record(self, events: Sequence[Event], outbox: Sequence[Outgoing] = (), cause: str | None = None) -> bool:
        write = Write(events, outbox, cause)
        accepted: bool = await self.access.together(Request(Order.RECORD, self._write, write))
        return accepted

    async def successors(self, message_id: str) -> Sequence[Outgoing] | None:
        request = Request(Order.SUCCESSORS, self._successors, message_id)
        found: Sequence[Outgoing] | None = await self.access.together(request)
        return found

    async def standing(self, message_id: str, correlation_id: str, late_after: float = math.inf) -> Standing:
        doubt = Doubt(message_id, correlation_id, late_after)
        found: Standing = await self.access.together(Request(Order.STANDING, self._standings, doubt))
        return found

    async def knows(self, correlation_id: str) -> bool:
        return await self.access.asked_together(_known, correlation_id)

    def ledger(self) -> Ledger | None:
        return None if self.access.database.in_memory else self.access.ledger

    # --- recording -------------------------------------------------------------------------------------------

    def _write(self, writes: Sequence[Write]) -> list[bool]:
        """Write all of it in one transaction. Returns, for each write, whether it is recorded.

        The first write that ends a message is accepted, all others are refused. A refused write counts as recorded if
        an earlier try wrote it and its answer got lost.
        """
        access = self.access
        with access.writer.begin():
            accepted = self._write_together(access.writer, writes)
            recorded = [
                ok or access.ledger.recorded(access.writer, write.ends)
                for write, ok in zip(writes, accepted, strict=True)
            ]
        access.news += [event for write, ok in zip(writes, accepted, strict=True) if ok for event in write.events]
        return recorded

    def _write_together(self, writer: Connection, writes: Sequence[Write]) -> list[bool]:
        ledger = self.access.ledger
        first = ledger.end(writer, [write.ends[0] for write in writes if write.ends])
        answers = [_is_accepted(write, first) for write in writes]
        accepted = [write for write, ok in zip(writes, answers, strict=True) if ok]
        ledger.end(writer, [event for write in accepted for event in write.ends[1:]])
        ledger.note(writer, [event for write in accepted for event in write.events])
        following = [(one, write.cause) for write in accepted for one in write.outbox]
        posted.post(writer, self.access.database.now_by(writer), following, self.access.owner)
        if finished := [write.cause for write in accepted if write.cause]:
            begun = [first for write in accepted for first in write.begins]
            done = ledger.finished(writer, begun) if begun else ()
            execute(writer, _DONE_WITH, {"ids": [*finished, *done]})
        return answers

    # --- asking ----------------------------------------------------------------------------------------------

    def _successors(self, message_ids: Sequence[str]) -> list[Sequence[Outgoing] | None]:
        reader = self.access.reader
        done = self.access.ledger.finished(reader, message_ids)
        followed: dict[str, list[Outgoing]] = {message_id: [] for message_id in done}
        if done:
            now = self.access.database.now_by(reader)
            for row in reader.execute(_FOLLOWING, {"ids": list(done)}):
                followed[row.cause_id].append(rows.outgoing(row, now))
        return [followed.get(message_id) for message_id in message_ids]

    def _standings(self, doubts: Sequence[Doubt]) -> list[Standing]:
        """Return how these messages stand. For most of them one question finds that nothing is special."""
        reader = self.access.reader
        named = {"workflows": [doubt.correlation_id for doubt in doubts]}
        late_after = min(min(doubt.late_after for doubt in doubts), _NEVER)
        before = self.access.database.now() - late_after
        asked = {"ids": [doubt.message_id for doubt in doubts], "before": before}
        if not execute(reader, _REMARKABLE, {**asked, **named}).scalar():
            return [Standing()] * len(doubts)
        done = self._successors([doubt.message_id for doubt in doubts])
        found = reader.execute(_STEERED, named)
        steered = {
            row.correlation_id: Standing(status=rows.status_of(row.status), cancellation=rows.cancellation(row.cancel))
            for row in found
        }
        late = set(execute(reader, _LATE, asked).scalars()) if late_after < _NEVER else set()
        return [
            replace(steered.get(doubt.correlation_id, Standing()), done=one, is_late=doubt.message_id in late)
            for doubt, one in zip(doubts, done, strict=True)
        ]


def _known(reader: Connection, correlation_ids: Sequence[str]) -> list[bool]:
    known = set(execute(reader, _KNOWN, {"workflows": list(correlation_ids)}).scalars())
    return [one in known for one in correlation_ids]


@dataclass(frozen=True, slots=True)
class Write:
    """A call of :meth:`SqlInbox.record` that waits for its transaction."""

    events: Sequence[Event]
    outbox: Sequence[Outgoing]
    cause: str | None

    @property
    def ends(self) -> list[StepEnded]:
        """The attempts that ended: first that of the delivered message, then those that followed it in place."""
        return [event for event in self.events if isinstance(event, StepEnded)]

    @property
    def begins(self) -> list[str]:
        """The first messages of dispatched workflows.

        A step that waited for its children names them again when it ends. Children that have ended by then are not
        posted.
        """
        return [event.message_id for event in self.events if isinstance(event, WorkflowDispatched)]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call of :meth:`SqlInbox.standing` that waits for its answer."""

    message_id: str
    correlation_id: str
    late_after: float


def _is_accepted(write: Write, first: set[str]) -> bool:
    """Return whether the write ends no message, or is the first to end it, in this batch too."""
    if not write.ends:
        return True
    message_id = write.ends[0].message_id
    is_first = message_id in first
    first.discard(message_id)
    return is_first
