"""One SQL database, SQLite or PostgreSQL, as the SQL transport and the SQL store both use it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from paigeant.database import clock as clocks
from paigeant.database import disk, migrations, sqlite
from paigeant.database.address import address_of
from paigeant.errors import ConfigurationError, SchemaTooOld
from paigeant.runtime.clock import Clock

T = TypeVar("T")

_ASK_EVERY = 5.0
"""Seconds. In this time, the clocks of two machines drift apart by less than a millisecond."""

_FORBIDDEN = ("42501", "3F000")
"""PostgreSQL: the role lacks the right, or the use of a schema."""

MOMENT = 2.0
"""Seconds that an answer of PostgreSQL may be in transit."""


DATABASES: WeakSet[Database] = WeakSet()
"""Every database object of this process."""

_OF_THE_PARENT: list[Connection] = []
"""Connections that a fork copied into this process. They stay referenced, because the last reference closes them."""


class Database:
    """Connections to one database, with the settings that durability needs.

    Each thread opens its own: :meth:`writer` for transactions that begin with the write lock, :meth:`reader` for
    statements that each see the latest commit.
    """

    def __init__(self, url: str, clock: Clock | None = None, *, longest_statement: float = 15.0) -> None:
        """PostgreSQL ends a statement after ``longest_statement`` seconds; no answer a moment later is an error."""
        self.url = address_of(url)
        self._clock = clocks.DatabaseClock(clock)
        self.schema = ""
        """PostgreSQL: the schema of the tables, known after :meth:`migrate`."""
        self.engine = _engine(self.url, longest_statement)
        self._reading = _reading(self.engine)
        self._opened = WeakSet[Connection]()
        DATABASES.add(self)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in this process only."""
        return self.is_sqlite and self.url.database in (None, "", ":memory:")

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database, or None."""
        name = self.url.database or ""
        return Path(name) if self.is_sqlite and not self.in_memory and not name.startswith("file:") else None

    @property
    def file_system(self) -> str | None:
        """The type of the network file system that has the SQLite file, or None."""
        return disk.remote_file_system(self.path) if self.path is not None else None

    def is_pooled(self, connection: Connection) -> bool:
        """Return whether the connection leads to a pooler in front of the PostgreSQL server."""
        return bool(getattr(connection.connection.driver_connection, "is_pooled", False))

    def now(self) -> float:
        """Return epoch seconds, the same for all users of this database, whatever their own clocks show."""
        return self._clock.now()

    def synchronise(self, connection: Connection) -> None:
        """Ask the database for the time. Call this before granting anything until a given time.

        That is, in the transaction that takes or renews a lease. A clock that was given is not asked.
        """
        if not self.is_sqlite:
            self._clock.ask_server(connection)
        elif not self.in_memory:
            self._clock.ask_file(connection)

    def now_by(self, connection: Connection) -> float:
        """Return :meth:`now`, after asking the database if the last time was long ago."""
        if self._clock.is_older_than(_ASK_EVERY):
            self.synchronise(connection)
        return self.now()

    def writer(self) -> Connection:
        """Open a connection whose transactions take the write lock at once."""
        return self._noted(self.engine.connect())

    def reader(self) -> Connection:
        """Open a connection without transactions: every statement sees what is committed."""
        return self._noted(self._reading.connect())

    def _noted(self, connection: Connection) -> Connection:
        self._opened.add(connection)
        return connection

    def forget_after_fork(self) -> None:
        """Leave all connections to the parent process, in a child that ``os.fork`` has just made.

        Nothing is closed: closing would end the parent's sessions at the server, and a SQLite connection must not be
        used, not even to close it, in another process than its own. A database in memory is the child's own copy.
        """
        if not self.in_memory:
            _OF_THE_PARENT.extend(self._opened)
            self._opened = WeakSet()
            self.engine.dispose(close=False)
            self._reading = _reading(self.engine)

    def check(self, connection: Connection) -> None:
        """Check that the connection still leads to the database of the URL. A SQLite file may have been replaced.

        Raises:
            OperationalError: it does not; a new connection does.
        """
        if self.is_sqlite:
            sqlite.refuse_replaced(connection.info)

    def dispose(self) -> None:
        """Close the connections that are open."""
        self.engine.dispose()
        self._reading = _reading(self.engine)  # it shares the connections, which are new ones now

    def version_of(self, reader: Connection) -> int:
        """Return a number that changes when anyone else commits (SQLite). Elsewhere it always changes."""
        if not self.is_sqlite or self.in_memory:
            return time.monotonic_ns()
        self.check(reader)
        return sqlite.version_of(reader)

    def migrate(self, component: str) -> None:
        """Bring the tables of a component (a package with a ``migrations`` folder) and the clock up to date.

        If they are up to date, as for every process but the first, this writes and locks nothing.

        Raises:
            SchemaTooNew: a newer release has changed what this one relies on.
            SchemaTooOld: the tables lack something, and the role of the URL may not change them.
        """
        if self.path is not None:
            sqlite.warn_of_remote(self.path)
        with self._permitted(component), self.reader() as reader:
            if not migrations.is_current(component, migrations.schema_of(reader, component)):
                with self.writer() as writer:
                    retrying(lambda: migrations.migrate(writer, component))
            self.synchronise(reader)
            if not self.is_sqlite:
                self.schema = str(reader.execute(text("SELECT current_schema()")).scalar_one())

    @contextmanager
    def _permitted(self, component: str) -> Iterator[None]:
        """Turn a missing right of the role into a clear error."""
        try:
            yield
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _FORBIDDEN:
                raise
            role = self.url.username
            raise SchemaTooOld(
                f"the {component} tables must be created or changed, and {role!r} may not: {error.orig}",
                hint="run this as the role that owns the tables, and grant the other its rights: paigeant migrate",
            ) from error

    def schema_of(self, component: str) -> tuple[int, int]:
        """Return the newest migration of the component's tables (0 without tables), and the newest known one.

        Raises:
            SchemaTooNew: as :meth:`migrate`.
        """
        found = migrations.Schema()
        if self.path is None or self.path.exists():  # looking makes no file
            with self.reader() as reader:
                found = migrations.schema_of(reader, component)
        missing = migrations.missing(component, found)
        return found.applied, missing[-1].number if missing else found.applied


def retrying(call: Callable[[], T], patience: float = 30.0) -> T:
    """Repeat the call while it fails for a passing reason (lock, deadlock, serialisation)."""
    deadline = time.monotonic() + patience
    pause = 0.01
    while True:
        try:
            return call()
        except DBAPIError as error:
            if not is_transient(error) or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 0.5)


def is_transient(error: DBAPIError) -> bool:
    """Return whether the same transaction may succeed if it is repeated."""
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return code in ("40001", "40P01", "55P03")
    return isinstance(error.orig, sqlite3.OperationalError) and sqlite.is_busy(error.orig)


def _engine(url: URL, longest_statement: float) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return sqlite.engine_of(url)
        from paigeant.database import postgresql

        return postgresql.engine_of(url, longest_statement, longest_statement + MOMENT)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{url.drivername!r} needs {error.name!r}, which is not installed", hint='pip install "paigeant[postgres]"'
        ) from error


def _reading(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return sqlite.reading(engine)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def unreachable_as(kind: type[Exception], what: str) -> Iterator[None]:
    """Turn errors of the database into errors of paigeant."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        reason = (str(error.orig or error).strip() or type(error.orig).__name__).splitlines()[0]
        raise kind(f"{what}: {reason}") from error
