"""Text that came from anywhere, made fit for one line of a terminal."""

from __future__ import annotations

import re

import click

from paigeant.runtime.characters import escaped

_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
"""Characters that end a line, and the tab."""


def one_line(text: object, limit: int | None = None) -> str:
    """The text on one line, with hidden characters as escapes, cut after ``limit`` characters."""
    line = escaped(_BREAKS.sub(" ", str(text)))
    line = "".join(char if char.isprintable() else " " for char in line)
    return line if limit is None or len(line) <= limit else f"{line[:limit]}…"


def say(text: str, *, err: bool = False) -> None:
    """Print text that may contain data. Nothing in it controls a terminal; tabs and newlines stay."""
    click.echo(escaped(text), err=err)


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 request``, ``2 requests``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
