"""Claiming messages: from which queues, when to look, and taking the ready ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from paigeant.database import Database
from paigeant.database.prepared import execute
from paigeant.transports.sql import heads
from paigeant.transports.sql.floors import Looks, walks
from paigeant.transports.sql.publishing import Publishing
from paigeant.transports.sql.rows import as_number, delivery_order
from paigeant.transports.sql.session import Transaction


class Claims:
    """The queues that this process claims from. It remembers what it has seen, so that idling costs almost nothing."""

    def __init__(self, database: Database, publishing: Publishing) -> None:
        self._database = database
        self._publishing = publishing
        self._looks = Looks()
        self.names: tuple[str, ...] = ()
        self.due_at: float | None = None
        """When the next delayed message of our queues is due, as far as is known."""
        self._seen = -1
        self._may_have_more = True
        self.is_partial = False
        """Whether the last look left out what a full one would find."""

    def subscribe(self, names: Iterable[str]) -> None:
        """Claim from these queues from now on."""
        self.names = tuple(dict.fromkeys(names))
        self._looks = Looks()
        self.due_at = None
        self.look_again()

    def look_again(self) -> None:
        """Look again, because a message may have become ready without a commit of another process."""
        self._seen = -1
        self._may_have_more = True

    # --- looking -------------------------------------------------------------------------------------------------

    def something_came(self, reader: Connection, concerns_us: bool) -> bool:
        """Return whether a message is ready or due in our queues."""
        now = self._database.now()
        if self._is_due(now):
            return True
        if not (concerns_us or self._may_have_more or self.is_partial):
            return False
        seen = self._database.version_of(reader)
        if seen == self._seen and not self._may_have_more:
            return False
        self._seen, self._may_have_more = seen, False
        due_at, waits = self._look(reader, now)
        self.due_at = as_number(due_at)
        return waits or self._is_due(now)

    def _is_due(self, now: float) -> bool:
        return self.due_at is not None and self.due_at <= now

    def _look(self, reader: Connection, now: float) -> tuple[Any, bool]:
        if self._database.is_sqlite:
            if len(self.names) > heads.MOST_QUEUES:
                return self._look_at_many(reader, now)
            due_at, waits = execute(reader, heads.look_in(self.names), {"now": now}).one()
            return due_at, bool(waits)
        began = time.monotonic()
        floors = self._looks.floors(self.names, began)
        arguments = {"names": self.names, "now": now, **walks(self.names, floors)}
        due_at, waits = execute(reader, heads.look_from_floors(), arguments).one()
        ended = time.monotonic()
        self._looks.learn(floors, (), ended - began, ended)
        self.is_partial = bool(floors) and not waits
        return due_at, bool(waits)

    def _look_at_many(self, reader: Connection, now: float) -> tuple[Any, bool]:
        due_at = min(self.dues(reader, self.names).values(), default=None)
        return due_at, bool(self._waiting(reader, self.names, now))

    def dues(self, reader: Connection, names: Sequence[str]) -> dict[str, float]:
        """Return when the first delayed message of each queue is due. Remembers the first of our queues."""
        rows = execute(reader, heads.dues(reader.dialect.name), {"names": names}).all()
        found = {name: due for name, value in rows if (due := as_number(value)) is not None}
        if names == self.names:
            self.due_at = min(found.values(), default=None)
        return found

    def _waiting(self, connection: Connection, names: Sequence[str], now: float) -> list[str]:
        rows = execute(connection, heads.waiting(connection.dialect.name), {"names": names, "now": now})
        return [row[0] for row in rows]

    # --- taking --------------------------------------------------------------------------------------------------

    def claim(self, at: Transaction, me: str, names: tuple[str, ...], wanted: int) -> list[Row[Any]]:
        """Claim up to so many ready messages for this holder: the most urgent first, then the oldest."""
        if not names or wanted <= 0:
            return []
        limits = self._publishing.delivery_limits(at.writer, names)
        claimed: list[Row[Any]] = []
        while len(claimed) < wanted:
            rows = self._ready(at, me, names, wanted - len(claimed))
            kept = [row for row in rows if not self._publishing.is_worn_out(at, row, limits)] if limits else rows
            claimed += kept
            if len(kept) == len(rows):
                break
        return sorted(claimed, key=delivery_order)

    def concluded(self, claimed: int, wanted: int) -> None:
        """Note that the transaction is committed."""
        self._may_have_more = claimed >= wanted

    def _ready(self, at: Transaction, me: str, names: tuple[str, ...], wanted: int) -> list[Row[Any]]:
        arguments = {"me": me, "wanted": wanted, "now": at.now}
        if not self._database.is_sqlite:
            return self._from_floors(at, names, arguments)
        if len(names) > heads.MOST_QUEUES:
            names = tuple(self._waiting(at.writer, names, at.now)[: heads.MOST_QUEUES])
        return list(execute(at.writer, heads.claim_in(names), arguments).all()) if names else []

    def _from_floors(self, at: Transaction, names: tuple[str, ...], arguments: dict[str, Any]) -> list[Row[Any]]:
        wanted = arguments["wanted"]
        began = time.monotonic()
        floors = self._looks.floors(names, began)
        rows = self._claim_from(at, names, floors, arguments)
        if not self._looks.is_enough(floors, len(rows), wanted):
            rows += self._claim_from(at, names, {}, arguments | {"wanted": wanted - len(rows)})
            floors = {}
        self.is_partial = bool(floors) and len(rows) < wanted
        return rows

    def _claim_from(self, at: Transaction, names: Sequence[str], floors: Any, arguments: dict[str, Any]) -> list[Any]:
        began = time.monotonic()
        rows = list(execute(at.writer, heads.claim_from_floors(), arguments | walks(names, floors)).all())
        ended = time.monotonic()
        self._looks.learn(floors, [(row.queue, row.priority, row.id) for row in rows], ended - began, ended)
        return rows
