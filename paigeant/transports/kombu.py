"""Every kombu URL as a transport of paigeant. The work is done by :mod:`paigeant.transports.bridge`'s thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from kombu import Connection

from paigeant.errors import Superseded, TransportError
from paigeant.events import Event
from paigeant.io_thread import AnyFuture, awaited, new_future
from paigeant.transport import BaseTransport, Delivery, Features, Ledger, Outgoing, Prefetch
from paigeant.transports.bridge import Bridge, Call, Consumer, Interrupted, Pump, Request
from paigeant.transports.settlement import Settlement
from paigeant.urls import masked

T = TypeVar("T")

_CALL_AGAIN_AFTER = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds. RabbitMQ closes the connection of who uses a quorum queue that another client is just declaring."""


class KombuTransport(BaseTransport):
    """Every kombu URL as a :class:`BaseTransport`."""

    def __init__(
        self,
        url: str,
        features: Features,
        connection: Callable[[], Connection],
        *,
        send_timeout: float = 15.0,
    ) -> None:
        self.url = url
        self.features = features
        self._new_connection = connection
        self._send_timeout = send_timeout
        self._starting = threading.Lock()
        self._bridge: Bridge | None = None
        self._ledger: Ledger | None = None

    # --- what callers see, on any loop ------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._call(_nothing)

    async def close(self) -> None:
        with self._starting:
            bridge, self._bridge = self._bridge, None
        if bridge is not None:
            await asyncio.to_thread(bridge.stop)

    async def declare(self, *queues: str) -> None:
        await self._call(lambda pump: pump.declare(queues))

    async def purge(self, queue: str) -> int:
        return await self._call(lambda pump: pump.purge(queue))

    async def delete(self, queue: str) -> None:
        """Delete the queue with everything in it, what is out included."""
        await self._call(lambda pump: pump.delete(queue))

    async def depth(self, queue: str) -> int:
        return await self._call(lambda pump: pump.depth(queue))

    async def queues(self) -> Mapping[str, int]:
        return await self._call(lambda pump: pump.depths())

    def enlist(self, ledger: Ledger) -> bool:
        if self.features.joins_store and ledger.database_url == self.url:
            with self._starting:
                self._ledger = ledger
                if self._bridge is not None:
                    self._bridge.enlist(ledger)
            return True
        return False

    async def send(self, outgoing: Sequence[Outgoing], record: Sequence[Event] = ()) -> None:
        await awaited(self.submit(Settlement(outgoing=outgoing, record=record), self._send_timeout))

    async def settle(self, delivery: Delivery, outgoing: Sequence[Outgoing] = (), record: Sequence[Event] = ()) -> None:
        await awaited(self.submit(Settlement(delivery=delivery, outgoing=outgoing, record=record)))

    async def release(self, delivery: Delivery, delay: float = 0.0) -> None:
        await awaited(self.submit(Settlement(delivery=delivery, release_after=delay)))

    async def extend(self, delivery: Delivery) -> None:
        await self._call(lambda pump: pump.renew())
        if delivery.lease.lost:
            raise Superseded()

    def submit(self, settlement: Settlement, patience: float | None = None) -> AnyFuture:
        """Hand a settlement to the thread; with ``patience``, give up on an unreachable broker after these seconds."""
        give_up_at = None if patience is None else time.monotonic() + patience
        request = Request(settlement, new_future(), give_up_at)
        self._hand_over(request)
        return request.future

    async def consume(self, queues: Sequence[str], prefetch: Prefetch) -> AsyncGenerator[Sequence[Delivery], None]:
        consumer = Consumer(tuple(queues), prefetch, asyncio.get_running_loop())
        with self._starting:
            bridge = self._running()
        await self._call(lambda pump: bridge.add(consumer), bridge)
        try:
            while True:
                yield await consumer.arrivals.get()
        finally:
            with suppress(_Closed):  # then everything that was out went back; nobody would close it a second time
                await self._leave(bridge, consumer)

    async def _leave(self, bridge: Bridge, consumer: Consumer) -> None:
        """Give back what came and was not taken."""
        for call in (lambda _: bridge.remove(consumer), _nothing, _nothing):  # an exchange follows: stray ones go back
            await self._call(call, bridge)
        while not consumer.arrivals.empty():
            for delivery in consumer.arrivals.get_nowait():
                request = Request(Settlement(delivery=delivery, release_after=0.0), new_future())
                self._hand_over(request, bridge)
                await awaited(request.future)

    async def _call(self, function: Callable[[Pump], T], on: Bridge | None = None) -> T:
        """Have the I/O thread call this; again when the connection breaks meanwhile, so it must bear repetition."""
        for pause in _CALL_AGAIN_AFTER:
            try:
                return await self._call_once(function, on)
            except Interrupted:
                await asyncio.sleep(pause)
        return await self._call_once(function, on)

    async def _call_once(self, function: Callable[[Pump], T], on: Bridge | None) -> T:
        result: T = await awaited(self.call_in_thread(function, on))
        return result

    def call_in_thread(self, function: Callable[[Pump], T], on: Bridge | None = None) -> AnyFuture:
        """Have the I/O thread call this between two exchanges."""
        future = new_future()
        self._hand_over((function, future), on)
        return future

    def _hand_over(self, item: Request | Call, on: Bridge | None = None) -> None:
        """Before whoever closes the transport can have the thread end: nothing is handed to one that has.

        Raises:
            _Closed: the transport was closed since the thread was ``on`` this bridge.
        """
        with self._starting:
            if on is not None and self._bridge is not on:
                raise _Closed(f"the connection to {masked(self.url)} was closed")
            self._running().put(item)

    def _running(self) -> Bridge:
        if self._bridge is None:
            self._bridge = Bridge(self.url, self.features, self._new_connection, self._ledger)
            self._bridge.start()
        return self._bridge


class _Closed(TransportError):
    """The transport was closed meanwhile, and perhaps opened again."""


def _nothing(_: Pump) -> None:
    """Called for what the thread does before it."""
