"""Several worker processes, or one that is started again when the code changes.

A worker process is this program again, with ``--lifeline FD``: one end of a socket pair. Over it the process says that
it serves, and hears when to stop. The supervisor holds the only copy of the other end, so when it dies, by SIGKILL too,
the process reads the end of the stream and stops in good order. (``PR_SET_PDEATHSIG`` is Linux only, and bound to the
thread that started the process.) Each process has a process group of its own: Ctrl-C reaches the supervisor alone.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from paigeant.cli.errors import DONE
from paigeant.cli.stopping import DROP, FINISH, HAND_BACK, PATIENCE, READY, SIGNALS
from paigeant.errors import ConfigurationError

log = structlog.stdlib.get_logger("paigeant.supervisor")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a process that died is started again; doubled each time."""

STEADY = 10.0
"""Seconds after which a process counts as having come up well."""

RELOAD_PATIENCE = 5.0
"""Seconds for running steps to finish after the code has changed."""


class Process:
    """A worker process and the supervisor's end of its lifeline."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: socket.socket) -> None:
        self.pid = process.pid
        self.started_at = time.monotonic()
        self.was_ready = False
        self.outdated = False
        self._process = process
        self._lifeline = lifeline

    @classmethod
    async def start(cls, command: Sequence[str]) -> Process:
        """Start one, in a process group of its own."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    "--lifeline",
                    str(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    def ask(self, level: int) -> None:
        """Ask the process to finish, to release its messages, or to drop everything."""
        with suppress(OSError):
            self._lifeline.send(bytes([min(level, DROP)]))
        if level >= DROP:
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self, ready: Callable[[], None]) -> int:
        """Wait for the end; call ``ready`` when it serves. The exit code, 128 + the signal that killed it."""
        listening = asyncio.create_task(self._listen(ready))
        try:
            code = await self._process.wait()
        finally:
            listening.cancel()
            self._lifeline.close()
        return code if code >= 0 else 128 - code

    async def _listen(self, ready: Callable[[], None]) -> None:
        with suppress(OSError):
            if await asyncio.get_running_loop().sock_recv(self._lifeline, 1) == READY:
                self.was_ready = True
                ready()


@dataclass
class Supervisor:
    """Keeps ``processes`` worker processes running. The others start when the first one serves."""

    command: Sequence[str]
    processes: int
    shutdown_timeout: float
    burst: bool = False
    watch: Path | None = None
    health_port: int | None = None
    code: int = DONE
    level: int = 0
    running: set[Process] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Until all have ended. The exit code: of a first process that never came up, else the worst at the end."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self.stop)
        places = [asyncio.create_task(self._keep(0))]
        watching = asyncio.create_task(self._reload()) if self.watch else None
        if watching is not None:
            watching.add_done_callback(_tell_failure)
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({places[0], ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.is_set():
            places += [asyncio.create_task(self._keep(place)) for place in range(1, self.processes)]
        try:
            await asyncio.gather(*places)
        finally:
            ready.cancel()
            if watching is not None:
                watching.cancel()
        return self.code

    def stop(self) -> None:
        """Handle a signal: the first asks workers to finish, the second to release, the third to drop everything."""
        self.level += 1
        self._stopping.set()
        for process in self.running:
            process.ask(self.level)
        if self.level <= HAND_BACK:
            wait = self.shutdown_timeout if self.level == FINISH else 0.0
            asyncio.get_running_loop().call_later(wait + 2 * PATIENCE, self._kill)

    def _kill(self) -> None:
        for process in self.running:
            log.error("worker process did not stop in time, killing it", pid=process.pid)
            process.kill()

    # --- one process after another in one place --------------------------------------------------------------

    def _command_in(self, place: int) -> Sequence[str]:
        """Each place has a port of its own, counted up, where its process tells its health."""
        if self.health_port is None:
            return self.command
        return [*self.command, "--health-port", str(self.health_port + place)]

    async def _keep(self, place: int) -> None:
        pause = SHORTEST_PAUSE
        while not self._stopping.is_set():
            try:
                process = await Process.start(self._command_in(place))
            except OSError as error:  # no processes, memory or files to spare: others may end soon
                log.error("could not start a worker process, retrying", error=str(error), delay=pause)
                await _first(self._stopping.wait(), asyncio.sleep(pause))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            code = await self._attend(process)
            if self._stopping.is_set():
                self.code = max(self.code, 0 if code == 128 + signal.SIGTERM else code)
                return
            if process.outdated:
                continue
            if self.burst and code == DONE:
                return
            if place == 0 and not self._ready.is_set() and not self.watch:
                self.code = code
                return
            if process.was_ready and time.monotonic() - process.started_at > STEADY:
                pause = SHORTEST_PAUSE
            await self._pause(process, code, pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _attend(self, process: Process) -> int:
        self.running.add(process)
        if self.level:  # asked while it was being started
            process.ask(self.level)
        try:
            return await process.ended(self._ready.set)
        finally:
            self.running.discard(process)

    async def _pause(self, process: Process, code: int, seconds: float) -> None:
        """Wait before another one is started, or for the code to be corrected."""
        self._changed.clear()
        if self.watch and not process.was_ready:
            log.warning("worker process did not start, waiting for a change", exit_code=code)
            await _first(self._stopping.wait(), self._changed.wait())
        else:
            log.warning("worker process died, starting another", pid=process.pid, exit_code=code, delay=seconds)
            await _first(self._stopping.wait(), asyncio.sleep(seconds))

    # --- when the code changes -------------------------------------------------------------------------------

    async def _reload(self) -> None:
        from watchfiles import PythonFilter, awatch

        assert self.watch is not None
        async for changes in awatch(self.watch, watch_filter=PythonFilter()):
            files = sorted({Path(path).name for _, path in changes})
            log.info("code changed, restarting", files=files[:10])
            self._changed.set()
            for process in self.running:
                process.outdated = True
                process.ask(FINISH)
                asyncio.get_running_loop().call_later(RELOAD_PATIENCE, process.ask, HAND_BACK)


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(one) for one in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _tell_failure(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled() and (error := watching.exception()) is not None:
        log.error("cannot watch the code for changes any longer", error=str(error))


def missing_watchfiles() -> ConfigurationError:
    """What to say when --reload lacks its library."""
    return ConfigurationError(
        "--reload needs watchfiles: it is not installed",
        hint='pip install "paigeant[dev]"',
    )
