"""The virtual environment of the benchmarks, and what machine and versions they ran with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def default_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "paigeant-benchmarks" / f"py{sys.version_info.major}{sys.version_info.minor}"


def prepare(directory: Path) -> tuple[Path, dict[str, str]]:
    """Make or refresh the environment. Gives its Python, and for what could not be installed the reason."""
    python = directory / "bin" / "python"
    note = directory / "installed.json"
    fingerprint = _fingerprint()
    if note.exists() and (known := json.loads(note.read_text()))["fingerprint"] == fingerprint:
        return python, known["failures"]
    print(f"installing into {directory} …", file=sys.stderr)
    venv.create(directory, with_pip=True, clear=True)
    if reason := _install(python, ["--editable", f"{ROOT}[postgres]"]):
        sys.exit(f"paigeant itself could not be installed: {reason}")
    failures = _install_peers(python)
    note.write_text(json.dumps({"fingerprint": fingerprint, "failures": failures}))
    return python, failures


def _install_peers(python: Path) -> dict[str, str]:
    """All at once; if that does not work, one by one, to know which it was."""
    if not _install(python, ["--requirement", str(_REQUIREMENTS)]):
        return {}
    failures = {}
    for line in requirements():
        if reason := _install(python, [line]):
            failures[re.split(r"[\[=]", line)[0]] = reason
    return failures


def requirements() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in _REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line]


def _install(python: Path, what: list[str]) -> str | None:
    """The reason when it failed."""
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
    return public(errors[0])


def public(text: str) -> str:
    """A reason without addresses and paths of this machine."""
    text = re.sub(r"\b[a-z+]+://\S+", "…", text)
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*", "…", text)[:300]


def _fingerprint() -> str:
    said = _REQUIREMENTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()
    return hashlib.sha256(said).hexdigest()


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """What is installed of these; None for what is not."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str:
    """The state of paigeant that was measured; a plus says that files differ from it."""
    if shutil.which("git") is None:
        return "an unknown commit"
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return known.stdout.strip() or "an unknown commit"


def machine() -> dict[str, object]:
    """What it ran on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem_of_sqlite": _filesystem(Path(tempfile.gettempdir())),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: Path) -> str:
    """The type of the file system that holds the path: the mount with the longest matching name."""
    best = ("", "unknown")
    for line in _lines("/proc/mounts"):
        _, mount, kind, *_ = line.split()
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
