"""Running examples and commands as a user does: in a process, from some folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from processes import run

EXAMPLES = Path(__file__).parents[1] / "examples"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT_")}


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(*map(str, arguments), cwd=cwd, env=environment())


def paigeant(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "paigeant", *arguments, cwd=cwd)
