"""The one clock of leases, locks, timers and schedules: the database's time, extended by a monotonic clock.

A process reads the wall clock of its machine only to begin. Otherwise a correction by NTP or a resumed machine would
end the leases of others and make timers fire early.

* PostgreSQL: the process asks the server for the time when it connects, and again with each renewal of a lease.
* A SQLite file: the first process since the machine started writes into ``paigeant_clock`` when that start was. All
  processes count from there. The numbers remain seconds since 1970, for older releases and for people.
* SQLite in memory, or a system without a boot id: the process counts on from the time at which it began.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, text

from paigeant.runtime.clock import Clock, boot_time

_SERVER_TIME = text("SELECT extract(epoch FROM clock_timestamp())")
_TABLE = "CREATE TABLE IF NOT EXISTS paigeant_clock (boot TEXT PRIMARY KEY, started_at REAL NOT NULL)"
_FIND = text("SELECT started_at FROM paigeant_clock WHERE boot = :boot")
_BEGIN = text("INSERT INTO paigeant_clock (boot, started_at) VALUES (:boot, :started_at) ON CONFLICT DO NOTHING")


class DatabaseClock:
    """Seconds since 1970, the same for all users of one database. A clock that was given, as in tests, replaces it."""

    def __init__(self, given: Clock | None = None) -> None:
        self._given = given
        self._started_at = _machine_start()
        self._asked_at: float | None = None

    def now(self) -> float:
        """Seconds since 1970."""
        return self._started_at + boot_time() if self._given is None else self._given.now()

    def is_older_than(self, seconds: float) -> bool:
        """Return whether the database was last asked longer ago than this. A given clock never asks."""
        return self._given is None and (self._asked_at is None or boot_time() - self._asked_at > seconds)

    def ask_server(self, connection: Connection) -> None:
        """Measure the time of a PostgreSQL server. A slow answer changes the clock only as far as it proves."""
        if self._given is None:
            before = boot_time()
            server = float(connection.execute(_SERVER_TIME).scalar_one())
            after = boot_time()
            known = server - (before + after) / 2 if self._asked_at is None else self._started_at
            self._take_over(between(known, server - after, server - before))

    def ask_file(self, connection: Connection) -> None:
        """Adopt the time in a SQLite file. The first process since the machine started writes it there."""
        boot = boot_id()
        if self._given is None and boot is not None:
            found = connection.execute(_FIND, {"boot": boot}).scalar()
            if found is None:
                connection.execute(_BEGIN, {"boot": boot, "started_at": _machine_start()})
                found = connection.execute(_FIND, {"boot": boot}).scalar_one()
            self._take_over(float(found))

    def _take_over(self, started_at: float) -> None:
        self._started_at, self._asked_at = started_at, boot_time()


def make_table(connection: Connection) -> None:
    """Create the table for the time of a SQLite file."""
    connection.exec_driver_sql(_TABLE)


def between(value: float, lowest: float, highest: float) -> float:
    """Return the value, limited to the range."""
    return min(max(value, lowest), highest)


def _machine_start() -> float:
    """Return when the machine was started, if its wall clock is right now."""
    return time.time() - boot_time()


@cache
def boot_id() -> str | None:
    """Return an id of the current boot. All processes whose :func:`boot_time` agree have the same id.

    Returns None if the system has no such id.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot} {_time_namespace()}".strip()


def _time_namespace() -> str:
    """Return the id of the time namespace, because a container may count the seconds since boot differently."""
    try:
        return str(Path("/proc/self/ns/time").readlink())
    except OSError:
        return ""
