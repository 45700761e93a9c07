"""The documentation is true: every block is run and every command is typed, in a fresh folder for each page.

* A block with ``title="onboarding.py"`` is written to that file, for later blocks to import or run.
* ```` ```python ```` without a file name is a program of its own: a new process that knows nothing of the blocks
  before it. ``await`` at top level works as in ``python -m asyncio``.
* ```` ```console ````: bash runs each line after ``$``. The lines under it are its output; ``...`` stands for anything.
  A command may fail only where ``$ echo $?`` follows. ```` ```bash ```` is the same without ``$`` and output.
* ``title="Terminal 1"`` on a console block names its terminal. Each terminal has its own shell, so its own variables.
* ``paigeant worker`` and ``uvicorn`` run on until the key ``^C`` (an orderly stop), the key ``^\\`` (a kill) or the end
  of the page; where ``$ echo $?`` follows, they end by themselves. Where output stands under them, the reader waits for
  it. While one runs in a terminal with a name, nothing else can be typed there.
* ```` ```json ```` and ```` ```toml ```` must parse.
* ``<!-- not run: why -->`` above a block leaves it out.
"""

from __future__ import annotations

import ast
import re
import signal
from pathlib import Path

import pytest
from docs.markdown import PAGES, ROOT, blocks, commands
from docs.reader import Reader
from docs.terminal import same_output

LANGUAGES = {
    "python",
    "console",
    "bash",
    "dockerfile",
    "json",
    "toml",
    "ini",
    "javascript",
    "sql",
    "text",
    "mermaid",
    "yaml",
}


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=title)
def test_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A reader who follows the page in an empty directory sees what it shows."""
    Reader(tmp_path, server=request.getfixturevalue).read(page)


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


def test_python_that_is_left_out_compiles() -> None:
    """What needs another product or an account is at least Python."""
    for page in PAGES:
        for block in blocks(page):
            if block.not_run and block.language == "python":
                compile(block.source, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_llms_txt_lists_every_page() -> None:
    """Each page once, and nothing that is not there."""
    docs = ROOT / "docs"
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", (docs / "llms.txt").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def test_the_navigation_lists_every_page() -> None:
    """A page that the navigation leaves out is a page that nobody finds."""
    navigation = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    docs = ROOT / "docs"
    assert sorted(navigation) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


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


WORKER = "'''python title=\"app.py\"\nfrom paigeant import App\napp = App('app')\n@app.activity\ndef f(): ...\n'''\n"
BUSY = "'''console title=\"Terminal 1\"\n$ paigeant worker -A app\n$ true\n'''"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("'''console\n$ echo one\ntwo\n'''", "the page says"),
        ("'''console\n$ false\n'''", "exit code 1"),
        ("'''console\n$ no-such-program\n'''", "exit code 127"),
        ("'''python\nassert 1 == 2\n'''", "assert"),
        ("'''python\nkept = 1\n'''\n'''python\nassert kept == 1\n'''", "NameError: name 'kept' is not defined"),
        ("'''python\nraise SystemExit(3)\n'''", "exit code 3"),
        (WORKER + BUSY, "Terminal 1 is busy with `paigeant worker -A app`"),
        ("'''python title=\"unused.py\"\nx = 1\n'''", "no block imports"),
        ("'''python title=\"../out.py\"\nx = 1\n'''", "outside"),
    ],
    ids=[
        "wrong output",
        "failing command",
        "unknown program",
        "failing python",
        "name of another block",
        "exit code",
        "busy terminal",
        "unused file",
        "file outside",
    ],
)
def test_a_false_page_fails(reader: Reader, tmp_path: Path, body: str, complaint: str) -> None:
    """The test of the test."""
    page = write(tmp_path / "page.md", f"# Title\n\n{body}\n")
    with pytest.raises(AssertionError) as failure:
        reader.read(page)
    assert complaint in str(failure.getrepr())


def test_each_python_block_is_a_program(reader: Reader, tmp_path: Path) -> None:
    """It imports the files of the page, and ``await`` works at top level."""
    page = write(
        tmp_path / "page.md",
        "'''python title=\"greeting.py\"\nasync def greet(): return 'hello'\n'''\n"
        "'''python\nfrom greeting import greet\nassert await greet() == 'hello'\nassert __name__ == '__main__'\n'''\n"
        "<!-- not run: it would fail -->\n'''python\nraise SystemExit\n'''\n",
    )
    reader.read(page)


def test_terminals_have_variables_of_their_own_and_processes_that_run_on(reader: Reader, tmp_path: Path) -> None:
    """A worker is stopped with ``^C``, killed with ``^\\``, or stopped at the end of the page."""
    page = write(
        tmp_path / "page.md",
        WORKER + "'''console title=\"Terminal 1\"\n$ NAME=Ada\n$ paigeant worker -A app\n...worker ready...\n^C\n"
        "$ paigeant worker -A app\n...worker ready...\n^\\Quit\n$ paigeant worker -A app\n...worker ready...\n'''\n"
        "'''console title=\"Terminal 2\"\n$ echo [$NAME]\n[]\n'''\n",
    )
    reader.read(page)
    stopped, killed, ended = (one.process.returncode for one in reader.terminals["Terminal 1"].started)
    assert (stopped, killed, ended) == (0, -signal.SIGQUIT, 0)


def test_a_worker_may_end_by_itself_where_its_exit_code_is_asked_for(reader: Reader, tmp_path: Path) -> None:
    """Its output is compared, too."""
    page = write(
        tmp_path / "page.md",
        "'''console title=\"Terminal 1\"\n$ paigeant worker -A none\nError: cannot load the App from 'none'\n"
        "$ echo $?\n2\n'''\n",
    )
    reader.read(page)


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


def test_a_line_of_dots_stands_for_any_lines_or_none() -> None:
    """Two processes write in either order."""
    assert same_output("one\n...\ntwo\n", "one\ntwo\n")
    assert same_output("one\n...\ntwo\n", "one\na log line\ntwo\n")
    assert not same_output("one\n...\ntwo\n", "one\nthree\n")
