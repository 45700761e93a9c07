"""Writes files for commands."""

from __future__ import annotations

from collections.abc import Iterable

from paigeant.cli.errors import WrongUsage
from paigeant.runtime import private


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Write the lines to a new file that only its owner can read.

    Raises:
        WrongUsage: it cannot be written.
    """
    try:
        with private.create(path) as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise WrongUsage(f"cannot write {path!r}: {error.strerror}", hint="name another file: -o FILE") from error
