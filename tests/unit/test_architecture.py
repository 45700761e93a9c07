"""The map in the documentation is that of the package."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import paigeant

MAP = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"


def test_every_module_stands_in_the_table_of_layers_once():
    """Folders with a slash, modules without."""
    package = Path(paigeant.__file__).parent
    there = [f"{one.name}/" for one in package.iterdir() if (one / "__init__.py").exists()]
    there += [one.stem for one in package.glob("*.py") if not one.stem.startswith("__")]

    rows = re.findall(r"^\| [\w ]+ \| (`.+?) \| ", MAP.read_text().partition("| layer |")[2], re.MULTILINE)
    drawn = Counter(name for row in rows for name in re.findall(r"`([\w/]+)`", row))

    assert drawn == Counter(there)
