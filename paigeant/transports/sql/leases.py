"""The leases of one process: one row leases all its deliveries. When the row expires, they are free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError

from paigeant.database import Database
from paigeant.database.prepared import execute
from paigeant.runtime.clock import boot_time
from paigeant.transport import Delivery
from paigeant.transports.sql import statements as sql
from paigeant.transports.sql.holder import Holder, Tag
from paigeant.transports.sql.session import Transaction

_SERVER = text(
    "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()), pg_last_wal_replay_lsn() IS NOT NULL"
    " AND left(pg_walfile_name(pg_current_wal_lsn()), 8) <> '00000001'"
)
"""For how many seconds the server is up, and whether it may have been a standby until lately: it has replayed a log,
and its timeline is not the first.
"""


class Leases:
    """The deliveries that this process holds. ``given_back`` is called when a message is free again."""

    def __init__(self, database: Database, lease_seconds: float, given_back: Callable[[], None]) -> None:
        self.holder = Holder(lease_seconds)
        self._database = database
        self._given_back = given_back
        self._met_at: float | None = None
        self._lost_at: float | None = None

    # --- our own -------------------------------------------------------------------------------------------------

    def keep(self, at: Transaction) -> None:
        """Renew this holder's row in time. If the row is gone, every lease is lost and a new holder starts.

        This comes first in every transaction that claims, so a holder that was found dead can never claim again
        under its old name, and its late settlements name an owner that no row has.
        """
        holder = self.holder
        if holder.id and not holder.is_due(at.now):
            return
        asked_at = boot_time()
        self._database.synchronise(at.writer)
        now = self._database.now()
        until = now + holder.lease_seconds
        if holder.id and not at.writer.execute(sql.renew, {"me": holder.id, "until": until}).rowcount:
            holder.lose_all()
        if not holder.id:
            holder.id = uuid4().hex
            at.writer.execute(insert(sql.holders), {"id": holder.id, "expires_at": until})
        else:
            self._give_back_unknown(at)
        holder.renews(now, asked_at)

    def beat(self) -> None:
        """Renew the leases from another thread. If they were lost, the queue's own thread notices it later."""
        with self._database.writer() as connection, connection.begin():
            self._database.synchronise(connection)
            until = self._database.now() + self.holder.lease_seconds
            connection.execute(sql.renew, {"me": self.holder.id, "until": until})

    def acknowledge(self, at: Transaction, deliveries: Sequence[Delivery]) -> set[Tag | None]:
        """Delete the rows that still have the token of their claim. Returns the tags of those rows."""
        claimed: dict[int, list[int]] = {}
        for delivery in deliveries:
            row, token = delivery.tag
            claimed.setdefault(token, []).append(row)
        gone: set[Tag | None] = set()
        for token, rows in claimed.items():
            found = execute(at.writer, sql.still_mine, {"me": self.holder.id, "claim": token, "rows": rows})
            gone.update((row, token) for row in found.scalars())
        return gone

    def give_back(self, at: Transaction, tags: Sequence[tuple[Tag, float | None]]) -> None:
        """Release the deliveries with these tags, each due at its time (None: now)."""
        rows = [{"me": self.holder.id, "row": row, "claim": token, "due": due} for (row, token), due in tags]
        if rows:
            at.writer.execute(sql.give_back, rows)
            self._given_back()

    def give_all_back(self, at: Transaction) -> None:
        """Release every delivery and delete this holder's row."""
        at.writer.execute(sql.give_all_back, {"me": self.holder.id})
        at.writer.execute(sql.resign, {"me": self.holder.id})
        for delivery in self.holder.held.values():
            at.news.came(delivery.queue)

    def _give_back_unknown(self, at: Transaction) -> None:
        """Release what a commit may have claimed whose answer was lost.

        Not only after trouble: a server may come to commit late what it was sent over a connection that is gone.
        """
        mine = [(row, token) for row, token in at.writer.execute(sql.mine, {"me": self.holder.id})]
        self.give_back(at, [(tag, None) for tag in mine if tag not in self.holder.held])

    # --- those of others -----------------------------------------------------------------------------------------

    def met(self) -> None:
        """Note that the database is reachable."""
        if self._met_at is None:
            self._met_at = self._database.now()

    def lost(self) -> None:
        """Note that the connection broke: perhaps no holder could renew its lease."""
        self._lost_at = self._database.now()

    def may_judge(self, reader: Connection) -> bool:
        """Return whether an expired lease proves that its holder died.

        It does when the holder could have renewed it: the server was up for one lease, and reachable from here.
        A standby that was promoted does not say when, so this process must have known it for one lease.
        """
        needed, now = self.holder.lease_seconds, self._database.now()
        if self._lost_at is not None and 0 <= now - self._lost_at < needed:
            return False
        if self._database.is_sqlite:
            return True
        self.met()
        up_for, was_standby = _about(reader)
        known_for = now - (self._met_at if self._met_at is not None else now)
        return up_for >= needed and (not was_standby or known_for >= needed)


def _about(reader: Connection) -> tuple[float, bool]:
    """For how many seconds the server is up, and whether it may have been a standby; so it is if it does not tell."""
    try:
        up_for, was_standby = reader.execute(_SERVER).one()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return float("inf"), True
    return float(up_for), bool(was_standby)
