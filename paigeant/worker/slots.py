"""How many steps run at once in a worker, and how many deliveries it holds.

A step has its slot while its body runs: what is asked before and what is recorded and sent afterwards overlaps with
other steps. So that the next one is ready by then, a worker holds some deliveries in advance: as many as ended within
the last second. Where steps are short none waits long for its turn, and where they are long none is kept from other
workers.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_PERIOD = 1.0


class Slots:
    """The slots of one worker. ``prefetch`` fixes how many deliveries it holds."""

    def __init__(self, concurrency: int, prefetch: int | None = None) -> None:
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._free = asyncio.Semaphore(concurrency)
        self._ended = 0
        self._ahead = 0
        self._next_count: asyncio.TimerHandle | None = None

    def held(self) -> int:
        """How many deliveries may be held now, those that run included. Asked by any thread."""
        return self._prefetch or self._concurrency + self._ahead

    def slot(self) -> Slot:
        """For one delivery: ``async with`` waits for its turn."""
        return Slot(self, self._free)

    def step_ended(self) -> None:
        """A step's body has ended."""
        self._ended += 1
        self._ahead = max(self._ahead, min(self._ended, self._concurrency))
        if self._next_count is None:
            self._count_again()

    def _count_again(self) -> None:
        self._next_count = asyncio.get_running_loop().call_later(_PERIOD, self._count)

    def _count(self) -> None:
        self._ahead, self._ended = min(self._ended, self._concurrency), 0
        self._next_count = None
        if self._ahead:
            self._count_again()


class Slot:
    """What one delivery holds while its step runs."""

    def __init__(self, slots: Slots, free: asyncio.Semaphore) -> None:
        self._slots = slots
        self._free = free
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._free.acquire()
        self._is_held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def ended(self) -> None:
        """The step's body has ended: the next one may begin."""
        self._slots.step_ended()
        self._give_back()

    def _give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._free.release()
