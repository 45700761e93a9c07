"""The code blocks of the documentation, as data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S[^>]*) -->\s*\Z")
_KEY = re.compile(r"(.*?)(?:^(\^[C\\])([^\n]*)\n)?\Z", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r'[ \t]*(?P<language>[\w-]*)(?:[ \t]+title="(?P<title>[^"]+)")?[^\n]*\n')


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its fence, ``not_run`` the reason that stands above it, if one does."""

    path: Path
    line: int
    language: str
    title: str | None
    source: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    document = Document.parse(str(path), RawFencedCodeBlockLexer(_FENCE))
    for example in document.examples():
        found = example.region.lexemes
        marker = _NOT_RUN.search(document.text[: example.region.start])
        yield Block(
            path=path,
            line=example.line,
            language=found["language"],
            title=found["title"],
            source=str(found["source"]),
            not_run=marker["reason"] if marker else None,
        )


@dataclass(frozen=True)
class Command:
    """A command, the output under it, and the key that the reader presses then: ``^C``, ``^\\`` or none."""

    text: str
    output: str = ""
    key: str | None = None

    @property
    def words(self) -> list[str]:
        """Program and arguments, without the variables that are set before them."""
        words = shlex.split(self.text, comments=True)
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        return words

    @property
    def runs_on(self) -> bool:
        """Whether the command is a worker or a server, which runs until somebody stops it."""
        words = self.words
        is_worker = words[:1] == ["paigeant"] and "worker" in words and not {"--burst", "--help"} & set(words)
        return is_worker or words[:1] == ["uvicorn"]


def commands(source: str, *, prompt: bool = True) -> Iterator[Command]:
    """The commands of a console block; without ``prompt``, of a script in which every line is one."""
    source = source.replace("\\\n", " ")
    if not prompt:
        lines = (line.strip() for line in source.splitlines())
        yield from (Command(line) for line in lines if line and not line.startswith("#"))
        return
    head, *rest = re.split(r"^\$ ", source, flags=re.MULTILINE)
    assert not head.strip(), "a console block begins with `$ `, not with output"
    for part in rest:
        text, _, output = part.partition("\n")
        output, key, _ = re.match(_KEY, output).groups()
        yield Command(text.strip(), output, key)
