"""Agents at once in one worker process: how close to the time that their model takes.

Steps that each run an agent wait before the worker starts, which runs a hundred at once. The first hundred make its
connections; the time is taken from their end until the model server has given the last answer of the others. Their
client is OpenAI's, over HTTP; the model server is a process of its own on the same machine. ``gather`` is what the
agents cost by themselves, without any framework.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import environment, place, servers
from benchmarks.agents.measure import Options, measure
from benchmarks.report import publish

SETUPS: dict[str, frozenset[str]] = {
    "gather": frozenset(),
    "paigeant-sqlite": frozenset(),
    "paigeant-redis": frozenset({"redis"}),
    "paigeant-redis-nostore": frozenset({"redis"}),
    "celery-threads": frozenset({"redis"}),
    "celery-prefork": frozenset({"redis"}),
}
"""Their names, and the servers they need."""


def take(name: str, options: Options, redis_url: str) -> dict[str, Any]:
    """One measurement, or why there is none."""
    urls = {"rabbitmq": "", "postgresql": "", "redis": redis_url}
    if missing := [server for server in SETUPS[name] if not urls[server]]:
        return {"reason": f"no {missing[0]} server"}
    try:
        with (
            place.scratch(name, urls, SETUPS[name]) as where,
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
        ):
            return process.submit(measure, where, options).result()
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are measured all the same
        return {"reason": environment.public(f"{type(error).__name__}: {error}")}


def summary(name: str, options: Options, taken: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each number is the median of the rounds; if none was measured, the reason."""
    about = {"name": name, "requests": options.requests}
    if not (good := [one for one in taken if "seconds" in one]):
        return about | taken[-1]
    numbers = [key for key, value in good[0].items() if isinstance(value, float)]
    middle = {key: statistics.median(one[key] for one in good) for key in numbers}
    return about | {"setup": good[0]["setup"], **middle, "rounds": [one["times_the_ideal"] for one in good]}


def compare(found: Sequence[dict[str, Any]]) -> None:
    """What each takes beside what the agents take by themselves."""
    bare = {one["requests"]: one["seconds"] for one in found if one["name"] == "gather" and "seconds" in one}
    for one in found:
        if "seconds" in one and one["requests"] in bare:
            one["times_the_gather"] = one["seconds"] / bare[one["requests"]]


def markdown(results: dict[str, Any]) -> str:
    machine, options = results["machine"], results["options"]
    lines = [
        f"{results['made']}, paigeant at {results['commit']}, {machine['python']}, {machine['cores']} cores "
        f"{machine['processor']}, load before the run {machine['load_before']}.",
        f"{options['agents']} agents at once, {options['waves']} times as many in all, the model answers after "
        f"{options['seconds'] * 1000:.0f} ms; median of {options['rounds']} rounds in turns.",
        "",
        "| system | requests | seconds | x ideal | lowest to highest | x gather | CPU ms / agent | peak RSS MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    measured = [one for one in results["systems"] if "seconds" in one]
    for one in measured:
        beside = f"x{one['times_the_gather']:.2f}" if "times_the_gather" in one else "-"
        lines.append(
            f"| {one['name']} | {one['requests']} | {one['seconds']:.2f} | x{one['times_the_ideal']:.2f} | "
            f"x{min(one['rounds']):.2f} to x{max(one['rounds']):.2f} | {beside} | {one['cpu_ms_per_agent']:.1f} | "
            f"{one['peak_rss_mib']:.0f} |"
        )
    said = {one["name"]: one.get("setup") or one["reason"] for one in results["systems"]}
    return "\n".join([*lines, "", *(f"- {name}: {what}" for name, what in said.items())]) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agents", description=__doc__.splitlines()[0])
    parser.add_argument("--setups", default=",".join(SETUPS), metavar="NAME,…", help=f"default: {','.join(SETUPS)}")
    parser.add_argument("--requests", default="1,3", help="of each agent: 1, 3 or both (default)")
    parser.add_argument("--agents", type=int, default=100, help="at once (default 100)")
    parser.add_argument("--seconds", type=float, default=0.2, help="that the model takes to answer (default 0.2)")
    parser.add_argument("--waves", type=int, default=3, help="as many agents as run at once, so often (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of everything in turns (default 3)")
    parser.add_argument("--redis", metavar="URL", help="with an EMPTY database; default: a server started for the run")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/agents"), help="without suffix")
    parser.add_argument("--here", action="store_true", help="use this Python and what is installed")
    parser.add_argument("--venv", type=Path, default=environment.default_directory(), help="where the peers live")
    given = parser.parse_args()
    given.setups = given.setups.split(",")
    if unknown := [name for name in given.setups if name not in SETUPS]:
        parser.error(f"no set-up {unknown[0]!r}; there are: {', '.join(SETUPS)}")
    given.requests = tuple(map(int, given.requests.split(",")))
    return given


def _shortly(answer: dict[str, Any]) -> str:
    return answer.get("reason") or f"{answer['times_the_ideal']:.2f} times the ideal"


def main() -> None:
    given = arguments()
    given.output = given.output.resolve()
    os.chdir(environment.ROOT)
    if not given.here:
        python, _ = environment.prepare(given.venv)
        os.execv(python, [str(python), "-m", "benchmarks.agents", "--here", *sys.argv[1:]])
    amounts = {"agents": given.agents, "seconds": given.seconds, "waves": given.waves}
    asked = [(name, Options(requests=one, **amounts)) for one in given.requests for name in given.setups]
    needed = {server for name in given.setups for server in SETUPS[name]}
    results = {
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": environment.commit(),
        "machine": environment.machine(),
        "options": amounts | {"rounds": given.rounds},
    }
    taken: list[list[dict[str, Any]]] = [[] for _ in asked]
    with servers.redis_server(given.redis, wanted="redis" in needed) as redis_url:
        for number in range(given.rounds):
            for (name, options), answers in zip(asked, taken, strict=True):
                answers.append(take(name, options, redis_url))
                print(f"round {number + 1}: {name}, {options.requests}: {_shortly(answers[-1])}", file=sys.stderr)
    results["systems"] = [summary(*one, answers) for one, answers in zip(asked, taken, strict=True)]
    compare(results["systems"])
    publish(given.output, results, markdown(results))


if __name__ == "__main__":
    main()
