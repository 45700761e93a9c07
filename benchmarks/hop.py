"""What one hop costs: the CPU time of a worker in this process, over workflows of three no-op steps.

    python -m benchmarks.hop sqlite redis redis-nostore rabbitmq-nostore
    python -m benchmarks.hop sqlite --profile 40      # where it goes; the profiler itself makes all of it slower
    python -m benchmarks.hop rabbitmq --lone          # one workflow at a time, and how long each takes

A rate depends on who else uses the machine, CPU time less so: it grows when others spoil the caches. It is taken for
parts of the work, and the number that is told is the largest of the best quarter of them. The rounds are made in turns,
each in a process of its own; the least of them is the number to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks import place, servers
from benchmarks.systems import SYSTEMS
from benchmarks.work import STEPS

if TYPE_CHECKING:
    from paigeant import App

_GAP = 0.05
"""Seconds between two workflows that are alone."""

_PARTS = 6

_THREADS = {"MainThread": "loop", "paigeant-transport": "transport", "paigeant-store": "store"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hop", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("brokers", nargs="*", default=["sqlite"], help="paigeant's systems in benchmarks.run")
    parser.add_argument("--workflows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lone", action="store_true", help="one workflow at a time, to an idle worker")
    parser.add_argument("--profile", type=int, metavar="LINES", help="the most expensive functions of each thread")
    parser.add_argument("--rabbitmq", default=place.RABBITMQ, metavar="URL")
    parser.add_argument("--postgresql", default=place.POSTGRES, metavar="URL")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if "BENCH_SYSTEM" in os.environ:  # the process of its own that is started below
        print(json.dumps(asyncio.run(measure(given))))
        return
    entries = {name: SYSTEMS[f"paigeant-{name}"] for name in given.brokers}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in entries}
    with servers.redis_server(None, wanted=any("redis" in entry.needs for entry in entries.values())) as redis:
        urls = {"rabbitmq": given.rabbitmq, "postgresql": given.postgresql, "redis": redis}
        for _ in range(given.rounds):
            for name, entry in entries.items():
                with place.scratch(entry.name, urls, entry.needs) as where:
                    found[name].append(_in_its_own_process(where))
    for name, rounds in found.items():
        print(_said(name, rounds))


def _in_its_own_process(where: place.Place) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.hop", *sys.argv[1:]]
    done = subprocess.run(command, env=os.environ | where.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    profile, _, numbers = done.stdout.rstrip().rpartition("\n")
    if profile:
        print(profile)
    measured: dict[str, Any] = json.loads(numbers)
    return measured


def _said(name: str, rounds: list[dict[str, Any]]) -> str:
    least = min(rounds, key=lambda one: one["cpu"])
    threads = ", ".join(f"{thread} {spent:.0f}" for thread, spent in least["threads"].items())
    lines = [
        f"{name}: {least['cpu']:.0f} microseconds of CPU time a hop ({threads})",
        "  each round: " + ", ".join(f"{one['cpu']:.0f}" for one in rounds),
        "  hops/s: " + ", ".join(f"{one['rate']:.0f}" for one in rounds),
    ]
    if "p50" in least:
        times = ", ".join(f"{one['p50']:.1f} ({one['p99']:.1f})" for one in rounds)
        lines.append(f"  a lone workflow, ms, p50 (p99): {times}")
    return "\n".join(lines)


# --- in the process of its own ---------------------------------------------------------------------------------------


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Microseconds for each hop, and hops in a second; with ``--lone`` milliseconds for a workflow."""
    from benchmarks.systems import paigeant as system
    from benchmarks.systems import rabbitmq
    from benchmarks.work import workflow
    from paigeant.cli.serve import spare_garbage_collector
    from paigeant.runtime.logs import configure
    from paigeant.worker import Worker

    configure("warning")
    here, ran = place.here(), Ran(max(1, STEPS * given.workflows // _PARTS))
    system.work.mark = ran.mark
    queues = [system.app.queue_of(one) for one in system.app.activities.values()]
    await system.app.connect()
    await system.app.transport.declare(*queues)
    workflows = [workflow(number) for number in range(given.workflows)]
    if not given.lone:
        await system.dispatch(workflows)
    worker, times = Worker(system.app), list[float]()
    async with _profiled(system.app, given.profile):
        started = asyncio.Event()
        running = asyncio.create_task(worker.run(started.set))
        await started.wait()
        spare_garbage_collector()
        began = time.monotonic()
        for number, one in enumerate(workflows if given.lone else (), start=1):
            await asyncio.sleep(_GAP)
            at = time.monotonic()
            await system.dispatch([one])
            await ran.reach(STEPS * number)
            times.append((time.monotonic() - at) * 1000)
        await ran.reach(hops := STEPS * given.workflows)
        took = time.monotonic() - began
    worker.stop()
    await running
    if system.broker_of(here) == "rabbitmq":
        rabbitmq.delete(given.rabbitmq, worker.queues)
    spent = ran.spent()
    found: dict[str, Any] = {"cpu": sum(spent.values()), "threads": spent, "rate": hops / took}
    if len(times) > 1:
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        found |= {"p50": cuts[49], "p99": cuts[98]}
    return found


class Ran:
    """The steps that ran."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._cpu: list[dict[str, float]] = []
        self._count = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def mark(self, step: int, number: int) -> None:
        """In the place of :func:`benchmarks.work.mark`."""
        self._count += 1
        if self._count % self._part == 0:
            self._cpu.append(_cpu())
        if self._count >= self._wanted:
            self._reached.set()

    def spent(self) -> dict[str, float]:
        """Microseconds of each thread for a hop."""
        parts = [
            {name: (used - before[name]) / self._part * 1e6 for name, used in after.items()}
            for before, after in pairwise(self._cpu)
        ]
        return sorted(parts, key=lambda one: sum(one.values()))[len(parts) // 4]

    async def reach(self, count: int) -> None:
        """Wait until so many ran."""
        self._wanted = count
        if self._count < count:
            self._reached.clear()
            await self._reached.wait()


def _cpu() -> dict[str, float]:
    """Seconds that each thread has computed."""
    alive = [one for one in threading.enumerate() if one.name in _THREADS and one.ident is not None]
    return {_THREADS[one.name]: time.clock_gettime(time.pthread_getcpuclockid(one.ident or 0)) for one in alive}


@asynccontextmanager
async def _profiled(app: App, lines: int | None) -> AsyncIterator[None]:
    """Print the most expensive functions of each thread; without a number of lines, none."""
    if lines is None:
        yield
        return
    profiles = {"loop": cProfile.Profile(time.thread_time), "transport": cProfile.Profile(time.thread_time)}
    await _in_transport(app, profiles["transport"].enable)
    if app.store is not None:
        profiles["store"] = cProfile.Profile(time.thread_time)
        await app.store.access.thread.run(profiles["store"].enable)
    profiles["loop"].enable()
    yield
    profiles["loop"].disable()
    await _in_transport(app, profiles["transport"].disable)
    if app.store is not None:
        await app.store.access.thread.run(profiles["store"].disable)
    for name, profile in profiles.items():
        print(f"--- {name}")
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(lines)


async def _in_transport(app: App, call: Callable[[], None]) -> None:
    await app.transport._call(lambda pump: call())


if __name__ == "__main__":
    main()
