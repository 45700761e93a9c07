"""The pages of the Python API name everything public, and nothing that is not there."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import getdoc, isclass
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe
import pytest
from docs.markdown import ROOT

PAGES = sorted((ROOT / "docs" / "reference" / "api").glob("*.md"))

_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_BY_HAND = re.compile(r"^## (paigeant\.[\w.]+)$", re.MULTILINE)

BY_HAND = {"paigeant.Depends"}
"""Names of other projects, which mkdocstrings cannot read: the page describes them in a section of its own."""

ELSEWHERE = {"paigeant.__version__"}
"""In the overview."""


def names_of(page: Path) -> list[str]:
    return _DIRECTIVE.findall(page.read_text())


NAMES = [name for page in PAGES for name in names_of(page)]


def value_of(name: str) -> Any:
    """What the code means by the name: a module, or an attribute of one."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(import_module(module), attribute)


def public(module: str) -> set[str]:
    return {f"{module}.{name}" for name in import_module(module).__all__}


def test_every_public_name_has_a_place() -> None:
    """A name that is added to ``__all__`` must be added to a page."""
    by_hand = {name for page in PAGES for name in _BY_HAND.findall(page.read_text())}
    assert by_hand == BY_HAND
    assert "`paigeant.__version__`" in (ROOT / "docs" / "reference" / "python-api.md").read_text()
    wanted = public("paigeant") | public("paigeant.turns") | public("paigeant.testing")
    assert wanted - ELSEWHERE - by_hand == {name for name in NAMES if name in wanted}
    assert {"paigeant.errors", "paigeant.events"} <= set(NAMES)


def test_each_name_has_one_place() -> None:
    """Links to a name need one target."""
    assert sorted(NAMES) == sorted(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_names_on_the_pages_exist_and_are_explained(name: str) -> None:
    """A page is built from the docstring: a class, a function or a module without one says nothing."""
    value = value_of(name)
    explained = value if isclass(value) or callable(value) or isinstance(value, ModuleType) else type(value)
    assert getdoc(explained)


@pytest.fixture(scope="module")
def read() -> griffe.Module:
    """The package as the documentation reads it: without importing it."""
    return griffe.load("paigeant", search_paths=[ROOT], allow_inspection=False)


def test_the_documentation_finds_every_name(read: griffe.Module) -> None:
    """What it cannot find in the source would be missing from the page, and its build would fail."""
    for name in NAMES:
        found = read if name == "paigeant" else read[name.removeprefix("paigeant.")]
        assert (found.final_target if found.is_alias else found).lineno is not None or found.is_module, name


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("App", {"activity", "dispatch", "schedule", "observe", "workflow", "cancel", "on", "override", "close_sync"}),
        ("Workflow", {"result", "result_sync", "status", "record", "events", "signal", "cancel", "retry", "fork"}),
        ("ActivityContext", {"variables", "output", "emit", "heartbeat", "idempotency_key", "user_claims", "insert"}),
    ],
)
def test_inherited_members_are_shown(read: griffe.Module, name: str, members: set[str]) -> None:
    """Classes that share the work with others show what these bring."""
    assert members <= {*read[name].all_members}


def test_every_page_is_linked() -> None:
    """The overview and the navigation have all of them."""
    overview = (ROOT / "docs" / "reference" / "python-api.md").read_text()
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in PAGES if f"(api/{page.name})" not in overview] == []
    assert [page.name for page in PAGES if f"reference/api/{page.name}\n" not in navigation] == []


def test_docstrings_are_read_without_warnings(read: griffe.Module, caplog: pytest.LogCaptureFixture) -> None:
    """A section such as ``Raises:`` that cannot be read fails ``mkdocs build --strict``."""
    for name in NAMES:
        target = read[name.removeprefix("paigeant.")]
        for one in [target, *target.all_members.values()]:
            if not one.is_alias or one.resolved:
                docstring = one.docstring
                if docstring is not None:
                    docstring.parse("google")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
