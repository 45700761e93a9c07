"""Large values in directories and object stores: whatever fsspec reaches."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from paigeant.errors import ConfigurationError, StoreError
from paigeant.stores import open_keeper
from paigeant.wire.claim_check import Parcel

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scheme", ["file", "memory"])
async def test_a_value_is_there_until_its_workflow_is_dropped(scheme, tmp_path, prefix):
    """Each workflow has a folder of its own, whatever its id; nothing half written is left beside it."""
    keeper = open_keeper(f"file://{tmp_path}/values" if scheme == "file" else f"memory://{prefix}")
    mine, other = (Parcel.of(workflow, b"[1, 2]" * 1000) for workflow in ("../../etc", "x" * 255))
    for _ in range(2):
        await keeper.keep([mine, other])
    missing = Parcel.of("nobody", mine.data).kept
    assert await keeper.fetch([mine.kept, missing]) == {mine.kept: mine.data}
    assert await keeper.drop(["../../etc", "nobody"]) == 1
    assert await keeper.drop(["../../etc"]) == 0
    assert await keeper.fetch([mine.kept, other.kept]) == {other.kept: other.data}
    left = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert [one.name for one in left] == ([other.kept.digest] if scheme == "file" else [])


@pytest.mark.parametrize(
    ("folder", "modes"), [(None, (0o700, 0o600)), (0o755, (0o700, 0o600)), (0o770, (0o770, 0o660))]
)
async def test_other_users_cannot_read_values(tmp_path, folder, modes):
    """Unless the directory is shared with a group, which may write there."""
    root = tmp_path / "values"
    if folder is not None:
        root.mkdir()
        root.chmod(folder)
    before = os.umask(0)
    try:
        await open_keeper(f"file://{root}").keep([Parcel.of("w", b"[1, 2]" * 1000)])
    finally:
        os.umask(before)
    below = [oct(stat.S_IMODE(one.stat().st_mode)) for one in sorted(root.rglob("*"))]
    assert below == [oct(mode) for mode in modes]
    assert stat.S_IMODE(root.stat().st_mode) == (folder or 0o700)


async def test_a_writer_that_dies_leaves_no_half_of_a_value(tmp_path, monkeypatch):
    """It is not taken for the value, and the next one writes it."""
    keeper, parcel = open_keeper(f"file://{tmp_path}"), Parcel.of("w", b"[1, 2]" * 1000)
    with monkeypatch.context() as dying:
        dying.setattr(keeper._files, "mv", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(StoreError, match=r"cannot write to file://.*: OSError: killed"):
            await keeper.keep([parcel])
    assert await keeper.fetch([parcel.kept]) == {}
    await keeper.keep([parcel])
    assert await keeper.fetch([parcel.kept]) == {parcel.kept: parcel.data}


@pytest.fixture
def no_directory(tmp_path: Path) -> Path:
    path = tmp_path / "values"
    path.write_text("no directory")
    return path


async def test_a_directory_that_cannot_be_read_is_the_operators_trouble(no_directory):
    """Asking again may help: it is not as if the value were gone."""
    keeper, parcel = open_keeper(f"file://{no_directory}"), Parcel.of("w", b"[]")
    with pytest.raises(StoreError, match="cannot read"):
        await keeper.fetch([parcel.kept])
    with pytest.raises(StoreError, match="cannot write to"):
        await keeper.keep([parcel])


def test_without_fsspec_it_is_said_what_to_install(monkeypatch):
    """An extra brings it."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigurationError, match="with fsspec, which is not installed") as refused:
        open_keeper("file:///srv/values")
    assert refused.value.hint == 'pip install "paigeant[objects]"'


def test_a_file_system_whose_client_is_missing_is_named():
    """fsspec knows what would bring it."""
    with pytest.raises(ConfigurationError, match="nothing here keeps values at 'dropbox://x'"):
        open_keeper("dropbox://x")
