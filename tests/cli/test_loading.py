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


# --- modules with the name of others ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target", "hint"),
    [
        ("click.py", "click", "-A ./click.py"),
        ("queue.py", "queue", "-A ./queue.py"),
        ("click/__init__.py", "click", "-A ./click,"),
        ("click/flows.py", "click.flows", "-A ./click/flows.py"),
    ],
)
def test_an_installed_module_comes_first_and_the_error_names_the_file(
    folder, path: str, target: str, hint: str
) -> None:
    """It has no App; what the error says to type loads the App of the file."""
    folder("click/__init__.py" if "/" in path else path, APP.format(name="mine"))
    folder(path, APP.format(name="mine"))
    with pytest.raises(AppNotFound, match=r"not (click|queue)") as refused:
        load(target)
    assert hint in str(refused.value.hint)
    named = str(refused.value.hint).partition("-A ")[2].partition(",")[0]
    assert load(named).name == "mine"


def test_a_package_with_the_name_of_another_has_its_own_modules(folder) -> None:
    """Its relative imports stay in it, and the other package is still there."""
    folder("click/__init__.py", "")
    folder("click/names.py", "NAME = 'relative'")
    folder(
        "click/flows.py", "from .names import NAME\nimport click\nfrom paigeant import App\napp = App(NAME)\nclick.echo"
    )
    assert load("click/flows.py").name == "relative"
    assert load("./click/flows.py").name == "relative"


def test_an_installed_app_comes_first_with_a_remark(folder, tmp_path, monkeypatch, capsys) -> None:
    """Without one where the file of the working directory is the same."""
    folder("installed/shop_of_two.py", APP.format(name="installed"))
    monkeypatch.syspath_prepend(tmp_path / "installed")
    folder("shop_of_two.py", APP.format(name="installed"))
    assert load("shop_of_two").name == "installed"
    assert capsys.readouterr().err == ""
    folder("shop_of_two.py", APP.format(name="mine"))
    assert load("shop_of_two").name == "installed"
    assert "to use the file: -A ./shop_of_two.py" in capsys.readouterr().err
    assert load("./shop_of_two.py").name == "mine"


def test_a_file_beside_the_app_replaces_no_library(terminal) -> None:
    """Neither one that is installed, nor one of Python's own that nothing has imported yet."""
    planted = "from pathlib import Path\nPath('EXECUTED').touch()\n"
    terminal.write(redis=planted, mailbox=planted, good="from paigeant import App\nimport mailbox\napp = App('good')")
    done = terminal.run("doctor", "-A", "good", "-b", "redis://127.0.0.1:1/0", code=69)
    assert not (terminal.folder / "EXECUTED").exists()
    assert "'redis' is " in done.stdout
    assert "'mailbox' is Python's own module, not mailbox.py" in done.stdout


def test_the_processes_that_measure_a_broker_import_nothing_from_here(terminal) -> None:
    """They are Python with another module."""
    terminal.write(structlog="from pathlib import Path\nPath('EXECUTED').touch()\nraise SystemExit(1)\n")
    terminal.run("doctor", "--prove", "--lease", "0.5", "-b", "memory://", code=None, patience=90)
    assert not (terminal.folder / "EXECUTED").exists()
