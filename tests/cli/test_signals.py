"""Signals to a worker process at awkward moments, and what children of its steps have of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import until

WORKER = [sys.executable, "-m", "paigeant", "worker", "-A", "work"]

FORKING = """
import multiprocessing
import os
import time

from paigeant import App

app = App("forking")


@app.activity
def forks() -> list:
    children = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)) for _ in range(3)]
    for one in children:
        one.start()
    for one in children:
        one.terminate()
    for one in children:
        one.join(10)
    codes = [one.exitcode for one in children]
    for one in children:
        one.kill()
    return codes


def pipes() -> list:
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sorted(name for path in paths if os.path.lexists(path) and "pipe" in (name := os.readlink(path)))


@app.activity
def inherits() -> list:
    child = os.fork()
    if child == 0:
        with open("inherited", "w") as file:
            file.write(" ".join(pipes()))
        os._exit(0)
    os.waitpid(child, 0)
    return pipes()
"""

IN_C = """
import ctypes
from pathlib import Path

from paigeant import App

app = App("work")


@app.activity
async def blocks() -> None:
    Path("begun").touch()
    ctypes.CDLL(None).system(b"sleep 60")
"""


@pytest.fixture
def start(terminal: Any) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a program as a shell does, without the short cut that other tests use."""
    started = []

    def begin(*command: str, **options: Any) -> subprocess.Popen:
        environment = terminal.environment | {"PYTHONPATH": str(terminal.folder)}
        with (terminal.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=terminal.folder, env=environment, stdout=log, stderr=log, start_new_session=True, **options
            )
        started.append(process)
        return process

    yield begin
    for one in started:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()


def _ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _has_begun(process: subprocess.Popen) -> bool:
    """Whether Python has got as far as our first line: before it no program can listen."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    ignored = int(status.split("SigIgn:")[1].split()[0], 16)
    return not ignored & 1 << signal.SIGTERM - 1


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_sigterm_is_obeyed_at_every_moment_of_a_start(start, after: float, processes: int) -> None:
    """Where it is ignored until somebody listens, as for the first process of a container."""
    worker = start(*WORKER, "-w", str(processes), preexec_fn=_ignores_sigterm)
    until(lambda: worker.poll() is not None or _has_begun(worker))
    time.sleep(after)
    worker.terminate()

    assert worker.wait(15) == 0


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs a process namespace")
@pytest.mark.parametrize("after", [0.2, 0.7, 2.5])
def test_sigterm_is_obeyed_by_the_first_process_of_a_container(start, terminal, after: float) -> None:
    """In a namespace of its own: a signal without a handler is lost there."""
    listens = "import os, signal; open('pid', 'w').write(os.readlink('/proc/self'))\n"
    (terminal.folder / "first.py").write_text(f"{listens}from paigeant.__main__ import main\nmain()\n")
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "first.py"]
    outer = start(*command, "worker", "-A", "work")
    until((terminal.folder / "pid").exists)
    assert (terminal.folder / "pid").read_text() == "1"
    inner = int(until(lambda: Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().strip()).split()[0])
    time.sleep(after)
    os.kill(inner, signal.SIGTERM)

    assert outer.wait(15) == 0


def test_sigterm_is_obeyed_while_an_activity_blocks_in_c(start, terminal) -> None:
    """No handler of Python runs meanwhile."""
    terminal.write(work=IN_C)
    terminal.dispatch("work", "blocks")
    worker = start(*WORKER, "--shutdown-timeout", "0")
    terminal.wait_begun()
    worker.terminate()

    assert worker.wait(20) == 70


def test_children_of_a_step_can_be_terminated_and_the_worker_goes_on(start, terminal) -> None:
    """They have neither its handlers nor its pipe."""
    terminal.write(forking=FORKING)
    worker = start(sys.executable, "-m", "paigeant", "worker", "-A", "forking")
    workflow = terminal.dispatch("forking", "forks")
    until(lambda: terminal.status(workflow) != "running", 30)

    found = terminal.json("workflow", workflow, "-A", "forking", "--json")
    assert found["output"] == [-15, -15, -15]
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(15) == 0


def test_children_of_a_step_inherit_no_pipe_of_the_worker(start, terminal) -> None:
    """A child that stays behind would keep the supervisor from seeing that its worker is gone."""
    terminal.write(forking=FORKING)
    start(sys.executable, "-m", "paigeant", "worker", "-A", "forking", "-w", "2")
    workflow = terminal.dispatch("forking", "inherits")
    until(lambda: terminal.status(workflow) != "running", 30)

    mine = terminal.json("workflow", workflow, "-A", "forking", "--json")["output"]
    inherited = (terminal.folder / "inherited").read_text().split()
    assert len(mine) >= 2
    assert not set(mine) & set(inherited)
