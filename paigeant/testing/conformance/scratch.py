"""Where the suite runs: one broker, and ways to be several processes that use it and come to grief."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from paigeant.transport import BaseTransport, Features
from paigeant.transports import forget, get_transport
from paigeant.transports.kombu import KombuTransport


class Scratch(ABC):
    """A part of one broker that nobody else uses, empty at first.

    ``lease_seconds`` is how long a crashed holder keeps its deliveries; make it short, the suite waits for it.
    """

    features: Features
    lease_seconds: float = 1.0

    @abstractmethod
    def queue(self, name: str) -> str:
        """The full name of a queue; nobody else uses it."""

    @abstractmethod
    async def open(self) -> BaseTransport:
        """A connected transport, as a process of its own would have one."""

    @abstractmethod
    async def crash(self, transport: BaseTransport) -> None:
        """End the transport as ``kill -9`` ends a process: nothing is settled, released or said."""

    @abstractmethod
    @asynccontextmanager
    async def frozen(self, transport: BaseTransport) -> AsyncGenerator[None]:
        """Stop the transport as SIGSTOP stops a process, and let it go on afterwards."""
        yield

    async def close(self, transport: BaseTransport) -> None:
        """End of a test, crashed transports included."""
        await transport.close()


class KombuScratch(Scratch):
    """A scratch on any broker URL that paigeant knows."""

    def __init__(self, url: str, prefix: str, lease_seconds: float = 1.0) -> None:
        self._url = url
        self._prefix = prefix
        self.lease_seconds = lease_seconds
        self.features = self._make().features

    def _make(self) -> Any:
        transport = get_transport(self._url, lease_seconds=self.lease_seconds)
        forget(transport)
        return transport

    def queue(self, name: str) -> str:
        return f"{self._prefix}.{name}"

    async def open(self) -> BaseTransport:
        transport: BaseTransport = self._make()
        await transport.connect()
        return transport

    async def crash(self, transport: BaseTransport) -> None:
        """The I/O thread ends where it is and its sockets are closed, as the kernel closes a dead process's."""
        assert isinstance(transport, KombuTransport)
        await asyncio.to_thread(transport.kill)

    @asynccontextmanager
    async def frozen(self, transport: BaseTransport) -> AsyncGenerator[None]:
        """The I/O thread, which renews leases, stands still."""
        assert isinstance(transport, KombuTransport)
        goes_on = threading.Event()
        transport.call_in_thread(lambda pump: goes_on.wait(_LONGEST_STOP))
        try:
            yield
        finally:
            goes_on.set()


_LONGEST_STOP = 20.0
