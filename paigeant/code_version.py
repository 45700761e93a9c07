"""Which code a worker runs, as a short name that is the same wherever the code is the same."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from inspect import unwrap
from pathlib import Path
from types import CodeType
from typing import Any


def files_of(function: Any, registered_by: CodeType) -> set[str]:
    """The files in which an activity is written and registered; of an agent only the latter is known."""
    written = getattr(unwrap(function), "__code__", registered_by) if callable(function) else registered_by
    return {written.co_filename, registered_by.co_filename}


def code_version(files: Iterable[str]) -> str:
    """Twelve hexadecimal digits of a hash over the files' contents; empty when one cannot be read.

    Where the files lie and what they are called does not matter: hosts may differ in that.
    """
    try:
        digests = sorted(sha256(Path(file).read_bytes()).hexdigest() for file in files)
    except OSError:  # typed into a console, or in a zip archive
        return ""
    return sha256("".join(digests).encode()).hexdigest()[:12] if digests else ""
