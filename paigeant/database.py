"""One SQL database, SQLite or PostgreSQL, as the SQL transport and the SQL store both use it."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool, StaticPool

from paigeant.clock import Clock, SystemClock
from paigeant.errors import ConfigurationError, SchemaTooNew
from paigeant.urls import masked

T = TypeVar("T")

BUSY_TIMEOUT = 60.0
"""Seconds a SQLite writer waits for its turn; transactions here take milliseconds."""

_TURN = (0.00005, 0.0004)
"""Seconds between two tries of a SQLite writer to get the lock, at random between these."""

_READ_ONLY = "paigeant_read"

_POSTGRES = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Limits that make a dead server an error in seconds rather than a wait for ever; the URL's own go before them."""

_MOMENT = 5.0
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
        connection = self.engine.connect()
        if self.is_sqlite:
            return connection.execution_options(**{_READ_ONLY: True})
        return connection.execution_options(isolation_level="AUTOCOMMIT")

    def dispose(self) -> None:
        """Close what is left open."""
        self.engine.dispose()

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
            retrying(lambda: _migrate(connection, component))
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
    return isinstance(error.orig, sqlite3.OperationalError) and _is_busy(error.orig)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _engine(url: URL, longest_statement: float) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url)
        return _postgres_engine(url, longest_statement)
    except NoSuchModuleError as error:
        raise ConfigurationError(f"{url.drivername!r} is not a database paigeant knows") from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{url.drivername!r} needs {error.name!r}, which is not installed", hint='pip install "paigeant[postgres]"'
        ) from error


def _postgres_engine(url: URL, longest_statement: float) -> Engine:
    given = url.query
    limits = {name: value for name, value in _POSTGRES.items() if name not in given}
    times = f"-c idle_in_transaction_session_timeout=60000 -c statement_timeout={longest_statement * 1000:.0f}"
    options = f"{times} {given.get('options', '')}".strip()
    engine = create_engine(url, poolclass=NullPool, connect_args={**limits, "options": options})
    if engine.driver == "psycopg":

        @event.listens_for(engine, "do_connect")
        def _connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> Any:
            from paigeant import postgresql

            return postgresql.connect(longest_statement + _MOMENT, tuple(arguments), parameters)

    return engine


def _sqlite_engine(url: URL) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    engine = create_engine(
        url,
        poolclass=StaticPool if in_memory else NullPool,
        # SQLAlchemy or we say BEGIN, never the driver.
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.text_factory = _text
        _patiently(connection, "PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(_READ_ONLY):
            _take_turn(connection)

    return engine


def _take_turn(connection: Connection) -> None:
    """Begin a transaction with the write lock.

    SQLite's own wait doubles its pauses up to a tenth of a second, so that of several busy processes the one that has
    just committed is nearly always the next; asking at short, random times hands the lock on.

    Raises:
        OperationalError: somebody else has kept it for ``BUSY_TIMEOUT``.
    """
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + BUSY_TIMEOUT
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while (trouble := _begin_at_once(driver)) is not None:
            if not _is_busy(trouble):
                raise OperationalError("BEGIN IMMEDIATE", None, trouble) from trouble
            if time.monotonic() > deadline:
                text = f"database is locked: another program has been writing for {BUSY_TIMEOUT:g} s; end it"
                raise OperationalError("BEGIN IMMEDIATE", None, sqlite3.OperationalError(text)) from trouble
            time.sleep(random.uniform(*_TURN))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")


def _begin_at_once(driver: sqlite3.Connection) -> sqlite3.OperationalError | None:
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        return error
    return None


def _text(value: bytes) -> str:
    """SQLite does not check what a program writes as text; not even such a row may stop a worker."""
    return value.decode(errors="replace")


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """SQLite does not use its busy timeout while the journal mode changes."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def unreachable_as(kind: type[Exception], what: str) -> Iterator[None]:
    """Turn a database's errors into ours."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        reason = (str(error.orig or error).strip() or type(error.orig).__name__).splitlines()[0]
        raise kind(f"{what}: {reason}") from error


# --- migrations: numbered SQL files beside the component, applied once each ---------------------------------------

_TYPES = {
    "sqlite": {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB", "double": "REAL"},
    "postgresql": {
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "bytes": "BYTEA",
        "double": "DOUBLE PRECISION",
    },
}


def migrations_of(component: str) -> list[tuple[int, str]]:
    """The numbered migrations of a component: (number, SQL)."""
    folder = files("paigeant").joinpath(component, "migrations")
    scripts = sorted((item.name, item.read_text()) for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(int(name.split("_")[0]), script) for name, script in scripts]


def _migrate(connection: Connection, component: str) -> None:
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7302914430)"))
        connection.execute(
            text("CREATE TABLE IF NOT EXISTS paigeant_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)")
        )
        found: Any = connection.execute(
            text("SELECT version FROM paigeant_schema WHERE component = :component"), {"component": component}
        ).scalar()
        migrations = migrations_of(component)
        newest = migrations[-1][0]
        if found is not None and found > newest:
            raise SchemaTooNew(
                f"the {component} tables have version {found}, this release knows {newest}",
                hint="upgrade paigeant here as well",
            )
        for number, script in migrations:
            if number > (found or 0):
                _run(connection, script)
        if found != newest:
            connection.execute(
                text(
                    "INSERT INTO paigeant_schema (component, version) VALUES (:component, :version)"
                    " ON CONFLICT (component) DO UPDATE SET version = excluded.version"
                ),
                {"component": component, "version": newest},
            )


def _run(connection: Connection, script: str) -> None:
    types = _TYPES[connection.dialect.name]
    for statement in script.split(";"):
        if statement.strip():
            connection.exec_driver_sql(re.sub(r"\{(\w+)\}", lambda found: types[found[1]], statement))
