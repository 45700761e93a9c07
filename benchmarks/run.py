"""Measure paigeant and its peers side by side: ``python -m benchmarks.run`` from the root of the repository.

Without ``--here`` it makes a virtual environment of its own with the peers in it, and goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # python benchmarks/run.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import environment, place, servers
from benchmarks.report import markdown, publish
from benchmarks.systems import SYSTEMS, Entry

_FAILURES = "BENCH_INSTALL_FAILURES"
_SLACK = 120.0
"""Seconds a measurement may take beyond what it watches a worker for, before it is given up."""

_QUICK = {"workflows": 20, "samples": 5, "settle": 0.2, "idle": 0.3, "waiting_workflows": 20, "waiting": 0.02}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--systems", metavar="NAME,…", help=f"default: all of {', '.join(SYSTEMS)}")
    parser.add_argument("--workflows", type=int, help="of no-op steps (default 2000)")
    parser.add_argument("--rounds", type=int, help="of the no-op work, the systems in turns (default 3)")
    parser.add_argument("--limit", type=float, default=20.0, help="longest seconds for one no-op run (default 20)")
    parser.add_argument("--concurrency", default="100,500", help="of the waiting steps (default 100,500)")
    parser.add_argument("--parts", default="busy,idle,waiting", help="default: all three")
    parser.add_argument("--quick", action="store_true", help="a trial of everything with very little work")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/latest"), help="without suffix")
    parser.add_argument("--here", action="store_true", help="use this Python and what is installed")
    parser.add_argument("--venv", type=Path, default=environment.default_directory(), help="where the peers live")
    parser.add_argument("--rabbitmq", default=place.RABBITMQ, metavar="URL")
    parser.add_argument("--postgresql", default=place.POSTGRES, metavar="URL")
    parser.add_argument("--redis", metavar="URL", help="with an EMPTY database; default: a server started for the run")
    given = parser.parse_args()
    given.systems = given.systems.split(",") if given.systems else list(SYSTEMS)
    if unknown := [name for name in given.systems if name not in SYSTEMS]:
        parser.error(f"no system {unknown[0]!r}; there are: {', '.join(SYSTEMS)}")
    given.rounds = given.rounds or (1 if given.quick else 3)
    return given


class Run:
    """The measurements of one run, and what they found."""

    def __init__(self, given: argparse.Namespace, redis_url: str, failures: dict[str, str]) -> None:
        self.given = given
        self.servers = {"rabbitmq": given.rabbitmq, "postgresql": given.postgresql, "redis": redis_url}
        self.failures = failures
        self.answers: dict[str, list[dict[str, Any]]] = {name: [] for name in given.systems}

    def take(self) -> None:
        """The no-op rounds in turns, so that what disturbs the machine for a while disturbs all."""
        if "busy" in self.given.parts:
            for number in range(self.given.rounds):
                self._all({"part": "busy"}, f"no-op work, round {number + 1} of {self.given.rounds}")
        if "idle" in self.given.parts:
            self._all({"part": "idle"}, "idle worker")
        if "waiting" in self.given.parts:
            for concurrency in map(int, self.given.concurrency.split(",")):
                self._all({"part": "waiting", "concurrency": concurrency}, f"waiting steps, {concurrency} at once")

    def _all(self, part: dict[str, Any], title: str) -> None:
        for name in self.given.systems:
            if any(one["status"] != "measured" and one["part"] == "busy" for one in self.answers[name]):
                continue  # what does not do the plain work is not asked for more
            began = time.monotonic()
            answer = self._measure(SYSTEMS[name], part)
            took = time.monotonic() - began
            self.answers[name].append(answer)
            print(f"{title}: {name}: {_shortly(answer)}  ({took:.0f} s)", file=sys.stderr, flush=True)

    def _measure(self, entry: Entry, part: dict[str, Any]) -> dict[str, Any]:
        options = part | self._amounts()
        found = {"part": part["part"], "options": options}
        if missing := [name for name in entry.needs if not self.servers[name]]:
            return found | {"status": "not available", "reason": f"no {missing[0]} server"}
        if failed := [name for name in entry.packages if name in self.failures]:
            return found | {"status": "not installed", "reason": f"{failed[0]}: {self.failures[failed[0]]}"}
        try:
            with place.scratch(entry.name, self.servers, entry.needs) as where:
                return found | self._in_its_own_process(where, options)
        except Exception as error:  # noqa: BLE001 - a server that is not there must not end the run
            return found | {"status": "failed", "reason": environment.public(f"{type(error).__name__}: {error}")}

    def _in_its_own_process(self, where: place.Place, options: dict[str, Any]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="pgtbench-") as directory:
            answer = Path(directory) / "answer.json"
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.measure", json.dumps(options), str(answer)],
                cwd=environment.ROOT, env=os.environ | where.environment(),
                stdout=subprocess.DEVNULL, stderr=None if os.environ.get("BENCH_DEBUG") else subprocess.DEVNULL,
            )  # fmt: skip
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(3 * self.given.limit + _SLACK)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(30)
            if not answer.exists():
                return {"status": "failed", "reason": f"no answer (exit code {process.returncode})"}
            said = json.loads(answer.read_text())
        if "reason" in said:
            said["reason"] = environment.public(said["reason"])
        return said

    def _amounts(self) -> dict[str, Any]:
        amounts: dict[str, Any] = dict(_QUICK) if self.given.quick else {}
        if self.given.workflows:
            amounts["workflows"] = self.given.workflows
        return amounts | {"limit": self.given.limit}

    def results(self, about: dict[str, Any]) -> dict[str, Any]:
        return about | {
            "systems": [_summary(SYSTEMS[name], answers) for name, answers in self.answers.items() if answers]
        }


def _summary(entry: Entry, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """What the answers about one system say together."""
    good = [one for one in answers if one["status"] == "measured"]
    troubles = [
        {"part": _title(one), "status": one["status"], "reason": one["reason"]}
        for one in answers
        if one["status"] != "measured"
    ]
    summary: dict[str, Any] = {
        "name": entry.name,
        "broker": entry.broker,
        "peer": entry.peer,
        "status": "measured" if good else answers[0]["status"],
        "versions": environment.versions(entry.packages),
        "troubles": troubles,
        "waiting": [one["values"] for one in good if one["part"] == "waiting"],
    }
    if good:
        summary |= {key: good[0][key] for key in ("guarantee", "setup")}
    if busy := [one["values"] for one in good if one["part"] == "busy"]:
        summary["busy"] = _median_round(busy)
    if idle := [one["values"] for one in good if one["part"] == "idle"]:
        summary["idle"] = idle[0]
    return summary


def _median_round(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Each number is the median of the rounds; the rates of all of them are kept, to see how far they lie apart."""
    middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    return middle | {"rounds": [one["hops_per_second"] for one in rounds]}


def _title(answer: dict[str, Any]) -> str:
    concurrency = answer["options"].get("concurrency") if answer["part"] == "waiting" else None
    return f"waiting steps, {concurrency} at once" if concurrency else str(answer["part"])


def _shortly(answer: dict[str, Any]) -> str:
    if answer["status"] != "measured":
        return f"{answer['status']}: {answer['reason']}"
    values = answer["values"]
    match answer["part"]:
        case "busy":
            return f"{values['hops_per_second']:,.0f} hops/s"
        case "idle":
            return f"p50 {values['last_step_ms']['p50']:.1f} ms" if values["last_step_ms"] else "no latency in process"
        case _:
            return f"{values['times_the_ideal']:.2f} times the ideal" if values["seconds"] else "not in time"


def _move_to_own_environment(given: argparse.Namespace) -> None:
    python, failures = environment.prepare(given.venv)
    os.environ[_FAILURES] = json.dumps(failures)
    os.execv(python, [str(python), "-m", "benchmarks.run", "--here", *sys.argv[1:]])


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    given = arguments()
    given.output = given.output.resolve()
    os.chdir(environment.ROOT)
    if not given.here:
        _move_to_own_environment(given)
    failures: dict[str, str] = json.loads(os.environ.get(_FAILURES, "{}"))
    needed = {server for name in given.systems for server in SYSTEMS[name].needs}
    about = {
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "options": {
            "quick": given.quick, "workflows": given.workflows or (_QUICK["workflows"] if given.quick else 2000),
            "rounds": given.rounds, "limit": given.limit, "concurrency": given.concurrency,
        },
        "commit": environment.commit(),
        "machine": environment.machine(),
    }  # fmt: skip
    with servers.redis_server(given.redis, wanted="redis" in needed) as redis_url:
        run = Run(given, redis_url, failures)
        about["servers"] = servers.describe(run.servers, needed, private_redis=given.redis is None)
        with suppress(KeyboardInterrupt):  # what was measured until then is written none the less
            run.take()
    results = run.results(about)
    publish(given.output, results, markdown(results))


if __name__ == "__main__":
    main()
