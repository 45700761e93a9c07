"""SQLite: engines whose writers wait for each other, however many processes share the file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection, StaticPool

from paigeant.database import disk
from paigeant.runtime import private

log = structlog.stdlib.get_logger("paigeant.database")

BUSY_TIMEOUT = 60.0
"""Seconds that a SQLite writer waits for the write lock; transactions here take milliseconds."""

_LOCK_PAUSE = (0.00005, 0.0004)
"""Seconds between two tries of a SQLite writer to get the lock, at random between these."""

_dice = SystemRandom()
"""Not the numbers of the module ``random``: programs seed those, and this is drawn in a thread of its own."""


def engine_of(url: URL) -> Engine:
    """Return an engine whose connections wait for the write lock."""
    in_memory = url.database in (None, "", ":memory:")
    engine = create_engine(
        url,
        poolclass=StaticPool if in_memory else NullPool,
        # SQLAlchemy or we say BEGIN, never the driver.
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def _create(_dialect: object, _record: object, arguments: list[str], options: dict[str, Any]) -> None:
        if path := _file_to_create(arguments[0], is_uri=bool(options.get("uri"))):
            with suppress(OSError):  # SQLite raises the error, which explains more
                private.ensure(path)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info[File] = None if in_memory else File.of(connection)
        connection.text_factory = _text
        _patiently(connection, "PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    _explain(engine)
    # Not a listener for "begin": where there is one, SQLAlchemy looks for others at every statement.
    setattr(engine.dialect, "do_begin", _begin_writing)  # noqa: B010 - a method
    return engine


def _file_to_create(name: str, *, is_uri: bool) -> str | None:
    """Return the path of the file that SQLite would create for this name, or None if it would create none.

    We create it before SQLite does, so that other users cannot read it. SQLite gives the mode of this file to the files
    that it keeps beside it.
    """
    if is_uri and name.startswith("file:"):
        parts = urlsplit(name)
        name = unquote(parts.path)
        if dict(parse_qsl(parts.query)).get("mode", "rwc") != "rwc":
            return None
    return None if name in ("", ":memory:") else name


def files_of(url: URL) -> list[Path]:
    """Return the files that SQLite uses for a database: the database itself and the files beside it."""
    path = _file_to_create(url.database or "", is_uri="uri" in url.query)
    return [Path(f"{path}{ending}") for ending in ("", "-wal", "-shm", "-journal")] if path else []


def reading(engine: Engine) -> Engine:
    """Return an engine for readers, which never wait for the write lock."""
    reader = create_engine(engine.url, pool=engine.pool)
    _explain(reader)
    return reader


def _explain(engine: Engine) -> None:
    """Name the disk in errors that it causes, wherever they are logged or raised later."""

    @event.listens_for(engine, "handle_error")
    def _explained(context: ExceptionContext) -> None:
        error, told = context.original_exception, context.sqlalchemy_exception
        if isinstance(error, sqlite3.Error):
            before, after = str(error), disk.explained(error, str(engine.url.database))
            error.args = (after,)
            if told is not None:  # it has copied the text
                told.args = tuple(str(part).replace(before, after) for part in told.args)


def warn_of_remote(path: Path) -> None:
    """Warn once for each file on a network file system, where SQLite's locks and journal do not work."""
    if path not in _warned:
        _warned.add(path)
        if kind := disk.remote_file_system(path):
            log.warning(REMOTE.format(path=path, kind=kind), file=str(path), file_system=kind)


REMOTE = (
    "{path} is on a network file system ({kind}), where SQLite can lose or damage data when two machines use it: "
    "use a local disk, or PostgreSQL"
)
_warned: set[Path] = set()


@dataclass(frozen=True, slots=True)
class File:
    """The file that a connection has open, as it was under its name when the connection was opened."""

    path: str
    identity: tuple[int, int] | None

    @classmethod
    def of(cls, connection: sqlite3.Connection) -> File:
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        return cls(path, _identity(path))


_told: set[File] = set()
"""Files of which it was logged that they are gone."""


def refuse_replaced(info: Mapping[Any, Any]) -> None:
    """Raise an error if the connection's file is no longer the one under its name, because its writes would be lost.

    Raises:
        OperationalError: it was deleted or replaced; a new connection uses what is there now.
    """
    file: File | None = info.get(File)
    if file is not None and _identity(file.path) != file.identity:
        if file not in _told:
            _told.add(file)
            log.warning("the database file was deleted or replaced, opening it again", file=file.path)
        error = sqlite3.OperationalError(f"{file.path} was deleted or replaced while it was open")
        raise OperationalError("BEGIN", None, error, connection_invalidated=True) from error


def version_of(reader: Connection) -> int:
    """Return a number that changes when anyone else commits to the file. Other connections have other numbers."""
    # Asked fifty times a second by every idle worker: without SQLAlchemy it costs 4 microseconds, not 80.
    driver: Any = reader.connection.driver_connection
    return int(driver.execute("PRAGMA data_version").fetchone()[0])


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a hundred times a second: a Path takes three times as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin_writing(connection: PoolProxiedConnection) -> None:
    """Begin a transaction with the write lock.

    SQLite's own wait doubles its pauses up to a tenth of a second, so that of several busy processes the one that has
    just committed is nearly always the next; asking at short, random times hands the lock on.

    Raises:
        OperationalError: somebody else has kept it for ``BUSY_TIMEOUT``.
    """
    driver: Any = connection.driver_connection
    refuse_replaced(connection.info)
    deadline = time.monotonic() + BUSY_TIMEOUT
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while (trouble := _begin_at_once(driver)) is not None:
            if not is_busy(trouble):
                raise OperationalError("BEGIN IMMEDIATE", None, trouble) from trouble
            if time.monotonic() > deadline:
                text = f"database is locked: another program has been writing for {BUSY_TIMEOUT:g} s; end it"
                trouble.args = (text,)
                raise OperationalError("BEGIN IMMEDIATE", None, trouble) from trouble
            time.sleep(_dice.uniform(*_LOCK_PAUSE))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")


def _begin_at_once(driver: sqlite3.Connection) -> sqlite3.OperationalError | None:
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        return error
    return None


def _text(value: bytes) -> str:
    """Decode a text. SQLite does not check what a program writes as text, and no such row may stop a worker."""
    return value.decode(errors="replace")


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Repeat the call while the file is busy, because SQLite does not wait while the journal mode changes."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Return whether another connection is writing."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
