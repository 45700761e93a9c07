"""The documents are written in plain English: no phrase of the list in ``language.py``, no endless sentence.

Code, link targets and HTML comments are not prose. Of the changelog, the part of the next release is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.markdown import PAGES, ROOT
from language import faults

LONGEST = 40
"""Words of a sentence. A good one has at most about 25; code counts as one word."""

NOT_YET: frozenset[str] = frozenset()
"""Pages that are still to be rewritten. A page that passes must be removed from here, so this can only shrink."""

_CODE_BLOCK = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,})[^\n]*\n.*?^(?P=indent)(?P=fence)[ \t]*$", re.M | re.S)
_INDENTED_CODE = re.compile(r"^ {4,}\S.*$", re.M)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_LINK_TARGET = re.compile(r"(?<=\])\([^)\s]*\)")
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_LIST_ITEM = re.compile(r"^\s*(?:[*-]|\d+\.) ")
_QUESTION = re.compile(r"What\b")  # a heading may be one: "What it costs"
_ROW = re.compile(r"\s*\|(?P<cells>.*)\|\s*")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?:;])[\"')*]*\s+")
_UNRELEASED = re.compile(r"(?P<before>.*?^)## \[Unreleased\]\n(?P<part>.*?)(?=^## \[|\Z)", re.M | re.S)


def read(page: Path) -> str:
    """The text that the rules are for; its lines have the numbers that they have in the file."""
    text = page.read_text(encoding="utf-8")
    if page.name != "CHANGELOG.md":
        return text
    unreleased = _UNRELEASED.match(text)
    assert unreleased is not None, "the changelog has no part [Unreleased]"
    return "\n" * (unreleased["before"].count("\n") + 1) + unreleased["part"]


def passages(text: str) -> Iterator[tuple[int, str]]:
    """Each paragraph, list item, heading and cell of a table, with the number of its first line."""
    for pattern in (_CODE_BLOCK, _COMMENT):
        text = pattern.sub(lambda found: "\n" * found[0].count("\n"), text)
    text = _LINK_TARGET.sub("", _INDENTED_CODE.sub("", text)).replace("**", "")
    first, lines = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        row = _ROW.fullmatch(line)
        if lines and (not line.strip() or row or line.startswith("#") or _LIST_ITEM.match(line)):
            yield first, "\n".join(lines)
            lines = []
        if row:
            yield from ((number, cell.strip()) for cell in re.split(r"(?<!\\)\|", row["cells"]) if cell.strip(" :-"))
        elif line.startswith("#"):
            yield number, _QUESTION.sub("what", line.lstrip("# "))
        elif line.strip():
            first = first if lines else number
            lines.append(_LIST_ITEM.sub("", line, count=1).strip() if not lines else line.strip())


def long_sentences(passage: str) -> Iterator[str]:
    """What is wrong with the length of its sentences."""
    for sentence in _END_OF_SENTENCE.split(_INLINE_CODE.sub("code", passage)):
        if (words := len(sentence.split())) > LONGEST:
            yield f"{words} words, at most {LONGEST}: {' '.join(sentence.split()[:8])} ..."


def problems(text: str) -> list[str]:
    """Every banned phrase and every endless sentence of a Markdown text."""
    return [
        f"line {line}: {problem}"
        for line, passage in passages(text)
        for problem in (*(one.partition(": ")[2] for one in faults(passage)), *long_sentences(passage))
    ]


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


WRITTEN = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md"]


@pytest.mark.parametrize("page", WRITTEN, ids=title)
def test_page_is_written_in_plain_english(page: Path) -> None:
    """No page has a banned phrase; a page of which that is not expected yet still has one."""
    found = problems(read(page))
    if title(page) in NOT_YET:
        assert found, f"{title(page)} passes: remove it from NOT_YET"
    else:
        assert not found, "\n".join([f"{title(page)} is not plain English:", *found])


def test_every_exception_is_a_page() -> None:
    """NOT_YET names no page that has gone."""
    assert {title(page) for page in WRITTEN} >= NOT_YET


@pytest.mark.parametrize(
    "text",
    [
        "The step\nbegins\nanew.",
        "# The step begins anew",
        "* a\n* the step begins anew",
        "1. a\n2. the step\n   begins anew",
        "| a | the step begins anew |\n|---|---|\n",
        "[the step begins anew](a.md)",
        "```python\nx\n```\nThe step begins anew.",
        f"A{' very' * LONGEST} long sentence.",
        "| Whoever asks | waits |",
        "* Whoever asks waits.",
        "**First.** Those that wait are woken.",
    ],
)
def test_prose_is_read_wherever_it_is(text: str) -> None:
    """A banned phrase is found in a paragraph, a heading, a list, a table and the text of a link."""
    assert problems(text)


@pytest.mark.parametrize(
    "text",
    [
        "```text\nit begins anew\n```",
        "  ```text\n  it begins anew\n  ```",
        "    it begins anew",
        "`begins anew`",
        "[a step](begins-anew.md#begins-anew)",
        "<!-- it\nbegins anew -->",
        "The step restarts. `code` is code.",
        f"One{' word' * (LONGEST - 2)} more. And{' word' * (LONGEST - 2)} more.",
        "# The step begins\n\nanew",
    ],
)
def test_code_is_not_read(text: str) -> None:
    """Code, link targets and comments may have any words, and a sentence as many as the limit allows."""
    assert problems(text) == []


def test_a_problem_names_its_line() -> None:
    """The line is that of the passage in the file."""
    assert problems("Fine.\n\n```text\nx\n\ny\n```\n\nThe step begins anew.")[0].startswith("line 9: 'begins anew'")


def test_only_the_next_release_of_the_changelog_is_read(tmp_path: Path) -> None:
    """What an earlier release said stays as it was."""
    page = tmp_path / "CHANGELOG.md"
    page.write_text(
        "# Changelog\n\n## [Unreleased]\n\n- begins anew\n\n## [0.1]\n\n- begins anew\n- for whoever asks\n"
    )
    assert [one.partition(": ")[0] for one in problems(read(page))] == ["line 5"]
