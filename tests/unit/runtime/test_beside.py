"""Modules of the working directory: they never replace Python's own or an installed library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paigeant.doctor.checks import EXTRAS
from paigeant.errors import AppNotFound
from paigeant.runtime import beside
from paigeant.transports.schemes import _PACKAGES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


def test_every_optional_library_is_known() -> None:
    """A file of that name would be executed in its place."""
    modules = [*EXTRAS.values(), *(module for module, _ in _PACKAGES.values())]
    assert {module.partition(".")[0] for module in modules} <= beside.OPTIONAL


def test_the_working_directory_comes_last(here: Path) -> None:
    """And once."""
    before = [*sys.path]
    beside.append(here)
    beside.append(here)
    assert sys.path == [*before, str(here)]


@pytest.mark.parametrize("file", ["boto9.py", "boto9/__init__.py"])
def test_a_file_in_the_place_of_a_missing_library_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The error says what to rename; a folder without Python files is no library."""
    monkeypatch.setattr(beside, "OPTIONAL", {"boto9", "redis9"})
    (here / "redis9").mkdir()
    (here / "redis9" / "redis.conf").touch()
    beside.append(here)
    path = here / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(AppNotFound, match=f"{file} would be imported as the library 'boto9'") as refused:
        beside.append(here)
    assert str(refused.value.hint).startswith(f"rename {file}")
    assert sys.path[-1] == str(here)


@pytest.mark.parametrize(
    ("file", "instead"),
    [("click.py", "click/__init__.py"), ("queue.py", "Python's own module"), ("click/__init__.py", "click/__init__")],
)
def test_a_module_that_is_not_imported_is_named(here: Path, file: str, instead: str) -> None:
    """With what is imported instead of it."""
    path = here / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1")
    beside.append(here)
    (name,) = beside.names(here)
    found = str(beside.hidden(here, name))
    assert instead in found
    assert found.endswith(f", not {file}")


def test_a_copy_of_what_is_installed_is_not_worth_a_word(here: Path) -> None:
    """An image often has both: the source, and the package that was installed from it."""
    import click

    (here / "click").mkdir()
    (here / "click" / "__init__.py").write_bytes(Path(str(click.__file__)).read_bytes())
    assert beside.hidden(here, "click") is None


def test_modules_of_this_folder_alone_are_imported(here: Path) -> None:
    """Nothing is said of them."""
    (here / "flows_of_mine.py").touch()
    (here / "notes.txt").touch()
    (here / "docs").mkdir()
    assert [*beside.names(here)] == ["flows_of_mine"]
    assert beside.hidden(here, "flows_of_mine") is None
