"""A worker process and what it costs, read from Linux' /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_TICK = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class WorkerDied(Exception):
    """The worker ended although nobody asked it to."""


class WorkerProcess:
    """A worker, with all its children, in a session of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.command = command
        self.environment = {**os.environ, **environment}
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        """Not asked but killed: nobody needs what it still holds, and an orderly stop takes some peers ten seconds."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def check(self) -> None:
        """
        Raises:
            WorkerDied: with the last line it printed.
        """
        if self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
            raise WorkerDied(f"the worker ended with exit code {self._process.returncode}: {lines[-1].strip()}")

    def cpu_seconds(self) -> float:
        """User and system time of every process of the session so far, reaped children included."""
        return sum(_own_cpu(pid) + _reaped_cpu(stat) for pid, stat in self._members())

    def peak_rss(self) -> int:
        """The largest resident sets of the living processes so far, added up, in bytes."""
        return sum(_peak_rss(pid) for pid, _ in self._members())

    def _members(self) -> Iterator[tuple[int, list[str]]]:
        for entry in _PROC.iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    stat = (entry / "stat").read_text().rpartition(") ")[2].split()
                    if int(stat[3]) == self._process.pid:
                        yield int(entry.name), stat


def _own_cpu(pid: int) -> float:
    """From the process' CPU clock, which counts nanoseconds where /proc/PID/stat counts hundredths of a second."""
    with suppress(OSError):
        return time.clock_gettime(~pid << 3 | 2)
    return 0.0


def _reaped_cpu(stat: Sequence[str]) -> float:
    return (int(stat[13]) + int(stat[14])) / _TICK


def _peak_rss(pid: int) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
