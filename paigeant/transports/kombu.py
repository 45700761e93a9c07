"""Every kombu URL as a transport of paigeant. The work is done by :mod:`paigeant.transports.bridge.bridge`'s thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog
from kombu import Connection

from paigeant.errors import PaigeantError, Superseded, TransportError
from paigeant.events import Event
from paigeant.runtime import forks
from paigeant.runtime.io_thread import AnyFuture, awaited, new_future
from paigeant.runtime.urls import masked
from paigeant.transport import BaseTransport, Delivery, Durability, Features, Ledger, Outgoing, Prefetch
from paigeant.transports.bridge.bridge import Bridge
from paigeant.transports.bridge.calls import Call
from paigeant.transports.bridge.consumers import Consumer
from paigeant.transports.bridge.refusals import Closed, Interrupted
from paigeant.transports.pump.contract import Pump
from paigeant.transports.pump.settlement import Request, Settlement

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.transport")

_CALL_AGAIN_AFTER = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds. RabbitMQ closes the connection of who uses a quorum queue that another client is just declaring."""

_PARTING_PATIENCE = 5.0
"""Seconds for which a consumer that leaves waits for the broker, if it is there."""


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
        self._pause: forks.Pause | None = None
        forks.enlist(self)
        self._is_sqlite = url.startswith("sqlite")
        if self._is_sqlite or features.durability is Durability.VOLATILE:
            forks.enlist_resting(self)
        self._delivery_limit: int | None = None

    # --- what callers see, on any loop ------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._call(_nothing)

    async def close(self) -> None:
        with self._starting:
            bridge, self._bridge = self._bridge, None
        if bridge is not None:
            await asyncio.to_thread(bridge.stop)

    def kill(self) -> None:
        """End the thread as in a process that is killed; see :meth:`Bridge.kill`. Blocks."""
        with self._starting:
            bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.kill()

    async def declare(self, *queues: str) -> None:
        await self._call(lambda pump: pump.declare(queues))

    async def purge(self, queue: str) -> int:
        return await self._call(lambda pump: pump.purge(queue))

    async def delete(self, queue: str) -> None:
        """Delete the queue with everything in it, what is out included."""
        await self._call(lambda pump: pump.delete(queue))

    async def depth(self, queue: str) -> int:
        return await self._call(lambda pump: pump.depth(queue))

    async def ping(self, queue: str) -> None:
        await self._call(lambda pump: getattr(pump, "ping", pump.depth)(queue))

    async def queues(self) -> Mapping[str, int]:
        return await self._call(lambda pump: pump.depths())

    async def delivery_limit(self, prefix: str) -> int | None:
        if not (self.features.delivery_count and self._new_connection().transport.driver_name == "py-amqp"):
            return None
        from paigeant.transports.amqp.limit import delivery_limit

        try:
            limit = await asyncio.to_thread(delivery_limit, self._new_connection, prefix)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being tried out, a step is not to blame
            log.debug("could not find out the delivery limit", error=type(error).__name__)
            return None
        with self._starting:
            self._delivery_limit = limit
            if self._bridge is not None:
                self._bridge.delivery_limit = limit
        return limit

    def trouble(self) -> str | None:
        bridge = self._bridge
        return bridge.trouble if bridge is not None else None

    async def note(self, key: str, seconds: float) -> None:
        await self._call(lambda pump: pump.note(key, seconds))

    async def noted(self, key: str) -> bool | None:
        return await self._call(lambda pump: pump.noted(key))

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
            bridge.add(consumer)
        try:
            while True:
                arrived = await consumer.arrivals.get()
                if isinstance(arrived, PaigeantError):
                    raise arrived
                yield arrived
        finally:
            bridge.remove(consumer)
            with suppress(TransportError, TimeoutError):  # if it was closed, everything that was out went back
                await self._leave(bridge, consumer)

    async def _leave(self, bridge: Bridge, consumer: Consumer) -> None:
        """Give back what came and was not taken; a broker that is there is waited for, one that is away is not."""
        back = list[AnyFuture]()
        for _ in range(2):  # between the two, an exchange brings what was on its way
            while not consumer.arrivals.empty():
                arrived = consumer.arrivals.get_nowait()
                for delivery in arrived if not isinstance(arrived, PaigeantError) else ():
                    request = Request(Settlement(delivery=delivery, release_after=0.0), new_future(), is_ours=True)
                    self._hand_over(request, bridge)
                    back.append(request.future)
            if not bridge.is_away:
                async with asyncio.timeout(_PARTING_PATIENCE):
                    for call in (_nothing, _nothing):
                        await self._call_once(call, bridge)
        if not bridge.is_away and back:
            await asyncio.wait([asyncio.ensure_future(awaited(one)) for one in back], timeout=_PARTING_PATIENCE)

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
            Closed: the transport was closed since the thread was ``on`` this bridge.
        """
        with self._starting:
            if on is not None and self._bridge is not on:
                raise Closed(f"the connection to {masked(self.url)} was closed")
            self._running().put(item)

    # --- when the program forks ------------------------------------------------------------------------------

    def rest(self) -> Callable[[float], None]:
        with self._starting:
            if self._bridge is None:
                return lambda _seconds: None
            self._pause = pause = forks.Pause()
            resting: Future[None] = Future()
            resting.add_done_callback(lambda _: pause.skip())  # it failed: then nothing is open
            self._bridge.put((partial(self._hold, pause), resting))
        return pause.wait

    def _hold(self, pause: forks.Pause, pump: Pump) -> None:
        if self._is_sqlite:  # no file of it may be open; what is in memory stays
            pump.disconnect()
        pause.hold()

    def go_on(self) -> None:
        if self._pause is not None:
            self._pause.end()
            self._pause = None

    def forget_after_fork(self) -> None:
        """In a child: the thread and its connection are the parent's."""
        forks.keep(self._bridge)
        self._bridge = self._pause = None
        self._starting = threading.Lock()

    def _running(self) -> Bridge:
        if self._bridge is None:
            self._bridge = Bridge(self.url, self.features, self._new_connection, self._ledger)
            self._bridge.delivery_limit = self._delivery_limit
            self._bridge.start()
        return self._bridge


def _nothing(_: Pump) -> None:
    """Called for what the thread does before it."""
