"""Stops a worker process on request, and makes sure that the process ends.

A signal writes a byte to a pipe and does nothing else. A thread reads it, tells the worker, and ends the process
if the worker does not end in time, for example because an activity blocks the event loop. Python itself writes the byte
(:func:`signal.set_wakeup_fd`), so that it comes also while an activity blocks in C code, where no handler runs. A
supervisor speaks over a socket instead of sending signals, so that a signal which reaches it and its workers alike
(systemd sends it to all) counts once.

Child processes that activities fork have none of this: signals do to them what they do to any program.
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
from typing import Any, NoReturn

from paigeant.cli.errors import INTERNAL
from paigeant.runtime import forks

FINISH, HAND_BACK, DROP = 1, 2, 3
"""The first, the second and the third request: finish the running steps, release all messages, drop them."""

READY = b"r"
"""The byte that a worker process sends to its supervisor when it consumes messages."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

PATIENCE = 10.0
"""Seconds for a worker to release its messages and disconnect, after its shutdown timeout."""


class Stopping:
    """Listens for requests to stop, in a thread. ``lifeline`` is the file descriptor a supervisor passed, if any."""

    def __init__(self, shutdown_timeout: float, lifeline: int | None = None) -> None:
        self.shutdown_timeout = shutdown_timeout
        self.level = 0
        self._lifeline = _adopted(lifeline) if lifeline is not None else None
        self._stop: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._read_end, self._write_end = os.pipe()
        self._handler_read_end, self._handler_write_end = os.pipe()
        for end in (self._write_end, self._handler_write_end):
            os.set_blocking(end, False)
        self._signals = {self._read_end: 0, self._handler_read_end: 0}
        self._blocked: set[Any] = set()
        self._deadline: float | None = None

    def listen(self) -> None:
        """Begin. Until :meth:`attach` nothing is held, so a request ends the process at once."""
        threading.Thread(target=self._watch, name="paigeant-stopping", daemon=True).start()
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._note)
        forks.enlist(self)
        forks.enlist_resting(self)

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
        """Count the signal a second time: an activity may have set another wake-up file for its own purposes."""
        with suppress(BlockingIOError):  # thousands of signals are waiting already
            os.write(self._handler_write_end, bytes([number]))

    # --- when an activity forks ------------------------------------------------------------------------------

    def rest(self) -> Callable[[float], None]:
        """Let signals wait until the child has handlers of its own; only the forking thread counts, as the child's."""
        self._blocked = set(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS))
        return _no_wait

    def go_on(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def forget_after_fork(self) -> None:
        """In a child: only the process that forked reacts to signals."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for end in (self._read_end, self._write_end, self._handler_read_end, self._handler_write_end):
            os.close(end)
        if self._lifeline is not None:
            self._lifeline.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    # --- in the thread ---------------------------------------------------------------------------------------

    def _watch(self) -> None:
        sources: list[int | socket.socket] = [*self._signals]
        if self._lifeline is not None:
            sources.append(self._lifeline)
        while True:
            patience = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            readable, _, _ = select.select(sources, [], [], patience)
            if not readable:
                self._give_up()
            for end in self._signals:
                if end in readable:
                    self._signals[end] += sum(byte in SIGNALS for byte in os.read(end, 16))
                    self._ask(max(self._signals.values()))
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
        """Pass a request to the worker. A request that it has received before, from any source, is not repeated."""
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
        log.error("the worker did not stop in time: ending the process; its messages are free when their leases end")
        end_now(INTERNAL)


def _no_wait(_seconds: float) -> None:
    """There is nothing to wait for."""


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
