"""Which name was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

import paigeant
from paigeant.runtime.nearest import PROBABLY, did_you_mean, nearest, suggestion

KNOWN = ["extract", "write_report", "Send-Mail"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("extrat", "extract"),
        ("EXTRACT", "extract"),
        ("write-report", "write_report"),
        ("send_mail", "Send-Mail"),
        ("archive", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_found(name, meant):
    """Upper case and - for _ do not count."""
    assert nearest(name, KNOWN) == meant


def test_nothing_is_near_where_nothing_is_known():
    """No guess."""
    assert nearest("extract", []) is None


def test_a_name_that_may_be_right_needs_more_likeness():
    """Another service may have it."""
    assert nearest("ext", KNOWN) == "extract"
    assert nearest("ext", KNOWN, PROBABLY) is None
    assert nearest("extrac", KNOWN, PROBABLY) == "extract"


def test_hints_and_suggestions_say_the_same():
    """As a hint of its own, and behind a text."""
    assert did_you_mean("extrat", KNOWN, "it has: none") == "did you mean 'extract'?"
    assert did_you_mean("archive", KNOWN, "it has: none") == "it has: none"
    assert suggestion("extrat", KNOWN) == "; did you mean 'extract'?"
    assert suggestion("archive", KNOWN) == ""


def test_there_is_one_helper():
    """Every other module asks this one."""
    package = Path(paigeant.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "difflib" in path.read_text()]
    assert users == ["nearest.py"]
