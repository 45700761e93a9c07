"""Reads a page of the documentation from top to bottom and does what it says, in a directory of its own."""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType

from docs.markdown import Block, Command, blocks, commands
from helpers import until
from processes import put_program

SERVERS = {"postgresql://paigeant@localhost/paigeant": "postgres_url"}
"""URLs as the pages have them, and the fixture that stands in for each."""

INSTALLERS = {"git", "pip", "tox", "uv"}
"""Programs that would change this machine: their lines are for the reader only."""

LIMIT = 90
"""Seconds a command may take, and a worker to stop."""


class Shell:
    """Bash, one command at a time; variables, directory and exit status last from one to the next."""

    def __init__(self, work: Path, state: Path) -> None:
        self.work, self.state = work, state
        self.programs = state.with_name("programs")
        self.status = 0
        state.touch()
        self.programs.mkdir()
        put_program(self.programs)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        keep = f"status=$?\nexport -p > {shlex.quote(str(self.state))}\nexit $status"
        done = subprocess.run(
            self._bash(f"{text}\n{keep}"),
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.status = done.returncode
        return done

    def start(self, text: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(
                self._bash(f"exec env {text}"),
                cwd=self.work,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _bash(self, text: str) -> list[str]:
        before = f'set -a\nsource {shlex.quote(str(self.state))}\ncd "$PWD"\n(exit {self.status})'
        return ["bash", "-c", f"{before}\n{text}"]

    def environment(self) -> dict[str, str]:
        """This process's own, with the programs installed beside its Python first."""
        path = os.pathsep.join([str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}


class Background:
    """A worker that runs beside the page."""

    def __init__(self, shell: Shell, command: Command, log: Path) -> None:
        self.command, self.log = command, log
        self.process = shell.start(command.text, log)
        if command.output.strip():
            until(self._said_it, LIMIT)

    def _said_it(self) -> bool:
        assert self.process.poll() is None, f"ended by itself:\n{self.report()}"
        return same_output(self.command.output + "...\n", self.log.read_text())

    def stop(self, number: signal.Signals) -> None:
        """An orderly stop: what a page may promise."""
        assert self.process.poll() is None, f"ended by itself:\n{self.report()}"
        self.process.send_signal(number)
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not stop:\n{self.report()}") from None
        assert self.process.returncode == 0, f"stopped with {self.process.returncode}:\n{self.report()}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def report(self) -> str:
        return f"$ {self.command.text}\n{self.log.read_text()}"


class Reader:
    """Does what a page says. ``server`` gives the URL behind the name of a server fixture."""

    def __init__(self, directory: Path, server: Callable[[str], str]) -> None:
        self.directory, self.server = directory, server
        self.work = directory / "work"
        self.work.mkdir()
        self.shell = Shell(self.work, directory / "state")
        self.failed: str | None = None
        self.workers: list[Background] = []
        self.titles: dict[str, Block] = {}
        self.read_so_far = ""

    def read(self, path: Path) -> None:
        """Every block in order, then the end: nothing failed unnoticed, and all workers stop."""
        with ExitStack() as stack:
            stack.callback(self._kill_workers)
            self.module = stack.enter_context(_page_module(self.work))
            self.loop = stack.enter_context(asyncio.Runner())
            for block in blocks(path):
                if not block.not_run:
                    self._checked(block)
            assert not self.failed, self.failed
            self._every_program_was_used()
            for worker in self.workers:
                worker.stop(signal.SIGTERM)

    def _checked(self, block: Block) -> None:
        try:
            self._do(block, self._with_servers(block.source))
        except AssertionError as error:
            if block.language == "python":
                raise
            raise AssertionError(f"{block.place}: {error}") from None

    def _do(self, block: Block, source: str) -> None:
        if block.title:
            self._write(block, source)
            return
        self.read_so_far += source
        match block.language:
            case "python":
                self._execute(block, source)
            case "console" | "bash":
                for command in commands(source, prompt=block.language == "console"):
                    self._command(command)
            case "json":
                json.loads(source)
            case "toml":
                tomllib.loads(source)

    def _with_servers(self, source: str) -> str:
        for documented, fixture in SERVERS.items():
            if documented in source:
                source = source.replace(documented, self.server(fixture))
        return source

    def _write(self, block: Block, source: str) -> None:
        assert block.title
        target = self.work / block.title
        assert target.resolve().is_relative_to(self.work.resolve()), f"{block.title} is outside of the directory"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source)
        self.titles[block.title] = block

    def _every_program_was_used(self) -> None:
        for title, block in self.titles.items():
            path = Path(title)
            used = path.suffix != ".py" or re.search(rf"\b{re.escape(path.stem)}\b", self.read_so_far)
            assert used, f"{block.place}: no later block imports or runs {title}"

    def _execute(self, block: Block, source: str) -> None:
        code = compile(
            "\n" * block.line + source, str(block.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        if code.co_flags & inspect.CO_COROUTINE:
            self.loop.run(eval(code, vars(self.module)))
        else:
            exec(code, vars(self.module))

    def _command(self, command: Command) -> None:
        if command.words[:1] and command.words[0] in INSTALLERS:
            return
        asks_for_status = command.text.startswith("echo $?")
        assert asks_for_status or not self.failed, self.failed
        self.failed = None
        if command.goes_on:
            self._start(command)
        else:
            self._finish(command)

    def _start(self, command: Command) -> None:
        worker = Background(self.shell, command, self.directory / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        if command.interrupted:
            worker.stop(signal.SIGINT)
            self.workers.remove(worker)

    def _finish(self, command: Command) -> None:
        done = self.shell.run(command.text)
        said = done.stdout + (done.stderr if done.returncode else "")
        logs = "\n".join(worker.report() for worker in self.workers)
        told = f"$ {command.text}\n{done.stdout}{done.stderr}exit code {done.returncode}\n{logs}"
        if done.returncode:
            self.failed = told
        if command.output.strip():
            assert same_output(command.output, said), f"the page says:\n{command.output}\nbut:\n{told}"

    def _kill_workers(self) -> None:
        for worker in self.workers:
            worker.kill()


def same_output(documented: str, said: str) -> bool:
    """Whether the output is the documented one; ``...`` stands for anything, white space does not count."""
    return doctest.OutputChecker().check_output(documented, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


@contextmanager
def _page_module(work: Path) -> Iterator[ModuleType]:
    """The namespace of a page. Modules in its directory can be imported until the end, and are forgotten then."""
    page = ModuleType("page")
    sys.modules["page"] = page
    sys.path.insert(0, str(work))
    try:
        yield page
    finally:
        sys.path.remove(str(work))
        for name, module in list(sys.modules.items()):
            if module is page or str(getattr(module, "__file__", None)).startswith(str(work)):
                del sys.modules[name]
