"""Limits how many steps run at once in a worker, and how many deliveries it holds.

A step occupies its slot while its body runs: the reads before and the settlement afterwards overlap with other steps.
To have the next step ready, a worker holds some deliveries in advance: as many as ended within the last second. Where
steps are short, none waits long for its slot. If steps become long, the worker returns deliveries that have waited for
a second or more, the latest first, so that other workers can run them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

_PERIOD = 1.0


class NoSlot(Exception):
    """The worker returns a delivery that waited for a slot: steps take longer than when the delivery was fetched."""


class Slots:
    """The slots of one worker. ``prefetch`` fixes how many deliveries it holds, and none is returned."""

    def __init__(self, concurrency: int, prefetch: int | None = None) -> None:
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._free = concurrency
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._counts = 0
        self._ended = 0
        self._ahead = 0
        self._next_count: asyncio.TimerHandle | None = None

    def held(self) -> int:
        """How many deliveries the worker may hold now, running ones included. Any thread may call this."""
        return self._prefetch or self._concurrency + self._ahead

    def slot(self) -> Slot:
        """Return a slot for one delivery: ``async with`` waits until one is free."""
        return Slot(self)

    async def take(self) -> None:
        """Wait for a slot, in order of arrival.

        Raises:
            NoSlot: no slot becomes free in time.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        slot_free = asyncio.get_running_loop().create_future()
        self._waiting.append((self._counts, slot_free))
        self._count_on()
        try:
            has_slot = await slot_free
        except asyncio.CancelledError:
            if slot_free.done() and not slot_free.cancelled() and slot_free.result():
                self.give_back()
            raise
        if not has_slot:
            raise NoSlot

    def give_back(self) -> None:
        """Free a slot: the delivery that has waited longest gets it."""
        while self._waiting:
            _, slot_free = self._waiting.popleft()
            if not slot_free.done():
                slot_free.set_result(True)
                return
        self._free += 1

    def step_ended(self) -> None:
        """Record that a step's body has ended."""
        self._ended += 1
        self._ahead = max(self._ahead, min(self._ended, self._concurrency))
        self._count_on()

    def _count_on(self) -> None:
        if self._next_count is None:
            self._next_count = asyncio.get_running_loop().call_later(_PERIOD, self._count)

    def _count(self) -> None:
        self._ahead, self._ended = min(self._ended, self._concurrency), 0
        self._counts += 1
        self._next_count = None
        if self._prefetch is None:
            self._return_some()
        if self._ahead or self._waiting:
            self._count_on()

    def _return_some(self) -> None:
        """Return deliveries beyond the advance that have waited for a whole period."""
        waiting = [(since, slot_free) for since, slot_free in self._waiting if not slot_free.done()]
        for since, slot_free in waiting[self._ahead :]:
            if self._counts - since > 1:
                slot_free.set_result(False)
        self._waiting = deque((since, slot_free) for since, slot_free in waiting if not slot_free.done())


class Slot:
    """The slot of one delivery while its step runs."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._slots.take()
        self._is_held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def ended(self) -> None:
        """Free the slot, because the step's body has ended: the next step may start."""
        self._slots.step_ended()
        self._give_back()

    def _give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._slots.give_back()
