"""SQLite: engines whose writers take turns, however many processes share the file."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, PoolProxiedConnection, StaticPool

BUSY_TIMEOUT = 60.0
"""Seconds a SQLite writer waits for its turn; transactions here take milliseconds."""

_TURN = (0.00005, 0.0004)
"""Seconds between two tries of a SQLite writer to get the lock, at random between these."""


def engine_of(url: URL) -> Engine:
    """Connections that wait for their turn to write."""
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

    # Not a listener for "begin": where there is one, SQLAlchemy looks for others at every statement.
    setattr(engine.dialect, "do_begin", _take_turn)  # noqa: B010 - a method
    return engine


def reading(engine: Engine) -> Engine:
    """The same connections for whoever never writes: they need no turn."""
    return create_engine(engine.url, pool=engine.pool)


def _take_turn(connection: PoolProxiedConnection) -> None:
    """Begin a transaction with the write lock.

    SQLite's own wait doubles its pauses up to a tenth of a second, so that of several busy processes the one that has
    just committed is nearly always the next; asking at short, random times hands the lock on.

    Raises:
        OperationalError: somebody else has kept it for ``BUSY_TIMEOUT``.
    """
    driver: Any = connection.driver_connection
    deadline = time.monotonic() + BUSY_TIMEOUT
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while (trouble := _begin_at_once(driver)) is not None:
            if not is_busy(trouble):
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
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Whether somebody else is writing."""
    return "locked" in str(error) or "busy" in str(error)
