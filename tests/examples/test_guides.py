"""The guides of the documents, by their names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from examples_run import EXAMPLES, paigeant, python


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the examples in a folder, as in a clone."""
    (tmp_path / "examples").mkdir()
    for guide in ("dispatcher_example", "execution_example", "three_agent_workflow_example"):
        shutil.copy(EXAMPLES / f"{guide}.py", tmp_path / "examples")
    return tmp_path


def test_the_dispatcher_sends_and_an_executor_runs_each_agent(here: Path) -> None:
    """Three programs, one after the other: the workflow waits for whichever comes."""
    sent = python("examples/dispatcher_example.py", "Tell me a joke about cats!", cwd=here)
    assert sent.returncode == 0, sent.stderr
    workflow = sent.stdout.strip()
    for agent in ("joke-generator", "joke-selector"):
        before = json.loads(paigeant("workflow", workflow, "--json", cwd=here).stdout)
        assert before["status"] == "running"
        ran = python("examples/execution_example.py", agent, "examples.dispatcher_example", "--burst", cwd=here)
        assert ran.returncode == 0, ran.stderr
    shown = json.loads(paigeant("workflow", workflow, "--json", cwd=here).stdout)

    assert shown["status"] == "completed"
    assert [step["activity"] for step in shown["steps"]] == ["joke-generator", "joke-selector"]
    assert shown["output"] == "Two cats walk into a bar."


def test_the_executor_says_how_it_is_used(here: Path) -> None:
    """And which agent is not there."""
    assert "usage: " in python("examples/execution_example.py", cwd=here).stderr
    wrong = python("examples/execution_example.py", "joke-generatr", "examples.dispatcher_example", "--burst", cwd=here)
    assert wrong.returncode == 1
    assert "did you mean 'joke-generator'?" in wrong.stderr


def test_three_agents_each_with_a_worker(here: Path) -> None:
    """Each forwards to the next; one id finds all of it."""
    ran = python("examples/three_agent_workflow_example.py", "Where is my order 42?", cwd=here)

    assert ran.returncode == 0, ran.stderr
    first, *steps = ran.stdout.splitlines()
    assert steps == [
        "input_agent: order 42",
        "enrichment_agent: order 42: shipped",
        "output_agent: Your order 42 is on its way.",
    ]
    shown = json.loads(paigeant("workflow", first.split()[1], "--json", cwd=here).stdout)
    assert shown["status"] == "completed"
    assert len({step["worker"] for step in shown["steps"]}) == 3
