"""Reads a page of the documentation from top to bottom and does what it says, in a directory of its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from docs.markdown import Block, Command, blocks, commands
from docs.terminal import Terminal

from docs import program

SERVERS = {"postgresql://paigeant@localhost/paigeant": "postgres_url"}
"""URLs as the pages have them, and the fixture that stands in for each."""

PORTS = re.compile(r"\b80[08]0\b")
"""Ports as the pages have them; any that is free stands in for each."""

INSTALLERS = {"docker", "git", "kubectl", "pip", "pre-commit", "systemctl", "tox", "uv"}
"""Programs that would change this machine: their lines are for the reader only."""

SHELLS = {"console", "bash"}
"""Languages of blocks that are typed into a terminal."""


class Reader:
    """Does what a page says. ``server`` gives the URL behind the name of a server fixture."""

    def __init__(self, directory: Path, server: Callable[[str], str]) -> None:
        self.directory, self.server = directory, server
        self.work = directory / "work"
        self.work.mkdir()
        self.terminals: dict[str | None, Terminal] = {}
        self.titles: dict[str, Block] = {}
        self.ports: dict[str, str] = {}
        self.read_so_far = ""

    def read(self, path: Path) -> None:
        """Every block in order, then the end: nothing failed unnoticed, and all workers stop."""
        with ExitStack() as stack:
            stack.callback(self._kill)
            for block in blocks(path):
                if not block.not_run:
                    self._checked(block)
            for terminal in self.terminals.values():
                assert not terminal.failed, terminal.failed
            self._every_program_was_used()
            for terminal in self.terminals.values():
                terminal.stop()

    def _checked(self, block: Block) -> None:
        try:
            self._do(block, self._with_ports(self._with_servers(block.source)))
        except AssertionError as error:
            logs = "".join(terminal.report() for terminal in self.terminals.values())
            raise AssertionError(f"{block.place}: {error}\n{logs}") from None

    def _do(self, block: Block, source: str) -> None:
        if block.title and block.language not in SHELLS:
            self._write(block, source)
            return
        self.read_so_far += source
        match block.language:
            case "python":
                self._run_program(block, source)
            case "console" | "bash":
                for command in commands(source, prompt=block.language == "console"):
                    if not INSTALLERS.intersection(command.words[:1]):
                        self._terminal(block.title).type(command)
            case "json":
                json.loads(source)
            case "toml":
                tomllib.loads(source)
            case "javascript" if shutil.which("node"):
                checked = subprocess.run(["node", "--check", "-"], input=source, capture_output=True, text=True)
                assert not checked.returncode, checked.stderr

    def _with_servers(self, source: str) -> str:
        for documented, fixture in SERVERS.items():
            if documented in source:
                source = source.replace(documented, self.server(fixture))
        return source

    def _with_ports(self, source: str) -> str:
        return PORTS.sub(lambda port: self.ports.setdefault(port[0], _free_port()), source)

    def _terminal(self, name: str | None) -> Terminal:
        if name not in self.terminals:
            self.terminals[name] = Terminal(name, self.work, self.directory / f"terminal-{len(self.terminals)}")
        return self.terminals[name]

    def _write(self, block: Block, source: str) -> None:
        assert block.title
        target = self.work / block.title
        assert target.resolve().is_relative_to(self.work.resolve()), f"{block.title} is outside of the directory"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source)
        self.titles[block.title] = block
        self.read_so_far += source

    def _every_program_was_used(self) -> None:
        for title, block in self.titles.items():
            path = Path(title)
            named = rf"(\bimport|\bfrom|-A|\bpython|\bpytest.*|\buvicorn)\s+{re.escape(path.stem)}\b"
            used = path.suffix != ".py" or re.search(named, self.read_so_far)
            assert used, f"{block.place}: no block imports or runs {title}"

    def _run_program(self, block: Block, source: str) -> None:
        """A block without a file name is a program that starts from nothing, with the folder's files beside it."""
        words = ["python", program.__file__, str(block.path), str(block.line)]
        terminal = self._terminal(None)
        assert not terminal.failed, terminal.failed
        terminal.run(Command(shlex.join(words)), source)
        assert not terminal.failed, terminal.failed

    def _kill(self) -> None:
        for terminal in self.terminals.values():
            terminal.kill()


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
