from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from paigeant.cli import COMMANDS, cli

HEAVY = ("pydantic", "pydantic_ai", "sqlalchemy", "kombu", "structlog", "rich", "asyncio", "fast_depends")
NAMES = [name for section in COMMANDS.values() for name in section]


def imported(log: str) -> set[str]:
    """The top-level packages in the output of ``-X importtime``."""
    return {match[1].partition(".")[0] for match in re.finditer(r"\| +(\S+)$", log, re.MULTILINE)}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_what_only_prints_imports_little(arguments: list[str]) -> None:
    """--help is quick because nothing is imported for it."""
    command = [sys.executable, "-X", "importtime", "-m", "paigeant", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "paigeant" in done.stdout
    assert "click" in imported(done.stderr)
    assert imported(done.stderr).isdisjoint(HEAVY)


def test_completion_imports_little() -> None:
    """A shell asks on every press of the tab key."""
    asked = {"_PAIGEANT_COMPLETE": "bash_complete", "COMP_WORDS": "paigeant workf", "COMP_CWORD": "1"}
    command = [sys.executable, "-X", "importtime", "-m", "paigeant"]
    done = subprocess.run(command, env=asked, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["plain,workflows", "plain,workflow"]
    assert imported(done.stderr).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str) -> None:
    """The summary in the list and the help of the command agree, and -A may follow every command."""
    if find_spec(f"paigeant.cli.{name}") is None:
        pytest.skip("not part of this tree")
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"Usage: cli {name}")
    assert "-A, --app" in shown.stdout
    assert "\\b" not in shown.stdout


def test_lists_every_command() -> None:
    """By sections, each with its summary."""
    shown = CliRunner().invoke(cli, ["-h"]).stdout
    assert all(re.search(rf"^  {name} +\S", shown, re.MULTILINE) for name in NAMES)
    assert [line for line in shown.splitlines() if line.rstrip(":") in COMMANDS] == [f"{title}:" for title in COMMANDS]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    """Each names the variable that asks this program."""
    assert "_PAIGEANT_COMPLETE" in CliRunner().invoke(cli, ["completion", shell]).stdout
