"""What an error of a SQLite file says about the disk under it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy.exc import OperationalError

from paigeant.database import Database, is_transient, sqlite
from paigeant.database.disk import remote_file_system

MOUNTS = """
overlay / overlay rw 0 0
server:/export /data nfs4 rw 0 0
/dev/sda1 /data/local ext4 rw 0 0
//server/share /with\\040blank cifs rw 0 0
host /mounted fuse.sshfs rw 0 0
over /layered fuse.fuse-overlayfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/x.db", "nfs4"),
        ("/data/deep/er/x.db", "nfs4"),
        ("/data/local/x.db", None),
        ("/database/x.db", None),
        ("/with blank/x.db", "cifs"),
        ("/mounted/x.db", "fuse.sshfs"),
        ("/layered/x.db", None),
        ("/x.db", None),
    ],
)
def test_a_network_file_system_is_known_by_its_type(mounts: Path, path: str, kind: str | None) -> None:
    """The mount that is nearest to the file counts."""
    assert remote_file_system(Path(path), mounts) == kind


def test_a_system_that_does_not_say_is_not_asked_twice(tmp_path: Path) -> None:
    assert remote_file_system(Path("/data/x.db"), tmp_path / "none") is None


def test_a_database_on_a_network_file_system_is_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paigeant.database.disk.remote_file_system", lambda _path: "nfs4")
    database = Database(f"sqlite:///{tmp_path / 'file.db'}")
    with structlog.testing.capture_logs() as logs:
        database.migrate("transports")
        database.migrate("stores")
    database.dispose()
    assert [one["log_level"] for one in logs if "network file system (nfs4)" in one["event"]] == ["warning"]


def refused(url: str) -> OperationalError:
    database = Database(url)
    with pytest.raises(OperationalError) as raised:
        database.migrate("transports")
    database.dispose()
    return raised.value


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    error = refused(f"sqlite:///{tmp_path / 'none' / 'x.db'}")
    assert f"there is no folder {tmp_path / 'none'}" in str(error)
    assert f"there is no folder {tmp_path / 'none'}" in str(error.orig)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder" in str(refused(f"sqlite:///{tmp_path}"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little space."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts file systems, and not in every container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_says_so_and_work_continues_when_there_is_space(small_disk: Path) -> None:
    """Whatever is logged or raised later has the text."""
    other = small_disk / "other"
    database = Database(f"sqlite:///{small_disk / 'file.db'}")
    database.migrate("transports")
    other.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
    with pytest.raises(OperationalError, match="the disk is full, free some space on the disk that has") as raised:
        fill(database)
    assert not is_transient(raised.value)
    other.unlink()
    fill(database)
    database.dispose()


def fill(database: Database) -> None:
    with database.writer() as writer, writer.begin():
        writer.exec_driver_sql("CREATE TABLE large (data BLOB)")
        writer.exec_driver_sql("INSERT INTO large VALUES (zeroblob(50000))")


def test_a_read_only_file_system_says_so(small_disk: Path) -> None:
    Database(f"sqlite:///{small_disk / 'file.db'}").migrate("transports")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert f"the file system that has {small_disk} is read-only" in str(refused(f"sqlite:///{small_disk / 'file.db'}"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        assert f"this user may not write in the folder {tmp_path}" in str(refused(f"sqlite:///{tmp_path / 'file.db'}"))
    finally:
        tmp_path.chmod(0o755)


def test_a_path_with_busy_in_it_is_not_taken_for_a_busy_database(tmp_path: Path) -> None:
    """An error is known by its number: the text has the path."""
    error = refused(f"sqlite:///{tmp_path / 'busy and locked' / 'x.db'}")
    assert not is_transient(error)
    assert isinstance(error.orig, sqlite3.OperationalError)
    assert not sqlite.is_busy(error.orig)
