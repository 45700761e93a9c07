"""Housekeeping of queues: promote due messages, drop expired ones, release those of dead holders.

None of it is part of a settlement or a claim. Each part is a short transaction of its own, queue after queue, so that a
backlog of one queue delays no other. A failure costs a log line. The next rounds continue.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from paigeant.database.prepared import execute
from paigeant.transports.channel import routes
from paigeant.transports.sql import routes as sql_routes
from paigeant.transports.sql import statements as sql
from paigeant.transports.sql.claims import Claims
from paigeant.transports.sql.leases import Leases
from paigeant.transports.sql.publishing import Publishing
from paigeant.transports.sql.session import SqlSession, Transaction

log = structlog.stdlib.get_logger("paigeant.transport")

T = TypeVar("T")
Part = Callable[[Transaction, int], int]
"""Changes up to so many rows; how many it has changed."""

_ROUND, _LEAST_PARTS = 0.05, 5
"""Seconds after which no further part is begun, and how many parts are done all the same."""


class Pace:
    """How many rows a part may change: as many as take a hundredth of a second on this server."""

    LEAST, MOST = 10, 500
    _QUICK, _SLOW = 0.01, 0.04

    def __init__(self) -> None:
        self.size = 100

    def took(self, seconds: float) -> None:
        """Note that a part of this size succeeded."""
        if seconds < self._QUICK:
            self.size = min(self.MOST, self.size * 2)
        elif seconds > self._SLOW:
            self.failed()

    def failed(self) -> None:
        """Note that a part was cancelled, perhaps because it took too long."""
        self.size = max(self.LEAST, self.size // 2)


class Interval:
    """Seconds between two queries: a minimum, and more if a query is slow, so that it costs a twentieth of the time."""

    _SHARE = 20

    def __init__(self, least: float) -> None:
        self._least = least
        self.every = least

    def timed(self, look: Callable[[], T]) -> T:
        """Make the query, and note how long it took."""
        began = time.monotonic()
        found = look()
        self.every = max(self._least, self._SHARE * (time.monotonic() - began))
        return found


class Housekeeping:
    """Promotes the due messages of its own queues, and cleans up expired and abandoned messages of all queues.

    ``every``: seconds between two looks at what expired or was left by the dead; ``look_every``: at what is due.
    """

    def __init__(
        self,
        session: SqlSession,
        leases: Leases,
        claims: Claims,
        publishing: Publishing,
        every: float,
        look_every: float,
    ) -> None:
        self._session = session
        self._leases = leases
        self._claims = claims
        self._publishing = publishing
        self._looking_due, self._looking_round = Interval(look_every), Interval(every)
        self._pace = Pace()
        self._first_part = 0
        self._tidied_at = float("-inf")
        self._looked_at = float("-inf")
        self._rest_until = 0.0
        self._pause = 0.0
        self.has_more = False
        """Whether the last round left something undone."""

    def keep(self, names: tuple[str, ...], *, is_alone: bool = False) -> None:
        """Do one round for these queues. A failed part is repeated later.

        Raises:
            DBAPIError: the connection is broken, and nobody waits for anything else (``is_alone``).
        """
        if time.monotonic() < self._rest_until:
            return
        try:
            self._round(names)
        except SQLAlchemyError as error:
            self._rest(error)
            if is_alone and isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            if not names:  # who listens finds out by itself that its connection is broken
                self._session.forget_reader()
        else:
            self._pause = 0.0

    def _rest(self, error: SQLAlchemyError) -> None:
        if not self._pause:
            log.warning("could not tidy up the queues, trying again", error=str(error).splitlines()[:1])
        self._pace.failed()
        self._pause = min(max(0.05, self._pause * 2), 5.0)
        self._rest_until = time.monotonic() + self._pause
        self.has_more = True

    def _round(self, names: tuple[str, ...]) -> None:
        tidying = self._tidying()
        parts = deque([*self._promoting(names), *tidying])
        parts.rotate(-self._first_part % max(1, len(parts)))  # another one is the first each time
        give_up, done = time.monotonic() + _ROUND, 0
        while parts and (done < _LEAST_PARTS or time.monotonic() < give_up):
            part, done = parts.popleft(), done + 1
            if self._is_unfinished(part):
                parts.append(part)
        self._first_part += done
        if any(part in parts for part in tidying):
            self._tidied_at = float("-inf")
        self.has_more = bool(parts)

    def _is_unfinished(self, part: Part) -> bool:
        size = self._pace.size

        def change(at: Transaction) -> tuple[int, float]:
            began = time.monotonic()
            return part(at, size), time.monotonic() - began

        changed, seconds = self._session.transact(change)
        if changed:
            self._claims.look_again()
        if changed < size:
            return False
        self._pace.took(seconds)
        return True

    # --- due messages --------------------------------------------------------------------------------------------

    def _promoting(self, names: tuple[str, ...]) -> list[Part]:
        """Promote due messages now and then, because a process that always settles would never look for them."""
        now = self._session.database.now()
        due_at = self._claims.due_at
        is_ours = names == self._claims.names
        is_known = 0 <= now - self._looked_at < self._looking_due.every and (due_at is None or now < due_at)
        if not names or (is_ours and is_known):
            return []
        self._looked_at = now
        dues = self._looking_due.timed(lambda: self._session.read(lambda reader: self._claims.dues(reader, names)))
        return [_promote(name) for name, due in dues.items() if due <= now]

    # --- what expired, and what the dead have left ---------------------------------------------------------------

    def _tidying(self) -> list[Part]:
        now = self._session.database.now()
        if 0 <= now - self._tidied_at < self._looking_round.every:
            return []
        self._tidied_at = now
        self._publishing.forget_limits()
        self._claims.look_again()
        return self._looking_round.timed(lambda: self._left_over(now, self._leases.holder.id))

    def _left_over(self, now: float, me: str) -> list[Part]:
        if self._session.read(lambda reader: self._is_somebody_dead(reader, now, me)):
            self._session.transact(lambda at: _bury(at, me))
        strays = self._session.read(lambda reader: reader.execute(sql.strays).scalars().all())
        return [*map(_free, strays), *self._session.read(lambda reader: self._expiring(reader, now))]

    def _is_somebody_dead(self, reader: Connection, now: float, me: str) -> bool:
        found = reader.execute(sql.dead, {"now": now, "me": me}).first()
        return found is not None and self._leases.may_judge(reader)

    def _expiring(self, reader: Connection, now: float) -> Sequence[Part]:
        names = reader.execute(sql.overdue, {"now": now}).scalars().all()
        arguments = sql_routes.arguments_of(reader, names) if names else {}
        return [self._dropping(name, arguments.get(name, {})) for name in names]

    def _dropping(self, name: str, arguments: Any) -> Part:
        def drop(at: Transaction, most: int) -> int:
            return int(execute(at.writer, sql.drop_overdue, {"name": name, "now": at.now, "most": most}).rowcount)

        def pass_on(at: Transaction, most: int) -> int:
            rows = execute(at.writer, sql.overdue_in, {"name": name, "now": at.now, "most": most}).all()
            return sum(self._publishing.is_dropped(at, row, "expired") for row in rows)

        return pass_on if routes.has_dead_letters(arguments) else drop


def _promote(name: str) -> Part:
    def promote(at: Transaction, most: int) -> int:
        return int(execute(at.writer, sql.promote, {"name": name, "now": at.now, "most": most}).rowcount)

    return promote


def _free(stray: Any) -> Part:
    def free(at: Transaction, most: int) -> int:
        return int(execute(at.writer, sql.free_stray, {"stray": stray, "most": most}).rowcount)

    return free


def _bury(at: Transaction, me: str) -> int:
    return int(execute(at.writer, sql.bury, {"now": at.now, "me": me, "most": Pace.MOST}).rowcount)
