"""How the processes that share a SQLite file take turns."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError, OperationalError

from paigeant.database import Database, is_transient, sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.db"


@pytest.fixture
def database(path: Path) -> Database:
    one = Database(f"sqlite:///{path}")
    one.migrate("transports")
    return one


def test_a_writer_waits_for_its_turn(database: Database, path: Path) -> None:
    """Longer than SQLite is told to wait in one go."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    began = threading.Event()
    release = threading.Timer(0.2, lambda: began.is_set() or other.execute("COMMIT"))
    release.start()
    with database.writer() as connection, connection.begin():
        held = other.in_transaction
        began.set()
    release.join()
    other.close()
    assert not held


def test_a_turn_that_never_comes_is_a_clear_error(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the deadline it says what to do, and may be tried again."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="another program has been writing") as raised, database.writer() as one:
        one.begin()
    assert is_transient(raised.value)
    other.execute("COMMIT")
    other.close()
    with database.writer() as connection, connection.begin():
        pass


def test_other_waits_are_as_they_were(database: Database) -> None:
    """Only the begin asks again and again; SQLite's own patience is back when it has begun."""
    with database.writer() as connection, connection.begin():
        timeout = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    assert timeout == sqlite.BUSY_TIMEOUT * 1000


def test_what_is_no_lock_is_not_waited_for(tmp_path: Path) -> None:
    """A file that is no database is an error at once."""
    (tmp_path / "no.db").write_bytes(b"x" * 5000)
    with pytest.raises(DatabaseError), Database(f"sqlite:///{tmp_path / 'no.db'}").writer() as connection:
        connection.begin()
