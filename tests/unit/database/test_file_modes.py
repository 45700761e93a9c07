"""The files of a SQLite database: other users of the machine cannot read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from paigeant.database import Database
from paigeant.database.address import address_of
from paigeant.database.sqlite import files_of


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("url", ["sqlite:///{}/file.db", "sqlite:///file:{}/file.db?uri=true"])
def test_every_file_beside_the_database_is_its_owners(url: str, tmp_path: Path) -> None:
    """While it is in use, when there is a write-ahead log."""
    database = Database(url.format(tmp_path))
    with database.writer() as connection, connection.begin():
        connection.execute(text("CREATE TABLE t (n)"))
        found = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()}
    database.dispose()
    assert found == dict.fromkeys(("file.db", "file.db-wal", "file.db-shm"), "0o600")


def test_a_file_that_was_put_there_is_shared_as_its_owner_says(tmp_path: Path) -> None:
    """The files beside it have the same mode."""
    (tmp_path / "file.db").touch()
    (tmp_path / "file.db").chmod(0o660)
    database = Database(f"sqlite:///{tmp_path}/file.db")
    with database.writer() as connection, connection.begin():
        connection.execute(text("CREATE TABLE t (n)"))
        found = {oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()}
    database.dispose()
    assert found == {"0o660"}


def test_where_nothing_is_written_nothing_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases in memory, and files that are opened to read."""
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:name?mode=memory&uri=true"):
        database = Database(url)
        database.reader().close()
        database.dispose()
    missing = Database("sqlite:///file:name.db?mode=ro&uri=true")
    with pytest.raises(Exception, match="unable to open"):
        missing.reader()
    missing.dispose()
    assert [*tmp_path.iterdir()] == []


def test_the_files_of_a_url_are_known(tmp_path: Path) -> None:
    """Those that SQLite may keep there."""
    found = files_of(address_of(f"sqlite:///{tmp_path}/file.db"))
    assert [path.name for path in found] == ["file.db", "file.db-wal", "file.db-shm", "file.db-journal"]
    assert files_of(address_of("sqlite://")) == []
