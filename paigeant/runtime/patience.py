"""Waiting out an outage of the store: ask again, with growing pauses, until there is an answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from paigeant.errors import PaigeantError, StoreError, StoreRefused
from paigeant.runtime.outage import Outage

T = TypeVar("T")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries."""


async def _nothing() -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Asks until it gets an answer. ``outage`` logs that the store is away, and that it is back.

    An error of the kinds in ``hopeless`` is raised at once: the same question would fail again. ``between`` is awaited
    before each pause; what it raises ends the waiting. No pause is longer than ``longest`` seconds.
    """

    outage: Outage
    hopeless: tuple[type[PaigeantError], ...] = (StoreRefused,)
    between: Callable[[], Awaitable[None]] = _nothing
    longest: float = math.inf

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to the question, which is asked again after every other :class:`~paigeant.errors.StoreError`."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                answer = await question()
            except self.hopeless:
                raise
            except StoreError as error:
                self.outage.failed(error)
            else:
                self.outage.worked()
                return answer
            await self.between()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE, self.longest)
