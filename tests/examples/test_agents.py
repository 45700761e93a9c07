"""The examples with agents do what their first lines say, without a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from examples_run import EXAMPLES, paigeant, python

JOKES, THREE_AGENTS, SUPPORT = (EXAMPLES / f"{name}.py" for name in ("jokes", "three_agents", "support"))


def test_the_joke_workflow(tmp_path: Path) -> None:
    """The writer inserts the notifier, which posts the joke once."""
    ran = python(JOKES, "Tell me something about cats!", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "extractor: cats\nwriter: Two cats walk into a bar." in ran.stdout
    assert "notifier-agent: The joke is in the channel." in ran.stdout
    (line,) = (tmp_path / "jokes.txt").read_text().splitlines()
    assert line.startswith("Two cats walk into a bar. The third one ducks.")


@pytest.mark.endurance
def test_the_joke_workflow_with_a_worker_for_each_agent(tmp_path: Path) -> None:
    """The README's commands: each agent is found in the one module here that has agents."""
    (tmp_path / "jokes.py").write_bytes(JOKES.read_bytes())
    steps = json.dumps({"prompt": "Something about cats!"})
    sent = paigeant("dispatch", "-A", "jokes", "extractor", "writer", "--variables", steps, "--id", "0", cwd=tmp_path)
    assert sent.returncode == 0, sent.stderr
    for arguments in (("extractor",), ("writer", "jokes"), ("notifier-agent", "jokes.py")):
        worked = paigeant("execute", *arguments, "--burst", cwd=tmp_path)
        assert worked.returncode == 0, worked.stderr
    shown = json.loads(paigeant("workflow", "0", "--json", cwd=tmp_path).stdout)

    assert shown["status"] == "completed"
    assert [step["activity"] for step in shown["steps"]] == ["extractor", "writer", "notifier-agent"]


def test_three_agents_in_a_row(tmp_path: Path) -> None:
    """Each has the output of the one before it."""
    ran = python(THREE_AGENTS, "What about work?", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "three jokes about work"


def test_support_waits_for_a_person(tmp_path: Path) -> None:
    """Nothing is sent before the approval, which comes when no process of the workflow runs."""
    asked = python(SUPPORT, "The invoice is wrong!", cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert "Send this answer?" in asked.stdout
    assert not (tmp_path / "support").exists()
    (approval,) = json.loads(paigeant("approvals", "--json", cwd=tmp_path).stdout)
    words = (approval["correlation_id"], "--question", approval["question"], "--by", "ada")
    approved = paigeant("approve", *words, cwd=tmp_path)
    assert approved.returncode == 0, approved.stderr
    worked = paigeant("worker", "-A", str(SUPPORT), "--burst", cwd=tmp_path)
    assert worked.returncode == 0, worked.stderr
    (sent,) = (tmp_path / "support" / "sent").glob("*.json")

    letter = json.loads(sent.read_text())
    assert (letter["to"], letter["from"]) == ("grace@example.com", "billing")
    assert letter["text"].startswith("Dear customer,")
