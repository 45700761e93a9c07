"""The simulated broker keeps what every broker promises: what is found out with it holds for the others.

It hands messages out in any order and in batches of any size; here its dice are fixed, so that it is as orderly as the
others. Its processes live in one loop, so what is promised about several threads does not concern it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from itertools import count
from typing import Any

import pytest

from paigeant.runtime.clock import SystemClock
from paigeant.testing.broker import TIERS, SimulatedBroker, SimulatedTransport, Tier
from paigeant.testing.conformance import Scratch, TransportConformance
from paigeant.testing.history import History
from paigeant.transport import BaseTransport


class Orderly(random.Random):
    """What was sent first comes first, and as much as there is room for."""

    def shuffle(self, x: Any) -> None:
        pass

    def randint(self, a: int, b: int) -> int:
        return b


class Process:
    """Something that can be killed, or stopped for a while."""

    reaches_store = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def act(self, point: object, effect: Callable[[], Any], activity: str | None = None) -> Any:
        await self.goes_on.wait()
        value = effect()
        return await value if isawaitable(value) else value


class SimulatedScratch(Scratch):
    lease_seconds = 0.3

    def __init__(self, tier: Tier) -> None:
        self.features = TIERS[tier]
        self._tier = tier
        self._broker: SimulatedBroker | None = None
        self._numbers = count()
        self._processes: dict[BaseTransport, Process] = {}

    def queue(self, name: str) -> str:
        return name

    async def open(self) -> BaseTransport:
        if self._broker is None:  # it belongs to the loop of the test
            self._broker = SimulatedBroker(self._tier, SystemClock(), History(), Orderly(), self.lease_seconds)
        process = Process(f"process {next(self._numbers)}")
        transport = SimulatedTransport(self._broker, process, _no_store)
        self._processes[transport] = process
        return transport

    async def crash(self, transport: BaseTransport) -> None:
        process = self._processes[transport]
        process.goes_on.clear()
        assert self._broker is not None
        self._broker.holder_died(process.name)

    @asynccontextmanager
    async def frozen(self, transport: BaseTransport) -> AsyncGenerator[None]:
        """Nothing renews its leases."""
        process = self._processes[transport]
        process.goes_on.clear()
        assert self._broker is not None
        asyncio.get_running_loop().call_later(self.lease_seconds, self._broker.leases_expire, process.name)
        try:
            yield
        finally:
            process.goes_on.set()

    async def close(self, transport: BaseTransport) -> None:
        if self._processes[transport].goes_on.is_set():  # the dead say no good-bye
            await transport.close()


def _no_store(record: Sequence[object], outgoing: Sequence[object]) -> None:
    raise AssertionError("the suite records nothing")


class TestSimulated(TransportConformance):
    @pytest.fixture(params=TIERS)
    def scratch(self, request: pytest.FixtureRequest) -> SimulatedScratch:
        return SimulatedScratch(request.param)

    test_two_loops_in_two_threads_use_one_transport = None
