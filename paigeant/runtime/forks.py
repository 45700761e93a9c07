"""What happens to this process' threads, connections and locks when the program forks.

A child of ``os.fork`` has one thread and copies of all objects: of connections whose other end belongs to the parent,
of queues that nobody reads, of locks that nobody frees. Every object of ours that has such things is enlisted here.

In the child each of them forgets what it had, without closing it: closing would shut down what the parent uses.
Before the fork those that need it come to rest: SQLite keeps a table of its locks per process, so a child that had
inherited an open file would take the parent's locks for its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

import structlog

log = structlog.stdlib.get_logger("paigeant.forks")

LONGEST_REST = 5.0
"""Seconds a fork waits, at most, for the threads that have to come to rest."""


class Inherited(Protocol):
    """Something a forked child must not use as it is."""

    def forget_after_fork(self) -> None:
        """Called in the child: begin anew, and close nothing."""
        ...


class Resting(Protocol):
    """Something that must not be open while the program forks."""

    def rest(self) -> Callable[[float], None]:
        """Ask it to close what is open, and to wait; returns what waits, for so many seconds, until it has."""
        ...

    def go_on(self) -> None:
        """Called in the parent after the fork."""
        ...


class Pause:
    """Keeps a thread in one place, where it has nothing open, until the fork is over."""

    def __init__(self) -> None:
        self._reached, self._over = threading.Event(), threading.Event()

    def hold(self) -> None:
        """Called in the thread that has to rest."""
        self._reached.set()
        self._over.wait(2 * LONGEST_REST)

    def skip(self) -> None:
        """Nothing is open: the thread need not rest."""
        self._reached.set()

    def wait(self, seconds: float) -> None:
        """Wait until the thread rests.

        Raises:
            TimeoutError: it does not within these seconds.
        """
        if not self._reached.wait(seconds):
            raise TimeoutError("the thread did not come to rest")

    def end(self) -> None:
        """Let the thread go on."""
        self._over.set()


class Lock:
    """A lock that one thread may take several times, and that is free in a child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        enlist(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def forget_after_fork(self) -> None:
        self._lock = threading.RLock()


_inherited: WeakSet[Any] = WeakSet()
_resting: WeakSet[Any] = WeakSet()
_at_rest: list[Resting] = []
_forking = threading.Lock()
"""Of two threads that fork at once the second waits for the first."""

_immortal: list[object] = []


def enlist(one: Inherited) -> None:
    """Call its ``forget_after_fork`` in children from now on, as long as it lives."""
    _inherited.add(one)


def enlist_resting(one: Resting) -> None:
    """Let it rest before forks from now on, as long as it lives."""
    _resting.add(one)


def keep(*objects: object) -> None:
    """In a child: never destroy these, not even at its end, so that nothing closes what the parent uses."""
    _immortal.extend(objects)


def _before() -> None:
    _forking.acquire()
    _at_rest[:] = list(_resting)
    waits = [one.rest() for one in _at_rest]
    for wait in waits:
        try:
            wait(LONGEST_REST)
        except TimeoutError:
            log.warning("a fork did not wait for a busy connection: the child may find the database locked")


def _in_parent() -> None:
    _go_on()
    _forking.release()


def _go_on() -> None:
    for one in _at_rest:
        one.go_on()
    _at_rest.clear()


def _in_child() -> None:
    _at_rest.clear()
    _forking.release()
    for one in list(_inherited):
        one.forget_after_fork()
    if _immortal:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_immortal))  # the end of the interpreter leaves it alone, too


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
