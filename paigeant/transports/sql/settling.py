"""Settlements: acknowledge, publish and record in one transaction, once, and only for the holder of the delivery."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, select

from paigeant.database.prepared import execute
from paigeant.events import StepEnded
from paigeant.transport import Delivery, Ledger, Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql import statements as sql
from paigeant.transports.sql.holder import Tag
from paigeant.transports.sql.leases import Leases
from paigeant.transports.sql.publishing import Publishing
from paigeant.transports.sql.session import Transaction


class Settling:
    """Makes settlements. With a ledger, their events are recorded in the same transaction."""

    def __init__(self, leases: Leases, publishing: Publishing, ledger: Ledger | None) -> None:
        self.ledger = ledger
        self._leases = leases
        self._publishing = publishing

    def settle(self, at: Transaction, settlements: Sequence[Settlement]) -> list[bool]:
        """Make the settlements. Returns whether each was accepted."""
        if not settlements:
            return []
        mine = self._leases.acknowledge(at, [s.delivery for s in settlements if s.delivery and not s.is_unconditional])
        accepted, valid = [], []
        for one in settlements:
            tag = one.delivery.tag if one.delivery else None
            is_valid = one.is_unconditional or tag in mine
            done_before = one.tried and tag not in mine and self._was_made(at.writer, one)
            mine.discard(tag)  # a second settlement of the same delivery is rejected
            accepted.append(is_valid or done_before)
            if is_valid and not done_before:
                valid.append(one)
        self._publishing.publish(at, [(outgoing, one.expires) for one in valid for outgoing in one.outgoing])
        self._record(at, valid)
        self._release(at, valid)
        return accepted

    def conclude(self, settlements: Sequence[Settlement], accepted: Sequence[bool]) -> None:
        """Note that the transaction is committed."""
        holder = self._leases.holder
        holder.is_sure()
        for settlement, ok in zip(settlements, accepted, strict=True):
            if settlement.delivery is not None:
                holder.held.pop(settlement.delivery.tag, None)
                settlement.delivery.lease.lost |= not ok

    def reject(self, at: Transaction, delivery: Delivery) -> bool:
        """Drop the delivery, or send it to its queue's dead letter exchange. Returns False if its lease was lost.

        Raises:
            TransportError: the dead letter exchange leads nowhere; the delivery is still held.
        """
        row, token = delivery.tag
        me = self._leases.holder.id
        found = execute(at.writer, sql.one_of_mine, {"me": me, "row": row, "claim": token}).first()
        if found is not None:
            self._publishing.drop(at, found, "rejected")
        return found is not None

    def _record(self, at: Transaction, settlements: Sequence[Settlement]) -> None:
        if self.ledger is not None and (events := [event for one in settlements for event in one.record]):
            self.ledger.write(at.writer, events)
            at.news.happened(events)

    def _release(self, at: Transaction, settlements: Sequence[Settlement]) -> None:
        tags: list[tuple[Tag, float | None]] = []
        for one in settlements:
            if one.delivery is not None and one.release_after is not None:
                tags.append((one.delivery.tag, at.now + one.release_after if one.release_after > 0 else None))
                at.news.came(one.delivery.queue, one.release_after)
        self._leases.give_back(at, tags)

    def _was_made(self, writer: Connection, one: Settlement) -> bool:
        """Return whether an earlier try was committed although its connection broke. Then nothing is left to do."""
        if one.release_after is not None:
            return False
        if one.delivery is None:
            return self._was_sent(writer, [outgoing for outgoing in one.outgoing if outgoing.id])
        if one.delivery.tag in self._leases.holder.held:
            return True  # nobody else deletes a row that we have the lease of
        ends = [event for event in one.record if isinstance(event, StepEnded)]
        return bool(ends) and self.ledger is not None and self.ledger.recorded(writer, ends)

    def _was_sent(self, writer: Connection, sent: Sequence[Outgoing]) -> bool:
        if not sent:
            return False
        names = [one.name for one in sent]
        waiting: Any = select(sql.messages.c.id).where(sql.messages.c.message_id.in_(names)).limit(1)
        if self._finished(writer, [one.id for one in sent if one.id]):
            return True
        return writer.execute(waiting).first() is not None

    def _finished(self, writer: Connection, ids: Sequence[str]) -> Collection[str]:
        return () if self.ledger is None else self.ledger.finished(writer, ids)
