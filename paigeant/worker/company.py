"""Coordinates the steps of a process: many run concurrently, or one runs alone."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

_LOOK = 0.02


class Crowded(Exception):
    """Another step runs alone in this process for longer than the caller wants to wait."""


class Company:
    """The deliveries in progress in one process, of all its workers and event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._present = 0
        self._is_closed = False

    def place(self, patience: float) -> Place:
        """Return a place among the deliveries, for ``async with``; it waits ``patience`` seconds for a lone step."""
        return Place(self, patience)

    def came_in(self) -> bool:
        """Enter; return False while a lone step runs here."""
        with self._lock:
            self._present += not self._is_closed
            return not self._is_closed

    def leave(self) -> None:
        """Leave the company."""
        with self._lock:
            self._present -= 1

    def seclude(self) -> bool:
        """Enter alone, and admit no other delivery until :meth:`open`. Return False if another one is here."""
        with self._lock:
            if self._is_closed or self._present:
                return False
            self._is_closed, self._present = True, 1
            return True

    async def emptied(self, patience: float) -> bool:
        """Admit no more deliveries, and enter alone once the others have left; False if that takes too long."""
        with self._lock:
            if self._is_closed:
                return False
            self._is_closed = True
        is_mine = False
        try:
            is_mine = await _becomes_true(self._is_left_to_me, patience)
            return is_mine
        finally:
            if not is_mine:
                self.open()

    def _is_left_to_me(self) -> bool:
        with self._lock:
            if self._present == 0:
                self._present = 1
                return True
            return False

    def open(self) -> None:
        """Admit other deliveries again."""
        with self._lock:
            self._is_closed = False


class Place:
    """The place of one delivery that runs among others.

    Raises:
        Crowded: on entering, if a step runs alone for too long.
    """

    __slots__ = ("_company", "_patience")

    def __init__(self, company: Company, patience: float) -> None:
        self._company = company
        self._patience = patience

    async def __aenter__(self) -> None:
        if not self._company.came_in() and not await _becomes_true(self._company.came_in, self._patience):
            raise Crowded

    async def __aexit__(self, *raised: object) -> None:
        self._company.leave()


async def _becomes_true(condition: Callable[[], bool], patience: float) -> bool:
    """Whether the condition becomes true within these seconds; another thread may change it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not (is_true := condition()) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK)
    return is_true


class _Here:
    company = Company()


def company_here() -> Company:
    """Return the company of this process."""
    return _Here.company


def _begin_anew() -> None:
    """Replace the company in a forked child, which runs none of its parent's steps."""
    _Here.company = Company()


os.register_at_fork(after_in_child=_begin_anew)
