"""The benchmarks run and report what they promise. Their numbers are never asserted: they say how busy a machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

BUSY = {
    "workflows", "completed", "hops", "repeated_steps", "seconds", "hops_per_second", "dispatched_per_second",
    "cpu_seconds_per_1000_hops", "peak_rss_mib", "rounds",
}  # fmt: skip
IDLE = {"start_up_seconds", "idle_cpu_percent", "samples", "last_step_ms", "result_ms"}
WAITING = {"concurrency", "workflows", "completed", "ideal_seconds", "seconds", "times_the_ideal"}


@pytest.mark.endurance
@pytest.mark.skipif(sys.platform != "linux", reason="CPU and memory are read from /proc")
def test_a_quick_run_reports_every_number(tmp_path: Path) -> None:
    """paigeant is measured; a peer that is not there is reported, not dropped."""
    output = tmp_path / "found"
    command = [sys.executable, "-m", "benchmarks.run", "--here", "--quick", "--concurrency", "50"]
    done = subprocess.run(
        [*command, "--systems", "paigeant-sqlite,taskiq-rabbitmq", "--rabbitmq", "amqp://127.0.0.1:1//",
         "--redis", "", "--output", str(output)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())
    ours, peer = results["systems"]
    report = output.with_suffix(".md").read_text()

    assert {"made", "commit", "options", "machine", "servers"} <= results.keys()
    assert ours["troubles"] == []
    assert set(ours["busy"]) == BUSY
    assert set(ours["idle"]) == IDLE
    assert [set(level) for level in ours["waiting"]] == [WAITING]
    assert ours["busy"]["completed"] == ours["busy"]["workflows"]
    assert "paigeant" in ours["versions"]
    assert peer["status"] != "measured"
    assert peer["troubles"][0]["reason"]
    assert "| paigeant-sqlite |" in report
    assert "taskiq-rabbitmq" in report
    assert "/tmp/" not in report


def test_the_delay_of_tokens_is_reported_beside_that_of_a_bare_pipe() -> None:
    """Every token arrives."""
    command = [sys.executable, "-m", "benchmarks.tokens", "--setups", "pipe,sqlite", "--streams", "2", "--tokens", "20"]
    done = subprocess.run(
        [*command, "--pause", "0.05", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    pipe, ours = [json.loads(line) for line in done.stdout.splitlines()]
    assert (pipe["setup"], ours["setup"]) == ("pipe", "sqlite")
    assert pipe["tokens"] == ours["tokens"] == 40
    assert ours["p50"] <= ours["p95"] <= ours["p99"]


@pytest.mark.endurance
@pytest.mark.skipif(sys.platform != "linux", reason="CPU and memory are read from /proc")
def test_agents_at_once_are_reported_beside_the_bare_agents(tmp_path: Path) -> None:
    """With a journal, and without any framework."""
    pytest.importorskip("openai")
    output = tmp_path / "found"
    few = ["--agents", "4", "--seconds", "0.05", "--waves", "1", "--rounds", "1", "--requests", "3"]
    command = [sys.executable, "-m", "benchmarks.agents", "--here", "--setups", "gather,paigeant-sqlite,celery-threads"]
    done = subprocess.run(
        [*command, *few, "--redis", "", "--output", str(output)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    bare, ours, peer = json.loads(output.with_suffix(".json").read_text())["systems"]
    assert bare["times_the_gather"] == 1.0
    assert ours["times_the_gather"] == pytest.approx(ours["seconds"] / bare["seconds"])
    assert peer["reason"] == "no redis server"
    assert "| paigeant-sqlite | 3 |" in output.with_suffix(".md").read_text()
