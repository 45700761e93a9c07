"""examples/documents reads real documents and writes a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples_run import EXAMPLES, python

DOCUMENTS = EXAMPLES / "documents" / "documents.py"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "bees.md").write_text("# Bees\n\n" + "Bees gather nectar and turn nectar into honey. " * 3)
    (folder / "whales.txt").write_text("Whales sing under water. Whales breathe air. " * 3)
    (folder / "notes.csv").write_text("not,read")
    return folder


def test_it_reports_the_key_terms_of_each_document(library: Path, tmp_path: Path) -> None:
    """The words that make a document different stand beside its name."""
    ran = python(DOCUMENTS, str(library), cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    (report,) = (tmp_path / "documents-report").glob("*.md")
    lines = {line.split("**")[1]: line for line in report.read_text().splitlines() if "**" in line}
    assert sorted(lines) == ["bees.md", "whales.txt"]
    assert "nectar (100%)" in lines["bees.md"]
    assert "whales (100%)" in lines["whales.txt"]


def test_a_single_file_is_a_library_too(library: Path, tmp_path: Path) -> None:
    """FILE as well as FOLDER."""
    ran = python(DOCUMENTS, str(library / "bees.md"), cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "- **bees.md**" in ran.stdout


def test_an_empty_folder_fails_the_workflow_with_a_reason(tmp_path: Path) -> None:
    """Nothing to read is said, not passed over."""
    ran = python(DOCUMENTS, str(tmp_path), cwd=tmp_path)

    assert ran.returncode != 0
    assert "there are no documents in" in ran.stderr
