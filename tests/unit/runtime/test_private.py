"""Files with data: nobody but their owner reads them, whatever the umask is."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from paigeant.runtime import private


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_are_their_owners(umask: None, tmp_path: Path) -> None:
    """Created empty, written, appended to."""
    private.folder(tmp_path / "a" / "b")
    private.ensure(tmp_path / "a" / "b" / "empty")
    with private.create(tmp_path / "a" / "written") as file:
        file.write("1")
    with private.create(tmp_path / "a" / "bytes", "wb") as file:
        file.write(b"1")
    for text in ("1", "2"):
        with private.append(tmp_path / "a" / "log") as file:
            file.write(text)
    found = {path.name: mode(path) for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert found == dict.fromkeys(("empty", "written", "bytes", "log"), 0o600)
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o700, 0o700]
    assert (tmp_path / "a" / "log").read_text() == "12"


def test_what_exists_keeps_its_mode_and_content(tmp_path: Path) -> None:
    """Its owner has chosen the mode."""
    path = tmp_path / "there"
    path.write_text("content")
    path.chmod(0o640)
    private.ensure(path)
    with pytest.raises(FileExistsError):
        private.create(path)
    tmp_path.chmod(0o755)
    private.folder(tmp_path)
    assert (mode(path), path.read_text(), mode(tmp_path)) == (0o640, "content", 0o755)


def test_a_folder_that_is_shared_with_a_group_is_used_by_it(umask: None, tmp_path: Path) -> None:
    """Others never; and a folder that the group only reads is not shared."""
    found = {}
    for shared in (0o770, 0o775, 0o755, 0o777):
        root = tmp_path / oct(shared)
        root.mkdir()
        root.chmod(shared)
        private.folder(root / "in", shared_with=str(root))
        private.create(root / "file", shared_with=str(root)).close()
        found[shared] = (mode(root / "in"), mode(root / "file"))
    open_to_group = (0o770, 0o660)
    assert found == {0o770: open_to_group, 0o775: open_to_group, 0o755: (0o700, 0o600), 0o777: open_to_group}


def test_the_target_of_a_link_is_created(umask: None, tmp_path: Path) -> None:
    """A database may be a link to a file on another disk."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    private.ensure(tmp_path / "link")
    assert mode(tmp_path / "target") == 0o600


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """As every other folder that cannot be created."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        private.folder(tmp_path / "file")


def test_creating_a_file_ends_no_lock_of_another_thread(tmp_path: Path) -> None:
    """SQLite's locks belong to the process: closing any descriptor of the file drops them."""
    path, failures = tmp_path / "file.db", []

    def use(number: int) -> None:
        try:
            private.ensure(path)
            with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("CREATE TABLE IF NOT EXISTS t (n)")
                connection.execute(f"INSERT INTO t VALUES ({number})")
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - told in the test's thread
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (8,)


def test_what_others_may_use_is_named(tmp_path: Path) -> None:
    """With its mode; what does not exist is left out."""
    for name, bits in {"closed": 0o600, "group": 0o640, "all": 0o644}.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(bits)
    paths = [tmp_path / name for name in ("closed", "group", "all", "missing")]
    assert private.exposed(paths) == {str(tmp_path / "group"): 0o640, str(tmp_path / "all"): 0o644}
