"""``paigeant demo`` kills a real worker and proves that nothing was lost."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from examples_run import environment, paigeant
from helpers import until
from processes import Process, start


def pids(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"\(pid (\d+)\)", output)]


def begin(folder: Path) -> Process:
    """The demo, on its way; what it shows goes to a file."""
    with (folder / "shown").open("wb") as shown:
        return start(
            "-m", "paigeant", "demo", "--into", str(folder / "out"), cwd=folder, env=environment(), stdout=shown
        )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def all_gone(*found: int) -> bool:
    return not any(is_alive(pid) for pid in found)


@pytest.mark.parametrize("given", ["its own documents", "a folder", "one small file"])
def test_the_workflow_completes_although_its_worker_was_killed(tmp_path: Path, given: str) -> None:
    """Exit code 0, both workers gone, and the history that the demo points to says the same as the demo."""
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "one.rst").write_text("Title\n=====\n\nSome words about lighthouses. " * 20)
    (texts / "two.py").write_text('def lamp():\n    """Light the lamp of the lighthouse."""\n' * 5)
    path = {"its own documents": (), "a folder": (texts,), "one small file": (texts / "two.py",)}[given]
    ran = paigeant("demo", *map(str, path), "--into", str(tmp_path / "out"), cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert ran.stdout.count("yes  ") == 6
    killed, heir = pids(ran.stdout)
    assert f"kill -9 {killed}" in ran.stdout
    assert all_gone(killed, heir)
    assert {one.stat().st_mode & 0o777 for one in (tmp_path / "out").iterdir()} == {0o600}

    command = next(line.split() for line in ran.stdout.splitlines() if line.startswith("  paigeant workflow 0"))
    history = json.loads(paigeant(*command[1:], "--json", cwd=tmp_path).stdout)
    assert history["status"] == "completed"
    steps = {step["activity"]: step for step in history["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(
        ("read", "rank", "write"), "completed"
    )
    assert [steps[name]["deliveries"] for name in ("read", "rank", "write")] == [1, 2, 1]
    assert f"-{killed}-" in steps["read"]["worker"]
    assert f"-{heir}-" in steps["rank"]["worker"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["documents"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_process_behind(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C in the middle ends the worker as well, without a traceback."""
    process = begin(tmp_path)
    try:
        (worker,) = until(lambda: pids((tmp_path / "shown").read_text()), 60)
        process.send_signal(how)
        assert process.wait(10) == 130
    finally:
        process.kill()

    assert all_gone(worker)
    assert "Traceback" not in (tmp_path / "shown").read_text()


def test_killed_itself_its_worker_ends_too(tmp_path: Path) -> None:
    """Not even SIGKILL of the demo leaves a worker running for long."""
    process = begin(tmp_path)
    (worker,) = until(lambda: pids((tmp_path / "shown").read_text()), 60)
    process.kill()
    process.wait()

    until(lambda: all_gone(worker), 20)


def test_nothing_to_read_is_a_usage_error(tmp_path: Path) -> None:
    """Said in a line, before anything is started."""
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = paigeant("demo", str(empty), cwd=tmp_path)

    assert ran.returncode == 2
    assert "there are no documents in" in ran.stderr
    assert len(ran.stderr.splitlines()) <= 6


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    """--into never mixes with files that are there already."""
    (tmp_path / "precious.txt").write_text("mine")
    ran = paigeant("demo", "--into", str(tmp_path), cwd=tmp_path)

    assert ran.returncode == 2
    assert "is not empty" in ran.stderr
