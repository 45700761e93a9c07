"""Terminals for tests of the command line: each in a directory of its own, without settings from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result
from helpers import until
from processes import Process, run, start

from paigeant import ActivitySpec, App
from paigeant.cli import cli

T = TypeVar("T")

PATIENCE = 30.0

ONBOARDING = '''
import logging

from paigeant import ActivityContext, App

app = App("onboarding")


@app.activity
async def validate(email: str) -> str:
    """Check an address."""
    if "@" not in email:
        raise ValueError(f"not an address: {email}")
    return email


@app.activity
def welcome(address: str, greeting: str = "Hello") -> str:
    logging.getLogger("mine").info("welcoming")
    return f"{greeting}, {address}"
'''

WORK = '''
import asyncio
import atexit
import time
from pathlib import Path

from paigeant import App

app = App("work")
atexit.register(Path("left").touch)


@app.activity
async def slow(seconds: float) -> str:
    Path("begun").touch()
    await asyncio.sleep(seconds)
    return "slept"


@app.activity
def stuck(seconds: float) -> str:
    Path("begun").touch()
    time.sleep(seconds)
    return "slept"


@app.activity
async def blocking(seconds: float) -> str:
    """What an activity must not do: it stops the event loop."""
    Path("begun").touch()
    time.sleep(seconds)  # noqa: ASYNC251
    return "slept"
'''


class Background:
    """A command that goes on while the test does."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process, self._log = process, log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that got ready, as their names have them."""
        lines = [line for line in self.log.splitlines() if "worker ready" in line]
        return [int(found[1]) for line in lines if (found := re.search(r'"worker":"[^"]*-(\d+)-\w+"', line))]

    def wait_ready(self, workers: int = 1) -> None:
        until(lambda: len(self.workers) >= workers or self.process.poll() is not None, PATIENCE)
        assert len(self.workers) >= workers, self.log

    def wait_logged(self, text: str) -> None:
        until(lambda: text in self.log or self.process.poll() is not None, PATIENCE)
        assert text in self.log, self.log

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {seconds} s:\n{self.log}") from None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Terminal:
    """A shell in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Background] = []
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT")}
        self.environment = outside | {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}

    def write(self, **modules: str) -> None:
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)

    def run(
        self, *arguments: str, code: int | None = 0, patience: float = PATIENCE, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``code`` is what it must exit with."""
        done = run("-m", "paigeant", *arguments, cwd=self.folder, env=self.environment | environment, timeout=patience)
        told = f"$ paigeant {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        assert code is None or done.returncode == code, f"{told}exit code {done.returncode}"
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, code=code).stdout)

    def start(self, *arguments: str, before: str | None = None) -> Background:
        """Run a command in the background, in a process group of its own; ``before`` is Python to run first."""
        log = self.folder / f"log-{len(self.started)}"
        script = ["-c", f"{before}\nfrom paigeant.cli import main\nmain()"] if before else ["-m", "paigeant"]
        with log.open("wb") as out:
            process = start(*script, *arguments, cwd=self.folder, env=self.environment, stdout=out)
        self.started.append(Background(process, log))
        return self.started[-1]

    # Without a process of their own, which takes a second each:

    def ask(self, question: Callable[[App], Awaitable[T]], name: str = "work") -> T:
        app = App(name, broker=f"sqlite:///{self.folder / 'paigeant.db'}")

        async def asked() -> T:
            try:
                return await question(app)
            finally:
                await app.close()

        return asyncio.run(asked())

    def dispatch(self, app: str, activity: str, **arguments: Any) -> str:
        """A workflow of one step; its id."""

        async def send(app: App) -> str:
            return str(await app.dispatch(ActivitySpec(name=activity, arguments=arguments)))

        return self.ask(send, app)

    def status(self, workflow: str) -> str:
        return self.ask(lambda app: app.workflow(workflow).status()).value

    def depth(self, queue: str) -> int:
        return self.ask(lambda app: app.transport.depth(queue))

    def wait_begun(self) -> None:
        until((self.folder / "begun").exists, PATIENCE)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    opened.write(onboarding=ONBOARDING, work=WORK)
    yield opened
    for one in opened.started:
        one.kill()


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    def alive(pid: int) -> bool:
        try:
            return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return False

    return alive


Paigeant = Callable[..., Result]


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Paigeant]:
    """Makes what runs commands in this process, on this broker; they must exit with ``code``, and use no colours."""

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == code, done.output
        assert "\x1b" not in done.stdout
        return done

    def on(url: str) -> Paigeant:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PAIGEANT_BROKER_URL", url)
        return run

    return on
