"""What users type is checked by the checkers that users run: mypy and pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRONG = Path(__file__).with_name("wrong.py")
LIMIT = 240
"""Seconds that a checker may take when it has read nothing before."""


def mypy(file: Path) -> dict[int, str]:
    """The first error of each line of the file that mypy reports."""
    told = checked([sys.executable, "-m", "mypy", "--no-pretty", "--hide-error-context", str(file)])
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", told, re.MULTILINE)
    return lines(file, [(name, int(line), text) for name, line, text in found])


def pyright(file: Path) -> dict[int, str]:
    """The first error of each line of the file that pyright reports."""
    told = checked([sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(file)])
    found = [one for one in json.loads(told)["generalDiagnostics"] if one["severity"] == "error"]
    return lines(file, [(one["file"], one["range"]["start"]["line"] + 1, one["message"]) for one in found])


def checked(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1, f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def lines(file: Path, found: list[tuple[str, int, str]]) -> dict[int, str]:
    elsewhere = [one for one in found if Path(one[0]).name != file.name]  # mypy's cache may have an earlier folder
    assert elsewhere == [], "the checker reports other files"
    return {line: text for _, line, text in reversed(found)}


def page(directory: Path) -> Path:
    """The program that the documentation shows."""
    file = directory / "orders.py"
    source = (ROOT / "docs" / "how-to" / "check-types.md").read_text(encoding="utf-8")
    file.write_text(source.partition('```python title="orders.py"\n')[2].partition("```")[0], encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 30)
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
@pytest.mark.parametrize(("source", "mark"), [("wrong.py", "# wrong"), ("the page", "# error: ")])
def test_each_wrong_call_is_reported_and_nothing_else(
    checker: Callable[[Path], dict[int, str]], source: str, mark: str, tmp_path: Path
) -> None:
    """Each marked line is reported; no other line is."""
    pytest.importorskip(checker.__name__, reason="tox -e types installs it")
    file = WRONG if source == "wrong.py" else page(tmp_path.resolve())
    marked = {number for number, line in enumerate(file.read_text().splitlines(), 1) if f"  {mark}" in line}
    assert len(marked) >= 5
    reported = checker(file)
    assert {"unreported": sorted(marked - reported.keys())} == {"unreported": []}
    assert {line: text for line, text in reported.items() if line not in marked} == {}
