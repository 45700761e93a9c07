"""One SQL database, SQLite or PostgreSQL, as the SQL transport and the SQL store both use it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool

from paigeant.clock import Clock, SystemClock
from paigeant.database import sqlite
from paigeant.database.migrations import migrate
from paigeant.errors import ConfigurationError
from paigeant.urls import masked

T = TypeVar("T")

_POSTGRES = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Limits that make a dead server an error in seconds rather than a wait for ever; the URL's own go before them."""

MOMENT = 2.0
"""Seconds that the answer may take on its way."""


def normalise(url: str) -> URL:
    """The SQLAlchemy URL: drivers filled in, ``postgres://`` understood.

    Raises:
        ConfigurationError: when the URL cannot be read.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"{masked(url)!r} is not a database URL", hint="for example sqlite:///paigeant.db"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


class Database:
    """Connections to one database, with the settings durability needs.

    Each thread opens its own: :meth:`writer` for transactions that begin with the write lock, :meth:`reader` for
    statements that each see the latest commit.
    """

    def __init__(self, url: str, clock: Clock | None = None, *, longest_statement: float = 60.0) -> None:
        """PostgreSQL ends a statement after ``longest_statement`` seconds; no answer a moment later is an error."""
        self.url = normalise(url)
        self._clock = clock or SystemClock()
        self._asks_server = clock is None
        self._skew = 0.0
        self.schema = ""
        """PostgreSQL: where the tables are; known after :meth:`migrate`."""
        self.engine = _engine(self.url, longest_statement)
        self._reading = _reading(self.engine)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in this process only."""
        return self.is_sqlite and self.url.database in (None, "", ":memory:")

    def now(self) -> float:
        """Epoch seconds by the database server's clock, so that machines with wrong clocks agree about leases."""
        return self._clock.now() + self._skew

    def synchronise(self, connection: Connection) -> None:
        """Measure how far the server's clock is from ours. SQLite has ours; a given clock stays as it is."""
        if self._asks_server and not self.is_sqlite:
            before = self._clock.now()
            server = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
            self._skew = float(server) - (before + self._clock.now()) / 2

    def writer(self) -> Connection:
        """A connection whose transactions take the write lock at once."""
        return self.engine.connect()

    def reader(self) -> Connection:
        """A connection without transactions: every statement sees what is committed."""
        return self._reading.connect()

    def dispose(self) -> None:
        """Close what is left open."""
        self.engine.dispose()
        self._reading = _reading(self.engine)  # it shares the connections, which are new ones now

    def version_of(self, reader: Connection) -> int:
        """A number that changes when anyone else commits (SQLite); elsewhere it always changes."""
        if not self.is_sqlite or self.in_memory:
            return time.monotonic_ns()
        # Asked a hundred times a second by every idle worker: without SQLAlchemy it costs 4 microseconds, not 80.
        driver: Any = reader.connection.driver_connection
        return int(driver.execute("PRAGMA data_version").fetchone()[0])

    def migrate(self, component: str) -> None:
        """Bring the tables of the component, a package with a ``migrations`` folder, up to date; and our clock.

        Raises:
            SchemaTooNew: a newer release was here before.
        """
        with self.writer() as connection:
            retrying(lambda: migrate(connection, component))
            self.synchronise(connection)
            if not self.is_sqlite:
                self.schema = str(connection.execute(text("SELECT current_schema()")).scalar_one())


def retrying(call: Callable[[], T], patience: float = 30.0) -> T:
    """Call again while the database only asks for another try (lock, deadlock, serialisation)."""
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
    """Whether the same transaction may succeed when it is run again."""
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return code in ("40001", "40P01", "55P03")
    return isinstance(error.orig, sqlite3.OperationalError) and sqlite.is_busy(error.orig)


def _engine(url: URL, longest_statement: float) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return sqlite.engine_of(url)
        return _postgres_engine(url, longest_statement)
    except NoSuchModuleError as error:
        raise ConfigurationError(f"{url.drivername!r} is not a database paigeant knows") from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{url.drivername!r} needs {error.name!r}, which is not installed", hint='pip install "paigeant[postgres]"'
        ) from error


def _reading(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return sqlite.reading(engine)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _postgres_engine(url: URL, longest_statement: float) -> Engine:
    given = url.query
    limits = {name: value for name, value in _POSTGRES.items() if name not in given}
    times = f"-c idle_in_transaction_session_timeout=60000 -c statement_timeout={longest_statement * 1000:.0f}"
    options = f"{times} {given.get('options', '')}".strip()
    engine = create_engine(url, poolclass=NullPool, connect_args={**limits, "options": options})
    if engine.driver == "psycopg":

        @event.listens_for(engine, "do_connect")
        def _connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> Any:
            from paigeant.database import postgresql

            return postgresql.connect(longest_statement + MOMENT, tuple(arguments), parameters)

    return engine


@contextmanager
def unreachable_as(kind: type[Exception], what: str) -> Iterator[None]:
    """Turn a database's errors into ours."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        reason = (str(error.orig or error).strip() or type(error.orig).__name__).splitlines()[0]
        raise kind(f"{what}: {reason}") from error
