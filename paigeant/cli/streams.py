"""Standard output and standard error of commands, in any encoding."""

from __future__ import annotations

import sys
from contextlib import suppress
from io import TextIOWrapper


def write_what_is_possible() -> None:
    """Have the streams escape what their encoding lacks, rather than fail half-way through a table.

    A stream whose file was replaced may refuse; it stays as it is.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
