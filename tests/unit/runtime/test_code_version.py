"""The name of the code a worker runs."""

from __future__ import annotations

from pathlib import Path

import paigeant.runtime.code_version
from paigeant import App
from paigeant.runtime.code_version import code_version


def _written(folder: Path, **files: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in files]


def test_the_same_code_has_the_same_name_on_every_host(tmp_path):
    """Folders and the order of files do not matter."""
    here = _written(tmp_path / "here", a="x = 1", b="y = 2")
    there = _written(tmp_path / "there", a="x = 1", b="y = 2")

    assert code_version(here) == code_version(reversed(there))
    assert len(code_version(here)) == 12


def test_any_change_changes_the_name(tmp_path):
    """Of one byte, or by another file."""
    before = _written(tmp_path / "before", a="x = 1", b="y = 2")
    after = _written(tmp_path / "after", a="x = 1", b="y = 3", c="")

    assert len({code_version(before), code_version(after[:2]), code_version([*before, after[2]])}) == 3


def test_code_that_cannot_be_read_has_no_name(tmp_path):
    """It was typed into a console; nothing is claimed of it."""
    assert code_version(["<stdin>"]) == ""
    assert code_version([]) == ""


def test_an_app_knows_where_its_activities_are_written():
    """Decorated, with options or not, and functions of other modules handed to it."""
    app = App("shop", broker="memory://", store="none")
    app.activity(code_version, name="imported")

    @app.activity(name="decorated")
    async def _decorated() -> None: ...

    assert app.source_files == {__file__, paigeant.runtime.code_version.__file__}
