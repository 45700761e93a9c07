"""The fixtures, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

_TEST = """
from paigeant import App
from paigeant.testing import SimulationFailed
app = App("mine")

@app.activity
async def answer() -> int:
    return 42

def test_run(run_workflow):
    assert run_workflow(app, answer).result() == 42

def test_simulate(simulate_workflow):
    assert len(simulate_workflow(app, answer, tiers=["atomic"])) == 3
"""


def test_the_fixtures_and_the_option(tmp_path: Path) -> None:
    """As a user's pytest has them; loaded by hand, since the entry point is there only when paigeant is installed."""
    (tmp_path / "test_mine.py").write_text(_TEST)
    plugin = ["-p", "no:paigeant", "-p", "paigeant.testing.pytest_plugin"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, "-p", "no:cacheprovider", "--paigeant-random=2", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


def test_the_entry_point_is_a_plugin() -> None:
    """Its module can be imported, and has both fixtures."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    plugin = import_module(project["project"]["entry-points"]["pytest11"]["paigeant"])
    assert {"run_workflow", "simulate_workflow", "pytest_addoption"} <= set(dir(plugin))
