"""Errors of SQLite that the disk causes, and whether a SQLite file is on this machine."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_REMOTE = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|glusterfs|beegfs|ncpfs|davfs|virtiofs|"
    r"fuse\.(?!overlayfs|fuse-overlayfs|mergerfs|bindfs|encfs|gocryptfs|cryfs|ntfs|exfat).+"
)
"""Types of file systems whose files are, or may be, on another machine."""

_LITTLE = 64 * 1024
"""Bytes: with less, SQLite cannot even lay out its shared memory."""


def explained(error: sqlite3.Error, path: str) -> str:
    """Return the text of SQLite's error, with advice if the disk is the cause."""
    advice = _advice(getattr(error, "sqlite_errorcode", 0) & 0xFF, Path(path))
    return f"{error}: {advice}" if advice else str(error)


def _advice(code: int, path: Path) -> str | None:
    match code:
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR if code == sqlite3.SQLITE_FULL or _is_full(path.parent):
            return f"the disk is full, free some space on the disk that has {path}, work continues then"
        case sqlite3.SQLITE_READONLY:
            return f"this user must be allowed to write {path} and its folder, see: ls -ld {path} {path.parent}"
        case sqlite3.SQLITE_IOERR:
            return (
                f"the disk that has {path} cannot be read or written: is it full, faulty, limited or a network drive?"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return _why_not_opened(path)
    return None


def _why_not_opened(path: Path) -> str | None:
    folder = path.parent
    if path.is_dir():
        return f"{path} is a folder"
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if _is_read_only(folder):
        return f"the file system that has {folder} is read-only, and SQLite writes beside the file even to read it"
    if not os.access(folder, os.W_OK):
        return f"this user may not write in the folder {folder}, and SQLite keeps files beside the database there"
    return f"this user must be allowed to read and write {path}" if path.exists() else None


def _is_read_only(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _is_full(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE


def remote_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that has this file, or None if there is none or it is unknown."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    where = path.absolute().parent.resolve()
    found = [(_unquoted(parts[1]), parts[2]) for line in lines if len(parts := line.split(" ")) > 2]
    over = [(len(point.parts), number, kind) for number, (point, kind) in enumerate(found) if _has(point, where)]
    kind = max(over)[2] if over else ""
    return kind if _REMOTE.fullmatch(kind) else None


def _has(point: Path, where: Path) -> bool:
    return where == point or point in where.parents


def _unquoted(text: str) -> Path:
    """Return the path, in which the kernel writes blanks and the like as octal numbers."""
    return Path(re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), text))
