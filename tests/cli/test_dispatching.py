from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from helpers import until

from paigeant.cli.dispatch import _arguments
from paigeant.cli.errors import WrongUsage

ADDRESS = ("--input", '{"email": "ada@example.com"}')


def test_two_terminals(terminal) -> None:
    """The quick start: dispatch before any worker runs, start one, and the result is there. Restart in between."""
    workflow = terminal.run("dispatch", "-A", "onboarding", "validate", "welcome", *ADDRESS).stdout.strip()
    first = terminal.start("worker", "-A", "onboarding", "--only", "validate", "--burst")
    assert first.wait() == 0
    assert terminal.status(workflow) == "running"
    terminal.run("worker", "-A", "onboarding", "--burst")
    assert terminal.run("result", workflow[:18]).stdout == '"Hello, ada@example.com"\n'


def test_follow_prints_events_then_the_result(terminal) -> None:
    """As they happen: the first before any worker is there."""
    following = terminal.start("-A", "onboarding", "dispatch", "validate", "welcome", *ADDRESS, "--follow")
    following.wait_logged("workflow_dispatched")
    terminal.run("worker", "-A", "onboarding", "--burst")
    assert following.wait() == 0
    words = [line.split()[1] for line in following.log.splitlines() if line.startswith("20")]
    assert words == ["workflow_dispatched", "step_completed", "step_completed", "workflow_completed"]
    assert json.loads(following.log.splitlines()[-1]) == "Hello, ada@example.com"


def test_follow_a_workflow_that_fails(terminal) -> None:
    """Exit code 1; with --json every line is an object, the last one says how it ended."""
    options = ("--input", '{"email": "nobody"}', "--json", "--follow", "--id", "of-nobody", "--name", "trial")
    following = terminal.start("-A", "onboarding", "dispatch", "validate", *options)
    following.wait_logged("workflow_dispatched")
    terminal.run("worker", "-A", "onboarding", "--burst")
    assert following.wait() == 1
    lines = [json.loads(line) for line in following.log.splitlines() if line.startswith("{")]
    assert lines[0]["data"]["name"] == "trial"
    assert (lines[-1]["status"], lines[-1]["correlation_id"]) == ("failed", "of-nobody")
    assert lines[-1]["error"]["message"] == "not an address: nobody"


def test_follow_says_when_no_worker_is_running(terminal) -> None:
    """Otherwise a newcomer waits for ever; Ctrl-C ends the waiting, not the workflow."""
    following = terminal.start("-A", "onboarding", "dispatch", "validate", *ADDRESS, "--follow", "--id", "waiting")
    following.wait_logged("no live worker serves 'validate' (queue onboarding.validate): start a worker")
    following.send(signal.SIGINT)
    assert following.wait() == 130
    assert terminal.status("waiting") == "running"


def test_events_follow(terminal) -> None:
    """Prints what comes, until the workflow ends."""
    workflow = terminal.dispatch("onboarding", "validate", email="ada@example.com")
    following = terminal.start("events", workflow, "--follow", "--json")
    following.wait_logged("workflow_dispatched")
    terminal.run("worker", "-A", "onboarding", "--burst")
    until(lambda: following.process.poll() is not None)
    assert json.loads(following.log.splitlines()[-1])["type"] == "workflow_completed"


def test_steps_of_other_services_and_variables(terminal) -> None:
    """An unknown activity is sent all the same, with a remark; files can hold what is long."""
    (terminal.folder / "variables.json").write_text('{"email": "ada@example.com"}')
    options = ("--variables", "@variables.json", "--json")
    done = terminal.run("dispatch", "-A", "onboarding", "validate", "wellcome", *options)
    assert "did you mean 'welcome'?" in done.stderr
    assert done.stderr.count("wellcome") == 1
    found = terminal.json("workflow", json.loads(done.stdout)["correlation_id"], "--json")
    assert found["variables"] == {"email": "ada@example.com"}
    assert [step["activity"] for step in found["steps"]] == ["validate", "wellcome"]


def test_a_broker_of_one_process_is_refused(terminal) -> None:
    """What is dispatched there is gone with the process."""
    refused = terminal.run(
        "dispatch", "-A", "onboarding", "validate", *ADDRESS, code=78, PAIGEANT_BROKER_URL="memory://"
    )
    assert "PAIGEANT_BROKER_URL" in refused.stderr


def test_init_writes_what_runs(terminal) -> None:
    """The printed next steps work as printed, and a second time nothing is overwritten."""
    said = terminal.run("init").stdout
    module = terminal.folder / "hello.py"
    source = module.read_text()
    assert "paigeant worker -A hello" in said
    terminal.run("init", code=2)
    assert module.read_text() == source
    workflow = terminal.run("dispatch", "-A", "hello", "greet", "shout", "--input", '{"name": "Ada"}').stdout.strip()
    terminal.run("worker", "-A", "hello", "--burst")
    assert terminal.run("result", workflow).stdout == '"HELLO, ADA!"\n'


@pytest.mark.parametrize("name", ["no-suffix", "9.py", "no/folder/x.py"])
def test_init_refuses_what_cannot_be_a_module(terminal, name: str) -> None:
    """Nothing is written."""
    before = sorted(terminal.folder.iterdir())
    terminal.run("init", name, code=2)
    assert sorted(terminal.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("steps", "inputs", "expected"),
    [
        (["a"], [], {}),
        (["a"], ['{"x": 1}'], {0: {"x": 1}}),
        (["a", "b"], ['{"x": 1}', 'b:{"y": "p:q"}'], {0: {"x": 1}, 1: {"y": "p:q"}}),
        (["a", "b", "a"], ['3:{"x": 1}', '1:{"x": 2}'], {2: {"x": 1}, 0: {"x": 2}}),
        (["a-b.c"], ['a-b.c:{"x": 1}', '{"y": 2}'], {0: {"x": 1, "y": 2}}),
        (["a"], [' {"x": {"a": 1}}'], {0: {"x": {"a": 1}}}),
    ],
)
def test_inputs_find_their_steps(steps: list[str], inputs: list[str], expected: dict[int, Any]) -> None:
    """The first step, or the one that is named or numbered."""
    assert _arguments(steps, inputs) == expected


@pytest.mark.parametrize("text", ["a:{}", "4:{}", "c:{}", "b:[]", "b:", "[1]"])
def test_inputs_that_fit_no_step(text: str) -> None:
    """``a`` stands for two steps here."""
    with pytest.raises(WrongUsage):
        _arguments(["a", "b", "a"], [text])
