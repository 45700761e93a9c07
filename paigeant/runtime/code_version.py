"""Which code a worker runs, as a short name that is the same wherever the code is the same."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256
from inspect import unwrap
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_OURS = f"{Path(__file__).parents[1]}{os.sep}"


def files_of(function: Any, registered_by: CodeType) -> set[str]:
    """The files in which an activity is written and registered; of an agent only the latter is known."""
    code = getattr(unwrap(function), "__code__", registered_by) if callable(function) else registered_by
    return {code.co_filename, registered_by.co_filename}


def place_of(function: Any, registered_by: FrameType) -> str:
    """Where an activity is written, as ``file:line``; of an agent, where it is registered."""
    code = getattr(unwrap(function), "__code__", None) if callable(function) else None
    if code is not None:
        return f"{_short(code.co_filename)}:{code.co_firstlineno}"
    outer: FrameType | None = registered_by
    while outer is not None and outer.f_code.co_filename.startswith(_OURS):  # a dispatcher makes its agents activities
        outer = outer.f_back
    place = outer or registered_by
    return f"{_short(place.f_code.co_filename)}:{place.f_lineno}"


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def code_version(files: Iterable[str]) -> str:
    """Twelve hexadecimal digits of a hash over the files' contents; empty when one cannot be read.

    Where the files lie and what they are called does not matter: hosts may differ in that.
    """
    try:
        digests = sorted(sha256(Path(file).read_bytes()).hexdigest() for file in files)
    except OSError:  # typed into a console, or in a zip archive
        return ""
    return sha256("".join(digests).encode()).hexdigest()[:12] if digests else ""
