"""One measurement of one system, in a process of its own: ``run.py`` starts it and reads the answer from a file.

Each part has a fresh place (queues, database, directory), so that none meets what another left:

* ``busy``: N workflows of no-op steps wait before the worker starts; rate, CPU and memory until the last step ran.
* ``idle``: one workflow waits; start-up; then CPU of doing nothing; then workflows one at a time.
* ``waiting``: workflows whose steps wait; how close to the ideal the worker comes.
"""

from __future__ import annotations

import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.marks import Marks
from benchmarks.place import Place, gather_statistics, here
from benchmarks.process import WorkerDied, WorkerProcess
from benchmarks.systems import SYSTEMS, NotAvailable, System
from benchmarks.work import STEPS, workflow

_LOOK = 0.02
_START_LIMIT = 30.0
_ANSWER_LIMIT = 30.0
_GAP = (0.03, 0.07)
"""Seconds between two workflows of an idle worker, at random so that no poll falls into step with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much of everything. Times are seconds; ``limit`` is the longest a worker is watched in one part."""

    part: str
    workflows: int = 2000
    samples: int = 100
    settle: float = 1.0
    idle: float = 5.0
    limit: float = 30.0
    waiting_workflows: int = 500
    waiting: float = 0.2
    concurrency: int = 100


class Measurement:
    """The parts, over one open adapter."""

    def __init__(self, system: System, place: Place, options: Options) -> None:
        self.system = system
        self.place = place
        self.options = options
        self.marks = Marks(Path(place.marks))

    def take(self) -> dict[str, Any]:
        parts = {"busy": self.busy, "idle": self.idle, "waiting": self.waiting}
        return parts[self.options.part]()

    def _worker(self, concurrency: int | None = None) -> WorkerProcess:
        command = self.system.worker(concurrency)
        return WorkerProcess(command, self.place.environment(), Path(self.place.directory) / "worker.log")

    def _wait_for(self, worker: WorkerProcess, hops: int, limit: float) -> bool:
        def enough() -> bool:
            worker.check()
            return len(self.marks.read()) >= hops

        return self.marks.wait(enough, limit, _LOOK)

    def _require_start(self, worker: WorkerProcess) -> float:
        if not self._wait_for(worker, 1, _START_LIMIT):
            raise WorkerDied(f"no step ran within {_START_LIMIT:g} s")
        return self.marks.read()[0].at

    def busy(self) -> dict[str, Any]:
        wanted = self.options.workflows
        began = time.monotonic()
        self.system.dispatch([workflow(number) for number in range(wanted)])
        dispatched = time.monotonic() - began
        gather_statistics(self.place)
        with self._worker() as worker:
            self._require_start(worker)
            cpu, before = worker.cpu_seconds(), len(self.marks.read())
            self._until_complete(worker, wanted, self.options.limit)
            cpu, after = worker.cpu_seconds() - cpu, len(self.marks.read())
            memory = worker.peak_rss()
        marks = self.marks.read()[:after]
        hops = len({(mark.workflow, mark.step) for mark in marks})
        seconds = marks[-1].at - marks[0].at
        return {
            "workflows": wanted,
            "completed": len(self.marks.completed()),
            "hops": hops,
            "repeated_steps": len(marks) - hops,
            "seconds": seconds,
            "hops_per_second": (hops - 1) / seconds,
            "dispatched_per_second": wanted / dispatched,
            "cpu_seconds_per_1000_hops": cpu / max(after - before, 1) * 1000,
            "peak_rss_mib": memory / 2**20,
        }

    def _until_complete(self, worker: WorkerProcess, workflows: int, limit: float) -> bool:
        def enough() -> bool:
            worker.check()
            return len(self.marks.read()) >= STEPS * workflows and len(self.marks.completed()) >= workflows

        if complete := self.marks.wait(enough, limit, _LOOK):
            return complete
        print(worker.log.read_text(errors="replace")[-4000:], file=sys.stderr)  # seen with BENCH_DEBUG=1
        return complete

    def idle(self) -> dict[str, Any]:
        self.system.dispatch([workflow(0)])
        with self._worker() as worker:
            started = self._require_start(worker) - worker.started
            self._until_complete(worker, 1, _ANSWER_LIMIT)
            time.sleep(self.options.settle)  # what a worker does after its first work is not idleness
            cpu, began = worker.cpu_seconds(), time.monotonic()
            time.sleep(self.options.idle)
            percent = (worker.cpu_seconds() - cpu) / (time.monotonic() - began) * 100
            samples = [] if getattr(self.system, "in_process", False) else self._samples(worker)
        last_steps = [last_step for last_step, _ in samples]
        results = [result for _, result in samples if result is not None]
        return {
            "start_up_seconds": started,
            "idle_cpu_percent": percent,
            "samples": len(samples),
            "last_step_ms": _percentiles(last_steps),
            "result_ms": _percentiles(results),
        }

    def _samples(self, worker: WorkerProcess) -> list[tuple[float, float | None]]:
        """Seconds from dispatch until the last step ran, and until the caller had the result."""
        taken = []
        give_up = time.monotonic() + 2 * self.options.limit
        for number in range(1, self.options.samples + 1):
            time.sleep(random.uniform(*_GAP))
            began = time.monotonic()
            [handle] = self.system.dispatch([workflow(number)])
            answered = self.system.wait(handle, _ANSWER_LIMIT)
            ended = time.monotonic()
            if not self.marks.wait(lambda: number in self.marks.completed(), _ANSWER_LIMIT, 0.001):  # noqa: B023
                worker.check()
                raise WorkerDied(f"a workflow did not end within {_ANSWER_LIMIT:g} s")
            last_step = self.marks.completed()[number] - began
            taken.append((last_step, ended - began if answered else None))
            if time.monotonic() > give_up:
                break
        return taken

    def waiting(self) -> dict[str, Any]:
        options = self.options
        wanted, seconds = options.waiting_workflows, options.waiting
        ideal = wanted * STEPS * seconds / min(options.concurrency, wanted)
        worker = self._worker(options.concurrency)
        self.system.dispatch([workflow(number, seconds) for number in range(wanted)])
        gather_statistics(self.place)
        with worker:
            self._require_start(worker)
            complete = self._until_complete(worker, wanted, max(options.limit, 5 * ideal))
        marks = self.marks.read()
        took = marks[-1].at - marks[0].at + seconds
        return {
            "concurrency": options.concurrency,
            "workflows": wanted,
            "completed": len(self.marks.completed()),
            "ideal_seconds": ideal,
            "seconds": took if complete else None,
            "times_the_ideal": took / ideal if complete else None,
        }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """In milliseconds."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000}


@contextmanager
def _open(place: Place) -> Iterator[System]:
    system = SYSTEMS[place.system].open(place)
    try:
        system.prepare()
        yield system
    finally:
        system.cleanup()


def answer(options: Options) -> dict[str, Any]:
    """The measurement, or why there is none."""
    place = here()
    try:
        with _open(place) as system:
            found = {"guarantee": system.guarantee, "setup": system.setup}
            return {"status": "measured", **found, "values": Measurement(system, place, options).take()}
    except NotAvailable as reason:
        return {"status": "not available", "reason": str(reason)}
    except ImportError as reason:
        return {"status": "not installed", "reason": str(reason)}
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way; the others are measured all the same
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the adapter cleans up
    options = Options(**json.loads(sys.argv[1]))
    found = {"part": options.part, "options": asdict(options)} | answer(options)
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
