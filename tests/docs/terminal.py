"""The terminals of a reader: what is typed in one, and what it shows."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from docs.markdown import Command
from helpers import until
from processes import put_programs

LIMIT = 90
"""Seconds a command may take, and a worker to stop."""

KEYS = {"^C": signal.SIGINT, "^\\": signal.SIGQUIT}
"""Keys, and the signal with which a terminal answers each."""


def same_output(documented: str, said: str) -> bool:
    """Whether the output is the documented one. White space does not count.

    ``...`` stands for anything, and a line of its own for any lines or none.
    """
    documented = re.sub(r"\s*^\.\.\.\s*", "...", documented, flags=re.MULTILINE)
    return doctest.OutputChecker().check_output(documented, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


class Shell:
    """Bash, one command at a time; variables, directory and exit status last from one to the next."""

    def __init__(self, work: Path, directory: Path) -> None:
        directory.mkdir()
        self.work, self.state, self.programs = work, directory / "state", directory / "programs"
        self.status = 0
        self.state.touch()
        self.programs.mkdir()
        put_programs(self.programs)

    def run(self, text: str, source: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``source`` is its standard input."""
        keep = f"status=$?\nexport -p > {shlex.quote(str(self.state))}\nexit $status"
        done = subprocess.run(
            self._bash(f"{text}\n{keep}"),
            cwd=self.work,
            env=self._environment(),
            input=source,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.status = done.returncode
        return done

    def start(self, text: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command that runs on, in a process group of its own."""
        with log.open("wb") as out:
            return subprocess.Popen(
                self._bash(f"ulimit -c 0\nexec env {text}"),
                cwd=self.work,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _bash(self, text: str) -> list[str]:
        before = f'set -a\nsource {shlex.quote(str(self.state))}\ncd "$PWD"\n(exit {self.status})'
        return ["bash", "-c", f"{before}\n{text}"]

    def _environment(self) -> dict[str, str]:
        """This process's own without settings of paigeant; the programs beside its Python are found first."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT_")}
        path = os.pathsep.join([str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        as_shown = {"COLUMNS": "100", "NO_COLOR": "1", "PAIGEANT_LOG_FORMAT": "console", "PYTHONUNBUFFERED": "1"}
        return {**kept, **as_shown, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


class Running:
    """A worker or a server that runs while the reader goes on."""

    def __init__(self, shell: Shell, command: Command, log: Path) -> None:
        self.command, self.log = command, log
        self.process = shell.start(command.text, log)

    def wait_for_output(self) -> None:
        """Until it has printed what the page shows."""
        if self.command.output.strip():
            until(self._said_it, LIMIT)

    def _said_it(self) -> bool:
        ended = self.process.poll() is not None
        said = same_output(self.command.output + "...\n", self.log.read_text())
        assert said or not ended, f"the page says:\n{self.command.output}\nbut:\n{self.report()}"
        return said

    def exit_code(self) -> int:
        """How it ended by itself."""
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end by itself:\n{self.report()}") from None

    def press(self, key: str) -> None:
        """Press a key: ``^C`` has to end in an orderly stop, ``^\\`` kills."""
        number = KEYS[key]
        self.stop(number, expected=0 if number == signal.SIGINT else -number)

    def stop(self, number: signal.Signals = signal.SIGTERM, expected: int = 0) -> None:
        """Send the signal and wait for the end."""
        self._runs()
        self.process.send_signal(number)
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not stop:\n{self.report()}") from None
        orderly = (
            {expected, -number} if self.command.words[0] == "uvicorn" else {expected}
        )  # uvicorn ends by the signal
        assert self.process.returncode in orderly, f"stopped with {self.process.returncode}:\n{self.report()}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def report(self) -> str:
        return f"$ {self.command.text}\n{self.log.read_text()}"

    def _runs(self) -> None:
        assert self.process.poll() is None, f"ended by itself:\n{self.report()}"


class Terminal:
    """A shell, the command that runs on in it, and the failure that the page has not shown yet.

    A terminal with a name is one window: while a worker runs in it, nothing else can be typed there. In the one without
    a name, each worker has a window of its own.
    """

    def __init__(self, name: str | None, work: Path, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.shell = Shell(work, directory)
        self.started: list[Running] = []
        self.failed: str | None = None
        self.last: Running | None = None

    def type(self, command: Command) -> None:
        """Type the command, compare its output with the page, and press the key."""
        asks_for_status = command.text.startswith("echo $?")
        busy = self.name and self.running and not (asks_for_status and self.last)
        assert not busy, f"{self.name} is busy with `{self._texts()}`"
        assert asks_for_status or not self.failed, self.failed
        if asks_for_status and self.last:
            self.shell.status = self.last.exit_code()
        self.failed = self.last = None
        if command.runs_on:
            self._start(command)
        else:
            self.run(command)

    @property
    def running(self) -> list[Running]:
        return [one for one in self.started if one.process.returncode is None]

    def run(self, command: Command, source: str = "") -> None:
        done = self.shell.run(command.text, source)
        told = f"$ {command.text}\n{done.stdout}{done.stderr}exit code {done.returncode}\n"
        if done.returncode:
            self.failed = told
        shown = [
            done.stdout + done.stderr,
            *([] if done.returncode else [done.stdout]),
        ]  # a page may leave out the logs
        fits = any(same_output(command.output, one) for one in shown)
        assert fits or not command.output.strip(), f"the page says:\n{command.output}\nbut:\n{told}"

    def _start(self, command: Command) -> None:
        log = self.directory / f"log-{len(self.started)}"
        running = Running(self.shell, command, log)
        self.started.append(running)
        running.wait_for_output()
        if command.key:
            running.press(command.key)
        else:
            self.last = running

    def stop(self) -> None:
        """What still runs has to stop in order."""
        for running in self.running:
            running.stop()

    def kill(self) -> None:
        for running in self.started:
            running.kill()

    def report(self) -> str:
        """What its workers and servers have printed."""
        return "".join(one.report() for one in self.started)

    def _texts(self) -> str:
        return ", ".join(one.command.text for one in self.running)
