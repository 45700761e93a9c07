"""Checks of this machine: who may read the files with data, and which modules the working directory has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from paigeant.database.address import address_of
from paigeant.database.sqlite import files_of
from paigeant.doctor.finding import Finding, Verdict
from paigeant.errors import ConfigurationError
from paigeant.runtime import beside, private
from paigeant.runtime.urls import is_database_url
from paigeant.transports import url_options

_LOCAL = ("file://", "local://")


def files(urls: Iterable[str | None], claim_check: str | None) -> Finding:
    """Check whether others than their owner may read the files and folders with messages, history and values."""
    paths = [path for url in urls if url for path in _paths_of(url)]
    if claim_check is not None and (claim_check.startswith(_LOCAL) or "://" not in claim_check):
        paths.append(Path(claim_check.partition("://")[2] or claim_check))
    exposed = private.exposed(dict.fromkeys(paths))
    if not exposed:
        return Finding("files", Verdict.OK, "no file with messages or history on this machine is open to other users")
    told = ", ".join(f"{path} (mode {mode:04o})" for path, mode in exposed.items())
    folders = [path for path in exposed if Path(path).is_dir()]
    plain = [path for path in exposed if path not in folders]
    modes = ((private.FILE, plain), (private.FOLDER, folders))
    commands = "; ".join(f"chmod {mode:o} {' '.join(paths)}" for mode, paths in modes if paths)
    advice = f"they can contain arguments, outputs and tokens of users: {commands}"
    return Finding("files", Verdict.WARN, f"other users of this machine may use {told}", advice)


def _paths_of(url: str) -> list[Path]:
    """Return the files and folders on this machine in which a broker or a store keeps data."""
    scheme = url.partition("://")[0]
    if is_database_url(url):
        return files_of(address_of(url)) if scheme.startswith("sqlite") else []
    if scheme.removeprefix("kombu+") == "filesystem":
        with suppress(ConfigurationError):
            folders = url_options.filesystem(url)[1]
            return [Path(path) for name, path in folders.items() if name != "store_processed"]
    return []


def modules(folder: Path) -> Finding:
    """Check whether a module of the working directory has the name of a library or of another installed module."""
    planted = beside.taking_a_librarys_place(folder)
    if planted:
        names = ", ".join(os.path.relpath(path) for path in planted)
        advice = "no App can be loaded here: rename the file, or install the library of that name"
        return Finding("modules", Verdict.WARN, f"{names} would be imported instead of a library", advice)
    hidden = [str(found) for name in beside.names(folder) if (found := beside.hidden(folder, name)) is not None]
    if hidden:
        advice = "paigeant imports installed modules first: rename the file, or name it as -A ./FILE"
        return Finding("modules", Verdict.WARN, "; ".join(hidden), advice)
    return Finding("modules", Verdict.OK, "no module of this folder has the name of an installed one")
