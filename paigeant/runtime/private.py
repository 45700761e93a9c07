"""Files and folders with data: only their owner may read and write them, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from paigeant.runtime import forks

FILE, FOLDER = 0o600, 0o700
"""Modes of new files and folders."""

_GROUP = 0o070
_OTHERS = 0o077
"""The bits of a mode that let anybody but the owner in."""

_creating = forks.Lock()


def ensure(path: str | os.PathLike[str]) -> None:
    """Create this file, empty, if it does not exist. A file that exists keeps its mode.

    Only one thread at a time may do so: closing a file drops all locks that the process has on it, also those of a
    SQLite connection that another thread has just opened.

    Raises:
        OSError: the file cannot be created.
    """
    with _creating:
        whole = os.path.realpath(path)  # O_EXCL refuses a symbolic link, also one to a file that does not exist
        with suppress(FileExistsError):
            os.close(_opened(whole, FILE))


def create(path: str | os.PathLike[str], mode: str = "w", *, shared_with: str | None = None) -> IO[Any]:
    """Open a new file for writing, as text in UTF-8 or with ``mode="wb"`` as bytes.

    ``shared_with`` is a folder: if its group may write there, the group may read and write the file.

    Raises:
        FileExistsError: there is a file of this name.
        OSError: the file cannot be created.
    """
    wanted = FILE | (_group_of(shared_with) & 0o060 if shared_with else 0)
    descriptor = _opened(path, wanted)
    return os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8")


def append(path: str | os.PathLike[str]) -> IO[str]:
    """Open a file to append text, and create it if it does not exist."""
    ensure(path)
    return Path(path).open("a", encoding="utf-8")


def folder(path: str | os.PathLike[str], *, shared_with: str | None = None) -> None:
    """Create this folder, and those above it that do not exist. A folder that exists keeps its mode.

    ``shared_with`` is as in :func:`create`.

    Raises:
        OSError: a folder cannot be created.
    """
    wanted = FOLDER | (_group_of(shared_with) if shared_with else 0)
    missing = [one for one in (Path(path), *Path(path).parents) if not one.is_dir()]
    for one in reversed(missing):
        with suppress(FileExistsError):  # another process was quicker; a file of this name fails below
            one.mkdir(mode=wanted)
            _set_mode(one, wanted)
    if not Path(path).is_dir():
        raise NotADirectoryError(f"{os.fspath(path)!r} is not a folder")


def exposed(paths: Iterable[str | os.PathLike[str]]) -> dict[str, int]:
    """Return those of these files and folders that others than their owner may use, each with its mode."""
    found = dict[str, int]()
    for path in paths:
        with suppress(OSError):
            mode = stat.S_IMODE(Path(path).stat().st_mode)
            if mode & _OTHERS:
                found[os.fspath(path)] = mode
    return found


def _group_of(path: str) -> int:
    """Return the group's bits for what is created in a folder: all of them if its group may write there, else none."""
    try:
        return _GROUP if Path(path).stat().st_mode & stat.S_IWGRP else 0
    except OSError:
        return 0


def _opened(path: str | os.PathLike[str], mode: int) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    _set_mode(descriptor, mode)
    return descriptor


def _set_mode(of: int | Path, mode: int) -> None:
    """Set the mode that the umask has narrowed, on file systems that have modes."""
    with suppress(OSError):
        if stat.S_IMODE(os.stat(of).st_mode) != mode:  # noqa: PTH116 - also of a descriptor
            os.chmod(of, mode)  # noqa: PTH101
