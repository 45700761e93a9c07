"""Processes of paigeant for tests: workers, commands, programs.

On Linux they are forked from a process that has imported paigeant (:mod:`warm`): a tenth of a second instead of one.
With ``PAIGEANT_TEST_COLD=1``, and elsewhere, each is a new Python.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import warm

COLD = sys.platform != "linux" or os.environ.get("PAIGEANT_TEST_COLD") == "1"

_started = 0


class Forked:
    """A process, with what tests use of :class:`subprocess.Popen`."""

    def __init__(self, command: Sequence[str], connection: socket.socket, pid: int) -> None:
        self.args, self.pid = command, pid
        self.returncode: int | None = None
        self._connection = connection

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = warm.number(self._connection)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = subprocess.Popen[bytes] | Forked


def start(*command: str, cwd: Path, env: Mapping[str, str], stdout: IO[Any], stderr: IO[Any] | None = None) -> Process:
    """Python with this command, in a process group of its own; ``stderr`` is the same file if none is given."""
    global _started
    _started += 1
    if COLD:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr or stdout,
            process_group=0,
        )
    with Path(os.devnull).open("rb") as nothing:
        files = [nothing.fileno(), stdout.fileno(), (stderr or stdout).fileno()]
        return Forked(command, *warm.ask(_forking(), command, env, str(cwd), files))


def started() -> int:
    """How many processes there have been."""
    return _started


def run(
    *command: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run Python with this command to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(*command, cwd=cwd, env=os.environ if env is None else env, stdout=out, stderr=err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        said = [_text(file) for file in (out, err)]
    return subprocess.CompletedProcess(command, code, *said)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def put_programs(folder: Path) -> None:
    """Write the programs ``paigeant``, ``pytest`` and ``python`` for shells whose ``PATH`` begins with this folder."""
    if COLD:
        return
    for name, command in {"paigeant": ("-m", "paigeant"), "pytest": ("-m", "pytest"), "python": ()}.items():
        arguments = ", ".join(map(repr, (_forking(), *command)))
        here = str(Path(__file__).parent)
        lines = (f"#!{sys.executable} -IS", "import sys", f"sys.path.insert(0, {here!r})", "import warm")
        program = folder / name
        program.write_text("\n".join([*lines, f"warm.stand_in({arguments})", ""]))
        program.chmod(0o755)


@cache
def _forking() -> str:
    """The name of this test process's own; it ends with us."""
    name = f"paigeant-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        command = [sys.executable, warm.__file__, str(listener.fileno())]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()]
        )
    assert process.stdin is not None
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    return name
