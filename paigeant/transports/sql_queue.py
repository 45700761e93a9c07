"""Queues in two tables of a SQL database: what our kombu transport over SQL does underneath.

A message is a row. Claiming it writes the holder's name and a new fencing token into the row; settling deletes the row
only where name and token still match. One heartbeat row per holder keeps all its leases: when the row expires, anyone
deletes it, and what is owned by a holder without a row is free again. Everything one :meth:`SqlQueue.exchange` does is
one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection, Row, delete, func, insert, select

from paigeant.database import Database
from paigeant.database.inserting import insert_new
from paigeant.database.listener import LONGEST_SLEEP, QUEUE
from paigeant.database.prepared import execute
from paigeant.errors import TransportError
from paigeant.events import StepEnded
from paigeant.transport import Delivery, Ledger
from paigeant.transports import routes, sql_routes
from paigeant.transports import sql_statements as sql
from paigeant.transports.settlement import Settlement
from paigeant.transports.sql_holder import Holder, Tag
from paigeant.transports.sql_rows import as_number, delivery_of, row_of, turn_of
from paigeant.transports.sql_session import SqlSession

log = structlog.stdlib.get_logger("paigeant.transport")


class SqlQueue(SqlSession):
    """The queues of one database as one thread of one process uses them.

    ``poll`` is how often an idle worker looks for messages where nobody wakes it, in seconds: while there was work
    within the last second, and later. It is what idling costs against how soon a message is noticed.
    """

    keeps_leases = True
    """Whether what is out stays ours over :meth:`disconnect`."""

    def __init__(self, database: Database, lease_seconds: float = 30.0, ledger: Ledger | None = None) -> None:
        super().__init__(database)
        self.ledger = ledger
        self.holder = Holder(lease_seconds)
        self.poll = (0.005, 0.02) if database.is_sqlite else (0.02, 0.05)
        self._subscription: tuple[str, ...] = ()
        self._limits: dict[str, int] | None = None
        self._tidy_at = 0.0
        self._due_at: float | None = None
        self._look_at = 0.0
        self._seen = -1
        self._may_have_more = True
        self._is_restless = False
        self._declared: set[str] = set()
        self._busy_at = 0.0

    # --- connections -----------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Drop the connections; they are opened again when needed. Leases stay."""
        super().disconnect()
        self._look_again()

    def close(self) -> None:
        """Give back every delivery at once and disconnect."""
        try:
            if self.holder.id:
                self.write(self._give_all_back)
        finally:
            self.holder.lose_all()
            self.disconnect()

    def _give_all_back(self, writer: Connection) -> None:
        writer.execute(sql.give_all_back, {"me": self.holder.id})
        writer.execute(sql.resign, {"me": self.holder.id})
        for delivery in self.holder.held.values():
            self._news.came(delivery.queue)

    def enlist(self, ledger: Ledger) -> None:
        """From now on record the events of a settlement in its transaction."""
        self.ledger = ledger

    def renew(self) -> None:
        """Renew the leases now rather than when they are due."""
        self.holder.renewed_at = float("-inf")
        self._exchange([], (), 0)
        self.finish()

    def beat(self) -> None:
        """Renew the leases from another thread. Whether they were lost, the queue's own thread will find out."""
        with self.database.writer() as connection, connection.begin():
            until = self.database.now() + self.holder.lease_seconds
            connection.execute(sql.renew, {"me": self.holder.id, "until": until})

    def _forget_doubtful(self) -> None:
        self.holder.is_unsure = True
        self._declared.clear()
        self._look_again()

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Iterable[str], arguments: Mapping[str, Any] | None = None) -> None:
        """Note the queues. Publishing to a queue does so too: a message waits there whoever comes first.

        Raises:
            TransportError: a queue was declared with other arguments.
        """
        names = list(names)
        if arguments or sql_routes.undeclared(self._reader, names):
            self.write(lambda writer: sql_routes.declare_queues(writer, names, arguments or {}))
            self._limits = None
        self._declared.update(names)

    def _note_queues(self, names: Iterable[str]) -> None:
        if new := set(names) - self._declared:
            sql_routes.declare_queues(self._writer, sorted(new), {})
            self._declared |= new

    def depths(self) -> dict[str, int]:
        """Every queue with the number of messages that wait in it, those not due yet included."""
        waiting = select(sql.messages.c.queue, func.count()).where(sql.free).group_by(sql.messages.c.queue)
        declared = dict.fromkeys(self._reader.execute(select(sql_routes.queues.c.name)).scalars(), 0)
        return declared | {row[0]: row[1] for row in self._reader.execute(waiting)}

    def depth(self, name: str) -> int:
        """How many messages wait in the queue."""
        waiting = select(func.count()).select_from(sql.messages).where(sql.messages.c.queue == name, sql.free)
        due, delayed = sql.messages.c.available_at.is_(None), sql.messages.c.available_at.is_not(None)
        return sum(self._reader.execute(waiting.where(kind)).scalar_one() for kind in (due, delayed))

    def purge(self, name: str) -> int:
        """Delete what waits in the queue."""
        waiting = delete(sql.messages).where(sql.messages.c.queue == name, sql.free)
        return self.write(lambda writer: writer.execute(waiting).rowcount)

    def delete(self, name: str) -> None:
        """Delete the queue with everything in it, what is out included."""

        def drop(writer: Connection) -> None:
            writer.execute(delete(sql.messages).where(sql.messages.c.queue == name))
            sql_routes.delete_queue(writer, name)

        self.write(drop)
        self._limits = None
        self._declared.discard(name)

    @property
    def patience(self) -> float | None:
        """How long the thread may wait before the next exchange: a poll, a heartbeat, or until it has something."""
        if not self._subscription:
            return self.holder.lease_seconds / 6 if self.holder.id else None
        if self._listener.is_reliable:
            return self._sleep()
        return self.poll[0] if time.monotonic() - self._busy_at < 1.0 else self.poll[1]

    def _sleep(self) -> float:
        """Until something can come without a wake-up; short after any work, for others may have held back rows."""
        if self._listener.has_news:
            return 0.0
        if self._is_restless:
            return self.poll[0]
        longest = min(LONGEST_SLEEP, self.holder.lease_seconds / 10)
        if self._due_at is None:
            return longest
        due_in = self._due_at - self.database.now()
        return min(longest, due_in) if due_in > 0 else self.poll[0]

    # --- the hop ---------------------------------------------------------------------------------------------

    def subscribe(self, names: Iterable[str], prefetch: int = 0) -> None:
        """From now on claim from these queues; ``exchange`` is told how much."""
        del prefetch
        self._subscription = tuple(dict.fromkeys(names))
        self._limits = None
        self._look_again()

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        """Settle and claim in one transaction: whether each settlement was accepted, and up to ``limit`` deliveries.

        Nothing is written when there is nothing to do, so an idle process costs one PRAGMA a poll. Others are told by
        :meth:`finish`.
        """
        wanted = limit if self._subscription else 0
        concerns_us = self._heard_of_ours()
        if not settlements and not self._has_work(self.database.now(), wanted, concerns_us):
            self._is_restless = False
            return [], []
        done = self._exchange(settlements, self._subscription, wanted)
        self._is_restless = wanted > 0
        return done

    def _heard_of_ours(self) -> bool:
        """Whether to look for messages: not when only wake-ups for others came."""
        if not self._subscription:
            return True
        self._listener.listen(self._reader, QUEUE)
        heard = self._listener.take()
        return not heard or any(names is None or not names.isdisjoint(self._subscription) for _, names in heard)

    def take(self, name: str, limit: int = 1) -> list[Delivery]:
        """Claim from this queue, subscribed to or not."""
        _, deliveries = self._exchange([], (name,), limit)
        self.finish()
        self._look_again()
        return deliveries

    def _exchange(
        self, settlements: Sequence[Settlement], names: tuple[str, ...], wanted: int
    ) -> tuple[list[bool], list[Delivery]]:
        def transact(_: Connection) -> tuple[list[bool], list[Row[Any]]]:
            now = self._begin(wanted)
            accepted, rows = self._settle(settlements, now), self._claim(names, wanted, now)
            if len(rows) < wanted:  # nothing is left for others
                self._news.queues.difference_update(names)
            return accepted, rows

        accepted, rows = self._commit(transact)
        self._may_have_more = len(rows) >= wanted
        deliveries = [delivery_of(row) for row in rows]
        self._conclude(settlements, accepted)
        self.holder.held.update((delivery.tag, delivery) for delivery in deliveries)
        if settlements or deliveries:
            self._busy_at = time.monotonic()
        return accepted, deliveries

    def _begin(self, wanted: int) -> float:
        """What comes first in every transaction that settles or claims; the time it goes by."""
        now = self.database.now()
        if self.holder.id or wanted:
            self._keep_lease(now)
        self._tidy(now)
        return now

    def _conclude(self, settlements: Sequence[Settlement], accepted: Sequence[bool]) -> None:
        """The transaction is committed."""
        self.holder.is_unsure = False
        for settlement, ok in zip(settlements, accepted, strict=True):
            if settlement.delivery is not None:
                self.holder.held.pop(settlement.delivery.tag, None)
                settlement.delivery.lease.lost |= not ok

    # --- is there anything to do? ----------------------------------------------------------------------------

    def _look_again(self) -> None:
        self._seen = -1
        self._may_have_more = True

    def _has_work(self, now: float, wanted: int, concerns_us: bool) -> bool:
        if self.holder.id and self.holder.is_due(now):
            return True
        if now >= self._tidy_at and self._is_untidy(now):
            return True
        return wanted > 0 and (
            self._is_due(now) or ((concerns_us or self._may_have_more) and self._something_came(now))
        )

    def _is_untidy(self, now: float) -> bool:
        if self._reader.execute(sql.untidy, {"now": now}).scalar():
            return True
        self._tidy_at = now + self._tidy_interval
        return False

    def _is_due(self, now: float) -> bool:
        return self._due_at is not None and self._due_at <= now

    def _something_came(self, now: float) -> bool:
        seen = self.database.version_of(self._reader)
        if seen == self._seen and not self._may_have_more:
            return False
        self._seen, self._may_have_more = seen, False
        due_at, waits = execute(self._reader, sql.look(self._subscription), {"now": now}).one()
        self._due_at = as_number(due_at)
        return bool(waits) or self._is_due(now)

    # --- leases ----------------------------------------------------------------------------------------------

    def _keep_lease(self, now: float) -> None:
        """Renew this holder's row in time; when it is gone every lease is lost and a new holder begins.

        This comes first in every transaction that claims, so a holder that was found dead can never claim again
        under its old name, and its late settlements name an owner that no row has.
        """
        holder = self.holder
        if holder.id and not holder.is_due(now):
            return
        until = now + holder.lease_seconds
        if holder.id and not self._writer.execute(sql.renew, {"me": holder.id, "until": until}).rowcount:
            holder.lose_all()
        if not holder.id:
            holder.id = uuid4().hex
            self._writer.execute(insert(sql.holders), {"id": holder.id, "expires_at": until})
        else:
            self._give_back_unknown()
        holder.renewed_at = now

    def _give_back_unknown(self) -> None:
        """A commit whose answer never came may have claimed messages; nobody here knows of them.

        Not only after trouble: a server may come to commit late what it was sent over a connection that is gone.
        """
        mine = [(row, token) for row, token in self._writer.execute(sql.mine, {"me": self.holder.id})]
        self._give_back([(tag, None) for tag in mine if tag not in self.holder.held])

    def _give_back(self, tags: Sequence[tuple[Tag, float | None]]) -> None:
        """Release what was claimed as these tags, each due at its time (None: now)."""
        rows = [{"me": self.holder.id, "row": row, "claim": token, "due": due} for (row, token), due in tags]
        if rows:
            self._writer.execute(sql.give_back, rows)
            self._look_again()

    # --- tidying up ------------------------------------------------------------------------------------------

    @property
    def _tidy_interval(self) -> float:
        return min(self.holder.lease_seconds / 10, 5.0)

    def _tidy(self, now: float) -> None:
        """Free what dead holders held, drop what expired, make due what was delayed."""
        if now >= self._tidy_at:
            self._tidy_at = now + self._tidy_interval
            self._limits = None
            self._writer.execute(sql.bury, {"now": now})
            if strays := self._writer.execute(sql.stray.distinct()).scalars().all():
                self._writer.execute(sql.free_strays, {"strays": strays})
            self._expire(now)
            self._look_again()
        if now >= self._look_at:  # a process that always has something to settle never comes to look otherwise
            self._look_at = now + self.poll[1]
            self._due_at = as_number(execute(self._writer, sql.next_due, {}).scalar())
        if self._is_due(now):
            self._writer.execute(sql.promote, {"now": now})
            self._look_again()

    def _expire(self, now: float) -> None:
        """Drop what expired; where the queue has a dead letter exchange, pass it on."""
        found = sql_routes.arguments_of(self._writer)
        passing_on = [name for name, arguments in found.items() if routes.has_dead_letters(arguments)]
        self._writer.execute(sql.drop_overdue, {"now": now, "passing_on": passing_on})
        for name in passing_on:
            for row in execute(self._writer, sql.overdue_in, {"now": now, "name": name}).all():
                self._is_dropped(row, "expired", now)

    def _drop(self, row: Row[Any], reason: str, now: float) -> None:
        """Take a message out of its queue and send it to the queue's dead letter exchange, if it has one.

        Raises:
            TransportError: the exchange leads nowhere; the message stays.
        """
        arguments = sql_routes.arguments_of(self._writer, [row.queue]).get(row.queue, {})
        letters: list[routes.Letter] = []
        if routes.has_dead_letters(arguments):
            lookup = sql_routes.Lookup(self._writer)
            letters = routes.dead_letters(lookup, delivery_of(row), row.priority, arguments, reason, now)
        self._writer.execute(delete(sql.messages).where(sql.messages.c.id == row.id))
        self._publish(letters, now)

    def _is_dropped(self, row: Row[Any], reason: str, now: float) -> bool:
        try:
            self._drop(row, reason, now)
        except TransportError as error:
            log.warning("a dead letter stays where it is", queue=row.queue, reason=reason, error=str(error))
            return False
        return True

    # --- settling --------------------------------------------------------------------------------------------

    def _settle(self, settlements: Sequence[Settlement], now: float) -> list[bool]:
        if not settlements:
            return []
        mine = self._acknowledge([s.delivery for s in settlements if s.delivery and not s.is_unconditional])
        accepted, standing = [], []
        for one in settlements:
            tag = one.delivery.tag if one.delivery else None
            stands = one.is_unconditional or tag in mine
            done_before = one.tried and tag not in mine and self._was_made(one)
            mine.discard(tag)  # a second settlement of the same delivery is refused
            accepted.append(stands or done_before)
            if stands and not done_before:
                standing.append(one)
        self._publish([(outgoing, one.expires) for one in standing for outgoing in one.outgoing], now)
        if self.ledger is not None and (events := [event for one in standing for event in one.record]):
            self.ledger.write(self._writer, events)
            self._news.happened(events)
        self._release(standing, now)
        return accepted

    def _release(self, settlements: Sequence[Settlement], now: float) -> None:
        tags: list[tuple[Tag, float | None]] = []
        for one in settlements:
            if one.delivery is not None and one.release_after is not None:
                tags.append((one.delivery.tag, now + one.release_after if one.release_after > 0 else None))
                self._news.came(one.delivery.queue, one.release_after)
        self._give_back(tags)

    def _acknowledge(self, deliveries: Sequence[Delivery]) -> set[Tag | None]:
        """Delete the rows that are still held under the token they were claimed with; the tags of those that were."""
        claimed: dict[int, list[int]] = {}
        for delivery in deliveries:
            row, token = delivery.tag
            claimed.setdefault(token, []).append(row)
        gone: set[Tag | None] = set()
        for token, rows in claimed.items():
            found = execute(self._writer, sql.still_mine, {"me": self.holder.id, "claim": token, "rows": rows})
            gone.update((row, token) for row in found.scalars())
        return gone

    def _was_made(self, one: Settlement) -> bool:
        """Whether an earlier try was committed although its connection broke: then there is nothing left to do."""
        if one.release_after is not None:
            return False
        if one.delivery is None:
            return self._was_sent([outgoing.id for outgoing in one.outgoing if outgoing.id])
        if one.delivery.tag in self.holder.held:
            return True  # nobody else deletes a row that we have the lease of
        us = [event.worker for event in one.record if isinstance(event, StepEnded)]
        return self._finished([one.delivery.id or ""]).get(one.delivery.id or "") in us

    def _was_sent(self, ids: Sequence[str]) -> bool:
        if not ids:
            return False
        waiting = select(sql.messages.c.id).where(sql.messages.c.message_id.in_(ids)).limit(1)
        return bool(self._finished(ids)) or self._writer.execute(waiting).first() is not None

    def _finished(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {} if self.ledger is None else self.ledger.finished(self._writer, ids)

    def reject(self, delivery: Delivery) -> bool:
        """Drop the delivery, or send it to its queue's dead letter exchange; False when it is not ours any more.

        Raises:
            TransportError: the dead letter exchange leads nowhere; the delivery is still held.
        """

        def transact(writer: Connection) -> bool:
            now = self._begin(0)
            row, token = delivery.tag
            found = execute(writer, sql.one_of_mine, {"me": self.holder.id, "row": row, "claim": token}).first()
            if found is not None:
                self._drop(found, "rejected", now)
            return found is not None

        accepted = self.write(transact)
        self._conclude([Settlement(delivery=delivery)], [accepted])
        return accepted

    # --- publishing and claiming -----------------------------------------------------------------------------

    def _publish(self, letters: Sequence[routes.Letter], now: float) -> None:
        """The same message id waits in a queue once, however often it is published. A message ages when it is due."""
        rows = [row_of(one, expires, now) for one, expires in letters]
        if rows:
            for one, _ in letters:
                self._news.came(one.queue, one.delay)
            self._note_queues(one.queue for one, _ in letters)
            execute(self._writer, insert_new(self._writer.dialect.name, sql.messages), rows)
            self._look_again()

    def _claim(self, names: tuple[str, ...], wanted: int, now: float) -> list[Row[Any]]:
        if not names:
            return []
        claimed: list[Row[Any]] = []
        while len(claimed) < wanted:
            arguments = {"me": self.holder.id, "wanted": wanted - len(claimed), "now": now}
            rows = execute(self._writer, sql.claim_from(names), arguments).all()
            limits = self._delivery_limits()
            kept = [row for row in rows if not self._is_worn_out(row, limits, now)] if limits else rows
            claimed += kept
            if len(kept) == len(rows):
                break
        return sorted(claimed, key=turn_of)

    def _delivery_limits(self) -> dict[str, int]:
        """How often the queues that say so let a message be delivered again before it is a dead letter."""
        if self._limits is None:
            found = sql_routes.arguments_of(self._reader)
            limits = {name: routes.delivery_limit(arguments) for name, arguments in found.items()}
            self._limits = {name: limit for name, limit in limits.items() if limit is not None}
        return self._limits

    @property
    def counts_deliveries(self) -> bool:
        """Whether a queue that is subscribed to has a delivery limit."""
        return bool(self._delivery_limits().keys() & set(self._subscription))

    def _is_worn_out(self, row: Row[Any], limits: Mapping[str, int], now: float) -> bool:
        limit = limits.get(row.queue)
        return limit is not None and row.deliveries - 1 > limit and self._is_dropped(row, "delivery_limit", now)
