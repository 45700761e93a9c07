"""The documentation is true: every block is run, every command is typed.

* ```` ```python ```` is executed; the blocks of a page share one namespace, and ``await`` works at top level.
* Any block with ``title="onboarding.py"`` is written to that file instead, for later blocks to import or run.
* ```` ```console ````: bash runs each line after ``$``; the lines under it are its output, ``...`` standing for
  anything. ``paigeant worker`` goes on in the background until a line ``^C`` or the end of the page. A command may
  fail only where ``$ echo $?`` follows. ```` ```bash ```` is the same without ``$`` and output.
* ```` ```json ```` and ```` ```toml ```` must parse.
* ``<!-- not run: why -->`` above a block leaves it out.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.markdown import PAGES, ROOT, blocks, commands
from docs.reader import Reader, same_output

from paigeant.turns.hooks import hooks
from paigeant.turns.tools import tools

LANGUAGES = {"python", "console", "bash", "json", "toml", "ini", "sql", "text", "mermaid", "yaml"}


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=title)
def test_page_does_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A reader who follows the page in an empty directory sees what it shows."""
    reader = Reader(tmp_path, server=request.getfixturevalue)
    monkeypatch.chdir(reader.work)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PAIGEANT_BROKER_URL", f"sqlite:///{tmp_path / 'paigeant.db'}")
    monkeypatch.setenv("PAIGEANT_LOG_FORMAT", "console")
    for names in (tools, hooks):  # those of other tests are not what a reader has
        monkeypatch.setattr(names, "_known", {})
    reader.read(page)


def test_every_block_has_a_known_language() -> None:
    """A block in a language that nothing here checks is a block that may be wrong."""
    unknown = [
        f"{block.place}: {block.language!r}"
        for page in PAGES
        for block in blocks(page)
        if block.language not in LANGUAGES
    ]
    assert unknown == []


def test_few_blocks_are_left_out() -> None:
    """Leaving a block out is for what a test cannot do, such as another machine."""
    left_out = [f"{block.place}: {block.not_run}" for page in PAGES for block in blocks(page) if block.not_run]
    assert len(left_out) <= 4, left_out


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What a contributor is told to type is what CI types."""
    typed = [
        command.text
        for block in blocks(ROOT / "README.md")
        if block.language == "console"
        for command in commands(block.source)
    ]
    assert "pip install . && paigeant demo" in typed
    assert "pip install tox && tox" in typed
    assert "\npip install tox && tox\n" in (ROOT / ".ci" / "run").read_text()


# --- the machinery itself ------------------------------------------------------------------------------------------


def write(page: Path, text: str) -> Path:
    page.write_text(text.replace("'''", "```"))
    return page


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path, server=lambda name: f"{name}://")


def test_console_output_is_compared_and_state_is_kept(reader: Reader, tmp_path: Path) -> None:
    """Variables, the directory and the exit status last from one block to the next."""
    page = write(
        tmp_path / "page.md",
        "'''console\n$ NAME=Ada\n$ mkdir in && cd in\n'''\n\n"
        "'''console\n$ echo $NAME in $(basename $PWD)\nAda in in\n$ false\n$ echo $?\n1\n'''\n",
    )
    reader.read(page)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("'''console\n$ echo one\ntwo\n'''", "the page says"),
        ("'''console\n$ false\n'''", "exit code 1"),
        ("'''console\n$ no-such-program\n'''", "exit code 127"),
        ("'''python\nassert 1 == 2\n'''", "assert"),
        ("'''python title=\"unused.py\"\nx = 1\n'''", "no later block"),
        ("'''python title=\"../out.py\"\nx = 1\n'''", "outside"),
    ],
    ids=["wrong output", "failing command", "unknown program", "failing python", "unused file", "file outside"],
)
def test_a_false_page_fails(reader: Reader, tmp_path: Path, body: str, complaint: str) -> None:
    """The test of the test."""
    page = write(tmp_path / "page.md", f"# Title\n\n{body}\n")
    with pytest.raises(AssertionError) as failure:
        reader.read(page)
    assert complaint in str(failure.getrepr())


def test_files_are_imported_and_await_works(reader: Reader, tmp_path: Path) -> None:
    """A titled block is a module for the blocks after it, and is forgotten at the end of the page."""
    page = write(
        tmp_path / "page.md",
        "'''python title=\"greeting.py\"\nasync def greet(): return 'hello'\n'''\n"
        "'''python\nfrom greeting import greet\nassert await greet() == 'hello'\nkept = 1\n'''\n"
        "'''python\nassert kept == 1\n'''\n"
        "<!-- not run: it would fail -->\n'''python\nraise SystemExit\n'''\n",
    )
    reader.read(page)
    with pytest.raises(ModuleNotFoundError):
        __import__("greeting")


def test_documented_servers_are_replaced(reader: Reader, tmp_path: Path) -> None:
    """A page shows the URL its reader would use; the test uses a server of its own."""
    page = write(
        tmp_path / "page.md",
        "'''python\nurl = 'postgresql://paigeant@localhost/paigeant'\nassert url == 'postgres_url://'\n'''\n",
    )
    reader.read(page)


def test_ellipsis_stands_for_anything() -> None:
    """Ids and times differ from run to run."""
    assert same_output("id ...\n", "id 0198\n")
    assert not same_output("id ...\n", "no\n")
