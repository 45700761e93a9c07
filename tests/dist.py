"""What `tox -e dist` checks of a built wheel beside its contents: how large it is, and what its base install brings.

    python tests/dist.py DIRECTORY

The directory has one wheel. Prints what each direct dependency brings, and fails when a limit is exceeded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LARGEST_WHEEL = 1_000_000
"""Bytes of the wheel, apart from the documents that `paigeant demo` reads."""

MOST_DISTRIBUTIONS = 41
"""What `pip install paigeant` installs, paigeant included."""

LARGEST_INSTALL = 90_000_000
"""Bytes of that without compiled files."""

DOCUMENTS = "paigeant/demo/documents/"


def wheel_size(wheel: Path) -> int:
    with ZipFile(wheel) as archive:
        return sum(one.compress_size for one in archive.infolist() if not one.filename.startswith(DOCUMENTS))


def pip(*words: str | Path) -> str:
    command = [sys.executable, "-m", "pip", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600).stdout


def resolved(wheel: Path) -> dict[str, Any]:
    """The metadata of every distribution that pip would install into an empty environment, by name."""
    report = json.loads(pip("install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", wheel))
    return {canonicalize_name(one["metadata"]["name"]): one["metadata"] for one in report["install"]}


def brought_by(name: str, found: dict[str, Any], seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The distribution and all that it requires here; an extra counts when what it names is installed."""
    if name in seen or name not in found:
        return seen
    seen |= {name}
    for line in found[name].get("requires_dist", ()):
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", "crypto")):
            seen = brought_by(canonicalize_name(requirement.name), found, seen)
    return seen


def installed_size(wheel: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        pip("install", "--quiet", "--no-compile", "--target", folder, wheel)
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def main(directory: str) -> int:
    [wheel] = Path(directory).glob("*.whl")
    found = resolved(wheel)
    direct = [Requirement(line) for line in found["paigeant"]["requires_dist"]]
    for requirement in direct:
        if requirement.marker is None:
            names = brought_by(canonicalize_name(requirement.name), found)
            print(f"{requirement.name:20} {len(names):3}  {' '.join(sorted(names - {requirement.name}))}")
    measured = {
        "bytes of the wheel without the demo's documents": (wheel_size(wheel), LARGEST_WHEEL),
        "distributions of the base install": (len(found), MOST_DISTRIBUTIONS),
        "bytes of the base install": (installed_size(wheel), LARGEST_INSTALL),
    }
    for what, (number, limit) in measured.items():
        print(f"{number:>12,} {what}, at most {limit:,}")
    return int(any(number > limit for number, limit in measured.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
