"""How a worker process is told to stop, and what makes sure that it does.

Signal handlers write one byte to a pipe and do nothing else. A thread reads it, tells the worker, and ends the process
if the worker does not end in time, for example because an activity blocks the event loop. A supervisor speaks over a
socket instead of sending signals, so that a signal which reaches it and its workers alike (systemd sends it to all)
counts once.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from paigeant.cli.errors import INTERNAL

FINISH, HAND_BACK, DROP = 1, 2, 3
"""What the first, the second and the third request ask for."""

READY = b"r"
"""What a worker process sends to its supervisor when it serves."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

PATIENCE = 10.0
"""Seconds a worker may take to hand back and disconnect, beyond its shutdown timeout."""


class Stopping:
    """Listens for requests to stop, in a thread. ``lifeline`` is the file descriptor a supervisor passed, if any."""

    def __init__(self, shutdown_timeout: float, lifeline: int | None = None) -> None:
        self.shutdown_timeout = shutdown_timeout
        self.level = 0
        self._lifeline = _adopted(lifeline) if lifeline is not None else None
        self._stop: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._signals = 0
        self._deadline: float | None = None

    def listen(self) -> None:
        """Begin. Until :meth:`attach` nothing is held, so a request ends the process at once."""
        threading.Thread(target=self._watch, name="paigeant-stopping", daemon=True).start()
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._note)

    def attach(self, stop: Callable[[], None]) -> None:
        """Say what to call, once for each request, from another thread."""
        with self._lock:
            self._stop = stop

    def say_ready(self) -> None:
        """Tell the supervisor."""
        if self._lifeline is not None:
            with suppress(OSError):  # it is gone: the thread will notice
                self._lifeline.send(READY)

    def _note(self, number: int, _frame: object) -> None:
        with suppress(BlockingIOError):  # thousands of signals are waiting already
            os.write(self._write_end, bytes([number]))

    # --- in the thread ---------------------------------------------------------------------------------------

    def _watch(self) -> None:
        sources: list[int | socket.socket] = [self._read_end]
        if self._lifeline is not None:
            sources.append(self._lifeline)
        while True:
            patience = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            readable, _, _ = select.select(sources, [], [], patience)
            if not readable:
                self._give_up()
            if self._read_end in readable:
                self._signals += len(os.read(self._read_end, 16))
                self._ask(self._signals)
            if self._lifeline in readable:
                said = self._heard()
                if not said:
                    sources.remove(self._lifeline)
                self._ask(max(said, default=FINISH))

    def _heard(self) -> bytes:
        """The levels a supervisor asks for; nothing when it is dead."""
        assert self._lifeline is not None
        try:
            return self._lifeline.recv(16)
        except OSError:
            return b""

    def _ask(self, level: int) -> None:
        """Pass a request on. What was asked for before, by whichever way, is not asked for again."""
        with self._lock:
            if self._stop is None:
                end_now(0)
            for _ in range(self.level, min(level, HAND_BACK)):
                self._stop()
        if level > self.level:
            self.level = level
            if level >= DROP:
                end_now(128 + signal.SIGTERM)
            wait = self.shutdown_timeout if level == FINISH else 0.0
            self._deadline = time.monotonic() + wait + PATIENCE

    def _give_up(self) -> NoReturn:
        import structlog

        log = structlog.stdlib.get_logger("paigeant.worker")
        log.error("the worker did not stop in time: ending the process, what it held is free after the lease")
        end_now(INTERNAL)


def _adopted(descriptor: int) -> socket.socket:
    """The supervisor's socket; programs that activities start do not get it."""
    lifeline = socket.socket(fileno=descriptor)
    lifeline.set_inheritable(False)
    return lifeline


def end_now(code: int) -> NoReturn:
    """End the process without waiting for any thread."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
