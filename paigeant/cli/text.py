"""Text that came from anywhere, made fit for one line of a terminal."""

from __future__ import annotations


def one_line(text: object, limit: int | None = None) -> str:
    """The text without line breaks and control characters, cut after ``limit`` characters."""
    line = "".join(char if char.isprintable() else " " for char in str(text))
    return line if limit is None or len(line) <= limit else f"{line[:limit]}…"


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 request``, ``2 requests``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
