"""One set-up measured: waves of agents at once. In a process of its own, as the adapters read where they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.agents.server import SERVER
from benchmarks.marks import Marks
from benchmarks.place import Place
from benchmarks.process import WorkerDied, WorkerProcess

_LIMIT = 120.0
"""Seconds for the start of a worker and the first wave, and for the others."""

_LOOK = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``agents`` run at once, ``waves`` times as many are measured; the model takes so many ``seconds`` to answer."""

    requests: int = 3
    agents: int = 100
    seconds: float = 0.2
    waves: int = 3


def measure(where: Place, options: Options) -> dict[str, Any]:
    """One set-up: what it is, and what it takes."""
    marks = Marks(Path(where.marks))
    log = Path(where.directory) / "worker.log"
    with ExitStack() as stack:
        address = stack.enter_context(_model_server(where, options.seconds))
        os.environ.update(where.environment() | {SERVER: address})
        system = import_module(f"benchmarks.agents.{where.system.partition('-')[0]}").System(where, options.agents)
        stack.callback(system.cleanup)
        system.dispatch(options.requests, options.agents * (options.waves + 1))
        worker = stack.enter_context(WorkerProcess(system.worker(), {}, log))
        began = _until(marks, worker, options.agents)
        cpu = worker.cpu_seconds()
        ended = _until(marks, worker, options.agents * (options.waves + 1))
        cpu = worker.cpu_seconds() - cpu
        memory = worker.peak_rss()
    seconds, ideal = ended - began, options.waves * options.requests * options.seconds
    return {
        "setup": system.setup,
        "ideal_seconds": ideal,
        "seconds": seconds,
        "times_the_ideal": seconds / ideal,
        "cpu_ms_per_agent": cpu * 1000 / (options.waves * options.agents),
        "peak_rss_mib": memory / 2**20,
    }


def _until(marks: Marks, worker: WorkerProcess, agents: int) -> float:
    """When the model had given so many agents their last answer."""

    def are_answered() -> bool:
        worker.check()
        return len(_ends(marks)) >= agents

    if not marks.wait(are_answered, _LIMIT, _LOOK):
        said = worker.log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise WorkerDied(f"{len(_ends(marks))} of {agents} agents were answered: {said[-1]}")
    return _ends(marks)[agents - 1]


def _ends(marks: Marks) -> list[float]:
    """When the model gave each agent its last answer."""
    return [mark.at for mark in marks.read() if mark.step == 0]


@contextmanager
def _model_server(where: Place, seconds: float) -> Iterator[str]:
    port = servers.free_port()
    command = [sys.executable, "-m", "benchmarks.agents.server", str(port), str(seconds)]
    process = subprocess.Popen(command, env=os.environ | where.environment())
    try:
        servers.wait_for(port, process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
