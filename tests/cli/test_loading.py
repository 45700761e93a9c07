from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paigeant.cli.loading import candidates, load
from paigeant.errors import AppNotFound

APP = "from paigeant import App\napp = App('{name}')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes files into the working directory; what was imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    before = set(sys.modules)

    def write(path: str, source: str) -> None:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source)

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path_importer_cache.clear()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("flows.py", "flows"),
        ("flows.py", "flows:app"),
        ("flows.py", "flows.py"),
        ("flows.py", "./flows.py:app"),
        ("flows/__init__.py", "flows"),
        ("flows/__init__.py", "./flows"),
        ("flows/app.py", "flows.app"),
        ("src/flows.py", "src/flows.py"),
        ("my-flows.py", "my-flows.py"),
        ("queue.py", "./queue.py"),
    ],
)
def test_finds_the_app(folder, path: str, target: str) -> None:
    """A module, a package or a file, whatever the file is called."""
    folder(path, APP.format(name="found"))
    assert load(target).name == "found"


def test_finds_the_module_app_of_a_package(folder) -> None:
    """A package that says nothing itself."""
    folder("shop/__init__.py", "")
    folder("shop/app.py", APP.format(name="shop"))
    assert load("shop").name == "shop"


def test_file_in_a_package_keeps_its_relative_imports(folder) -> None:
    """It is imported under its full name."""
    folder("deep/shop/__init__.py", "")
    folder("deep/shop/names.py", "NAME = 'relative'")
    folder("deep/shop/main.py", "from .names import NAME\nfrom paigeant import App\nmine = App(NAME)")
    assert load("deep/shop/main.py").name == "relative"
    assert "shop.main" in sys.modules


def test_app_wins_over_other_apps(folder) -> None:
    """The name app is the convention."""
    folder("three.py", APP.format(name="first") + "other = App('other')")
    assert load("three").name == "first"
    assert load("three:other").name == "other"


def test_one_app_with_two_names_is_one(folder) -> None:
    """Nobody has to choose between an App and itself."""
    folder("alias.py", "from paigeant import App\nmain = alias = App('same')\napp = 'another framework'")
    assert load("alias").name == "same"


def test_nested_attribute(folder) -> None:
    """An App may be kept in something."""
    folder("kept.py", "from paigeant import App\nclass Services:\n    flows = App('kept')")
    assert load("kept:Services.flows").name == "kept"


@pytest.mark.parametrize("target", ["", ":app", "nothing", "nothing.at.all", "nothing/here.py", "1 2 3"])
def test_what_does_not_exist(folder, target: str) -> None:
    """Always the same error, whatever was typed."""
    with pytest.raises(AppNotFound):
        load(target)


def test_candidates_are_found_without_importing(folder) -> None:
    """Files that make an App, for hints."""
    folder("flows.py", "from paigeant import App\nraise SystemExit\napp = App('x')")
    folder("typed.py", "import paigeant\napp: paigeant.App = paigeant.App(\n'x')")
    folder("named.py", "import paigeant as p, flows\nfrom paigeant.app import App as Flow\nb = Flow('x')")
    folder("other.py", "x = 1")
    assert candidates() == ["flows", "named", "typed"]


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "import nothing_like_this\nfrom paigeant import App\napp = App('x')",
        "from nothing.like import this\nfrom paigeant import App\napp = App('x')",
        "from flask import App\napp = App('x')",
        "from paigeant import App",
        "from paigeant import App\nif App:\n    text = 'app = App()'",
        "\0",
    ],
)
def test_what_cannot_be_imported_or_has_no_app_is_no_candidate(folder, source: str) -> None:
    """The hint for a module that is not there names another module, or none."""
    folder("first.py", source)
    assert candidates() == []
    with pytest.raises(AppNotFound) as caught:
        load("elsewhere")
    assert caught.value.hint == "change to the folder of the module, or name the file: -A path/to/file.py"


RUNWAY = """
from paigeant import PaigeantAgent, WorkflowDispatcher

{dispatcher}
writer = PaigeantAgent("anthropic:claude-3-5"{argument})
"""


@pytest.mark.parametrize(
    ("dispatcher", "argument", "target"),
    [
        ("dispatcher = WorkflowDispatcher()", ", dispatcher=dispatcher", "jokes"),
        ("dispatcher = WorkflowDispatcher()", ", dispatcher=dispatcher", "jokes:dispatcher"),
        ("", "", "jokes"),
    ],
    ids=["a dispatcher", "a dispatcher by its name", "an agent"],
)
def test_the_app_behind_a_dispatcher_or_an_agent(folder, dispatcher: str, argument: str, target: str) -> None:
    """Modules that use the documents' names are served as well."""
    folder("jokes.py", RUNWAY.format(dispatcher=dispatcher, argument=argument))
    assert list(load(target).activities) == ["writer"]
    assert candidates() == ["jokes"]
