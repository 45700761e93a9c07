"""Queues in two tables of a SQL database: what our kombu transport over SQL does underneath.

A message is a row. Claiming it writes the holder's name and a new fencing token into the row; settling deletes the row
only where name and token still match. One heartbeat row per holder leases all its deliveries: when the row expires, any
process deletes it, and the messages of a holder without a row are free again. Everything that one
:meth:`SqlQueue.exchange` settles and claims is one transaction; housekeeping uses others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from paigeant.database import Database, sqlite
from paigeant.database.listener import LONGEST_SLEEP, QUEUE
from paigeant.database.prepared import execute
from paigeant.transport import Delivery, Ledger
from paigeant.transports.pump.contract import Glances
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql import notes as sql_notes
from paigeant.transports.sql import routes as sql_routes
from paigeant.transports.sql import statements as sql
from paigeant.transports.sql.claims import Claims
from paigeant.transports.sql.holder import Holder
from paigeant.transports.sql.housekeeping import Housekeeping, Pace
from paigeant.transports.sql.leases import Leases
from paigeant.transports.sql.publishing import Publishing
from paigeant.transports.sql.rows import delivery_of
from paigeant.transports.sql.session import SqlSession, Transaction
from paigeant.transports.sql.settling import Settling


class SqlQueue(SqlSession):
    """The queues of one database as one thread of one process uses them.

    ``poll`` are the seconds between two queries of an idle worker that no wake-up reaches: within a second after its
    last work, and later. A longer pause costs less CPU, and a message is noticed later. On a SQLite file
    such a look is one PRAGMA, and more follows only when somebody has written.
    """

    keeps_leases = True
    """Whether leases survive :meth:`disconnect`."""

    def __init__(self, database: Database, lease_seconds: float = 30.0, ledger: Ledger | None = None) -> None:
        super().__init__(database)
        self.poll = (0.005, 0.02) if database.is_sqlite else (0.02, 0.05)
        self._publishing = Publishing(self._look_again)
        self._claims = Claims(database, self._publishing)
        self._leases = Leases(database, lease_seconds, self._look_again)
        self._settling = Settling(self._leases, self._publishing, ledger)
        every = min(lease_seconds / 10, 5.0)
        self._house = Housekeeping(self, self._leases, self._claims, self._publishing, every, self.poll[1])
        self._is_restless = False
        self._glanced = -1
        self._busy_at = 0.0

    @property
    def holder(self) -> Holder:
        """This process as a holder of deliveries."""
        return self._leases.holder

    # --- connections -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and bring the tables up to date."""
        super().open()
        self._leases.met()

    def disconnect(self) -> None:
        """Drop the connections. They are opened again when needed, and leases stay."""
        super().disconnect()
        self._leases.lost()
        self._look_again()

    def close(self) -> None:
        """Release every delivery at once and disconnect."""
        try:
            if self.holder.id:
                self._commit(self._leases.give_all_back)
                super().finish()
        finally:
            self.holder.lose_all()
            self.disconnect()

    def enlist(self, ledger: Ledger) -> None:
        """Record the events of a settlement in its transaction from now on."""
        self._settling.ledger = ledger

    def renew(self) -> None:
        """Renew the leases now rather than when they are due."""
        self.holder.renewed_at = float("-inf")
        self._exchange([], (), 0)
        self.finish()

    def beat(self) -> None:
        """Renew the leases from another thread. If they were lost, the queue's own thread notices it later."""
        self._leases.beat()

    def _forget_doubtful(self) -> None:
        self.holder.is_unsure = True
        self._publishing.forget()
        self._look_again()

    def _look_again(self) -> None:
        self._glanced = -1
        self._claims.look_again()

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Iterable[str], arguments: Mapping[str, Any] | None = None) -> None:
        """Record the queues. Publishing to a queue records it too, so that a message waits there for any consumer.

        Raises:
            TransportError: a queue was declared with other arguments.
        """
        names = list(names)
        if arguments or sql_routes.undeclared(self._reader, names):
            self.write(lambda writer: sql_routes.declare_queues(writer, names, arguments or {}))
            self._publishing.forget_limits()
        self._publishing.declared(names)

    def ping(self, name: str) -> None:
        """Ask the database for an answer, whatever the queue. The cost does not depend on how many messages wait."""
        del name
        self._reader.execute(sql.ping)

    def depths(self) -> dict[str, int]:
        """Count the messages that wait in every queue, those not due yet included."""
        found = dict.fromkeys(self._reader.execute(select(sql_routes.queues.c.name)).scalars(), 0)
        for waiting in sql.depths_of:
            for name, count in self._reader.execute(waiting):
                found[name] = found.get(name, 0) + count
        return found

    def depth(self, name: str) -> int:
        """Count the messages that wait in the queue."""
        return sum(execute(self._reader, waiting, {"name": name}).scalar_one() for waiting in sql.depth_of)

    def purge(self, name: str) -> int:
        """Delete the messages that wait in the queue, part by part. Other processes may claim meanwhile."""
        return sum(self._all_parts(statement, name) for statement in (sql.purge, sql.purge_delayed))

    def delete(self, name: str) -> None:
        """Delete the queue with all its messages, those that are leased included."""
        self.purge(name)
        self._all_parts(sql.drop_out, name)
        self.write(lambda writer: sql_routes.delete_queue(writer, name))
        self._publishing.forget_limits()
        self._publishing.deleted(name)

    def _all_parts(self, statement: Any, name: str) -> int:
        """Repeat the statement until it changes no row. Returns how many rows it changed."""
        parameters, changed = {"name": name, "most": Pace.MOST}, 0
        while part := self.transact(lambda at: int(execute(at.writer, statement, parameters).rowcount)):
            changed += part
        return changed

    def note(self, key: str, seconds: float) -> None:
        """Store a fact for so many seconds."""
        self.write(lambda writer: sql_notes.note(writer, key, seconds, self.database.now()))

    def noted(self, key: str) -> bool:
        """Return whether this fact is stored."""
        return self.read(lambda reader: sql_notes.noted(reader, key, self.database.now()))

    # --- waiting ---------------------------------------------------------------------------------------------

    @property
    def patience(self) -> float | None:
        """Seconds that the thread may wait before the next exchange: until a poll, a heartbeat or a due message."""
        if not self._claims.names:
            return self.holder.lease_seconds / 6 if self.holder.id else None
        if self._listener.is_reliable or self.glances:
            return self._sleep()
        return self._poll

    @property
    def _poll(self) -> float:
        return self.poll[0] if time.monotonic() - self._busy_at < 1.0 else self.poll[1]

    @property
    def glances(self) -> Glances | None:
        """How a SQLite file is asked whether anyone has written; None for other databases."""
        if not self._claims.names or not self.database.is_sqlite or self.database.in_memory:
            return None
        return Glances(self._poll, self._has_news)

    def _has_news(self) -> bool:
        seen, self._glanced = self._glanced, sqlite.version_of(self._reader)
        return seen != self._glanced

    def _sleep(self) -> float:
        """Return seconds until a message can arrive without a wake-up: few after work, which may have locked rows."""
        if self._listener.has_news:
            return 0.0
        if self._is_restless or self._house.has_more:
            return self.poll[0]
        longest = min(LONGEST_SLEEP, self.holder.lease_seconds / 10)
        if self._claims.due_at is None:
            return longest
        due_in = self._claims.due_at - self.database.now()
        return min(longest, due_in) if due_in > 0 else self.poll[0]

    def _heard_of_ours(self) -> bool:
        """Return whether to look for messages: not if only wake-ups for other queues arrived."""
        names = self._claims.names
        if not names:
            return True
        self._listener.listen(self._reader, QUEUE)
        heard = self._listener.take()
        return not heard or any(those is None or not those.isdisjoint(names) for _, those in heard)

    def _has_work(self, wanted: int, concerns_us: bool) -> bool:
        if self.holder.id and self.holder.is_due(self.database.now()):
            return True
        return wanted > 0 and self._claims.something_came(self._reader, concerns_us)

    # --- the hop ---------------------------------------------------------------------------------------------

    def subscribe(self, names: Iterable[str], prefetch: int = 0) -> None:
        """Claim from these queues from now on. The limit of ``exchange`` says how much."""
        del prefetch
        self._claims.subscribe(names)
        self._publishing.forget_limits()

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        """Settle and claim in one transaction. Returns which settlements were accepted, and up to ``limit`` deliveries.

        Without work, nothing is written. :meth:`finish` notifies other processes.
        """
        wanted = limit if self._claims.names else 0
        concerns_us = self._heard_of_ours()
        if not settlements:
            self._house.keep(self._claims.names, is_alone=True)
            if not self._has_work(wanted, concerns_us):
                self._is_restless = self._claims.is_partial
                return [], []
        done = self._exchange(settlements, self._claims.names, wanted)
        self._is_restless = wanted > 0
        return done

    def finish(self) -> None:
        """Notify other processes of the last transactions, and do a round of housekeeping if it is due."""
        super().finish()
        if not self._listener.is_broken:
            self._house.keep(self._claims.names)

    def take(self, name: str, limit: int = 1) -> list[Delivery]:
        """Claim from this queue, subscribed to or not."""
        self._house.keep((name,))
        _, deliveries = self._exchange([], (name,), limit)
        self.finish()
        self._look_again()
        return deliveries

    def reject(self, delivery: Delivery) -> bool:
        """Drop the delivery, or send it to its queue's dead letter exchange. Returns False if its lease was lost.

        Raises:
            TransportError: the dead letter exchange leads nowhere; the delivery is still leased.
        """

        def transact(at: Transaction) -> bool:
            self._leases.keep(at)
            return self._settling.reject(at, delivery)

        accepted = self._commit(transact)
        self.finish()
        self._settling.conclude([Settlement(delivery=delivery)], [accepted])
        return accepted

    @property
    def counts_deliveries(self) -> bool:
        """Whether a queue that is subscribed to has a delivery limit."""
        return bool(self._publishing.delivery_limits(self._reader, self._claims.names))

    def _exchange(
        self, settlements: Sequence[Settlement], names: tuple[str, ...], wanted: int
    ) -> tuple[list[bool], list[Delivery]]:
        def transact(at: Transaction) -> tuple[list[bool], list[Row[Any]]]:
            if self.holder.id or wanted:
                self._leases.keep(at)
            accepted = self._settle(settlements, at)
            rows = self._claims.claim(at, self.holder.id, names, wanted)
            if len(rows) < wanted:  # nothing is left for others
                at.news.queues.difference_update(names)
            return accepted, rows

        accepted, rows = self._commit(transact)
        self._claims.concluded(len(rows), wanted)
        deliveries = [delivery_of(row, self.holder.term) for row in rows]
        self._settling.conclude(settlements, accepted)
        self.holder.held.update((delivery.tag, delivery) for delivery in deliveries)
        if settlements or deliveries:
            self._busy_at = time.monotonic()
        return accepted, deliveries

    def _settle(self, settlements: Sequence[Settlement], at: Transaction) -> list[bool]:
        return self._settling.settle(at, settlements)
