"""No framework: as many runs of the agent as are asked for, side by side in one event loop."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.agents.work import make_agent, prompt
from benchmarks.place import Place


class System:
    """The adapter."""

    setup = "tasks of one event loop, no queue and no record"

    def __init__(self, place: Place, at_once: int) -> None:
        del place
        self._at_once = at_once

    def dispatch(self, requests: int, count: int) -> None:
        self._asked = (requests, count)

    def worker(self) -> list[str]:
        return [sys.executable, "-m", __name__, *map(str, (*self._asked, self._at_once))]

    def cleanup(self) -> None:
        """There is nothing."""


async def _run(requests: int, count: int, at_once: int) -> None:
    agent, free = make_agent(), asyncio.Semaphore(at_once)

    async def one() -> None:
        async with free:
            await agent.run(prompt(requests))

    await asyncio.gather(*(one() for _ in range(count)))
    await asyncio.Event().wait()  # to be killed as the others are


if __name__ == "__main__":
    asyncio.run(_run(*map(int, sys.argv[1:])))
