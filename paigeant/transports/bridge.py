"""The bridge between asyncio and kombu: one thread owns the connection, everyone else hands it work.

The thread waits for settlements and for the broker, then makes one *exchange*: it settles everything that was handed in
and takes what has arrived. What an exchange is depends on the channel: ours make it one transaction, any other kombu
channel publishes, acknowledges and drains.

After any doubt about the broker the connection is dropped and the same settlements are made again with the same message
ids. A settlement fails only when its lease is lost: trouble with the broker is never the step's failure (G4). Where a
lease goes with the connection, what is handed out again while its step still runs here is settled by that run.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import structlog
from kombu import Connection

from paigeant.errors import PaigeantError, Superseded, TransportError
from paigeant.io_thread import Alarm, AnyFuture, OncePerTurn, answer, call_in
from paigeant.transport import Delivery, Features, Ledger, Prefetch
from paigeant.transports.out import Out
from paigeant.transports.settlement import Settlement
from paigeant.urls import masked

log = structlog.stdlib.get_logger("paigeant.transport")

LONGEST_HOLD = 5.0
"""Seconds a message may be held un-acknowledged by a broker that cannot delay (G6)."""

_COMES_AGAIN_WITHIN = 1.0
"""Seconds after a new connection in which a broker hands out again what went with the old one; RabbitMQ takes a few
hundredths."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_PARTING_PATIENCE = 5.0


class Pump(Protocol):
    """What the thread needs of a channel; all of it is called in the thread.

    ``keeps_leases``: its deliveries stay its own when the connection breaks, so it is opened again, not replaced.
    """

    keeps_leases: bool

    @property
    def patience(self) -> float | None:
        """How many seconds the thread may wait before the next exchange; None: until it is handed something."""
        ...

    def fileno(self) -> int | None:
        """The socket on which the broker speaks first; None for a broker that has to be asked."""
        ...

    def open(self) -> None: ...

    def disconnect(self) -> None: ...

    def close(self) -> None: ...

    def enlist(self, ledger: Ledger) -> None: ...

    def subscribe(self, names: Sequence[str], prefetch: int) -> None: ...

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]: ...

    def finish(self) -> None:
        """Do what an exchange leaves to be done, such as to wake others, once what it brought is handed out."""
        ...

    def renew(self) -> None: ...

    def declare(self, names: Sequence[str]) -> None: ...

    def purge(self, name: str) -> int: ...

    def delete(self, name: str) -> None: ...

    def depth(self, name: str) -> int: ...

    def depths(self) -> Mapping[str, int]: ...

    def is_recoverable(self, error: BaseException) -> bool: ...


def pump_of(connection: Connection) -> Pump:
    """Our channels bring a pump of their own, RabbitMQ has one, any other broker gets the one that works for all."""
    if connection.transport.driver_name == "py-amqp":
        from paigeant.transports.amqp import AmqpPump

        return AmqpPump(connection)
    pump: Pump | None = getattr(connection.default_channel, "pump", None)
    if pump is None:
        from paigeant.transports.channel_pump import ChannelPump

        pump = ChannelPump(connection)
    return pump


@dataclass(slots=True, eq=False)
class Request:
    """A settlement with whoever waits for it. ``give_up_at`` is a monotonic time, None for never."""

    settlement: Settlement
    future: AnyFuture
    give_up_at: float | None = None


Call = tuple[Callable[[Pump], Any], AnyFuture]


class Interrupted(TransportError):
    """The connection broke during a call, whose outcome is unknown; the broker may be there again at once."""


@dataclass(slots=True, eq=False)
class Consumer:
    """Who gets the deliveries of some queues."""

    queues: tuple[str, ...]
    prefetch: Prefetch
    loop: asyncio.AbstractEventLoop
    arrivals: asyncio.Queue[Sequence[Delivery]] = field(default_factory=asyncio.Queue)


class Bridge:
    """The thread, what it was handed and what it has handed out."""

    def __init__(
        self, url: str, features: Features, connection: Callable[[], Connection], ledger: Ledger | None
    ) -> None:
        self._url = masked(url)
        self._features = features
        self._new_connection = connection
        self._ledger = ledger
        self._inbox: SimpleQueue[Request | Call | None] = SimpleQueue()
        self._alarm = Alarm()
        self._waking = OncePerTurn(self._alarm.ring)
        self._thread = threading.Thread(target=self._run, name="paigeant-transport", daemon=True)
        self._connection: Connection | None = None
        self._pump: Pump | None = None
        self._resting: Pump | None = None
        self._consumers: list[Consumer] = []
        self._turn = count()
        self._out = Out()
        self._requests: list[Request] = []
        self._calls: list[Call] = []
        self._later: list[tuple[float, int, Request]] = []
        self._astray: list[Request] = []
        self._astray_until = 0.0
        self._stopping_until: float | None = None
        self._pause = _SHORTEST_PAUSE
        self._pause_until = 0.0

    # --- called from other threads ----------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Request | Call) -> None:
        """Hand over a settlement, or a function to call with the pump."""
        self._inbox.put(item)
        self._waking.ask()

    def enlist(self, ledger: Ledger) -> None:
        """Record with this ledger whatever is handed over from now on."""
        self._ledger = ledger
        self.put((lambda pump: pump.enlist(ledger), Future()))

    def stop(self) -> None:
        """Make the settlements that were handed in, give back the deliveries that are out, end the thread."""
        self._inbox.put(None)
        self._alarm.ring()
        self._thread.join()
        self._alarm.close()

    # --- called in the thread ---------------------------------------------------------------------------------

    def add(self, consumer: Consumer) -> None:
        """All or nothing: a consumer nobody waits behind would be handed deliveries that nobody settles."""
        self._consumers.append(consumer)
        try:
            self._subscribe()
        except BaseException:
            self._consumers.remove(consumer)
            raise

    def remove(self, consumer: Consumer) -> None:
        """Calling it again does nothing."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            self._subscribe()

    def _subscribe(self) -> None:
        if self._pump is not None:
            names = dict.fromkeys(name for consumer in self._consumers for name in consumer.queues)
            self._pump.subscribe(tuple(names), self._prefetch)

    @property
    def _prefetch(self) -> int:
        sizes = [consumer.prefetch for consumer in self._consumers]
        return sum(size() if callable(size) else size for size in sizes)

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._receive()
                self._work()
            except Exception as error:  # noqa: BLE001 - the thread outlives everything a broker can do
                self._recover(error)
        self._part()

    def _is_over(self) -> bool:
        if self._stopping_until is None:
            return False
        return not (self._requests or self._calls) or time.monotonic() > self._stopping_until

    def _receive(self) -> None:
        """Wait for something to do, then take all there is."""
        try:
            wait, spoken = self._wait(), self._pump.fileno() if self._pump is not None else None
            if spoken is None:
                self._sort(self._inbox.get(timeout=wait))
            else:
                self._alarm.wait(spoken, wait, unless=lambda: not self._inbox.empty())
            while True:
                self._sort(self._inbox.get_nowait())
        except Empty:
            pass
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._requests.append(heapq.heappop(self._later)[2])
        self._find_astray(now)

    def _wait(self) -> float | None:
        """How long the thread may sleep: for ever when it has nothing to do and nobody consumes."""
        now = time.monotonic()
        if self._pause_until > now:
            return self._pause_until - now
        if self._requests or self._calls or self._stopping_until is not None:
            return 0.0
        if self._pump is None and (self._consumers or self._resting is not None):
            return 0.0  # it was dropped because of something the broker refused: consumers and leases need it again
        waits = [self._later[0][0] - now] if self._later else []
        if self._astray:
            waits.append(self._astray_until - now)
        if self._pump is not None and (patience := self._pump.patience) is not None:
            waits.append(patience)
        return max(0.0, min(waits)) if waits else None

    def _sort(self, item: Request | Call | None) -> None:
        if item is None:
            self._stopping_until = time.monotonic() + _PARTING_PATIENCE
        elif isinstance(item, tuple):
            self._calls.append(item)
        elif (delay := self._hold(item.settlement)) > 0:
            item.settlement = _without_delay(item.settlement)
            heapq.heappush(self._later, (time.monotonic() + delay, next(self._turn), item))
        else:
            self._requests.append(item)

    def _hold(self, settlement: Settlement) -> float:
        """Seconds to keep a settlement here because the broker cannot delay what it asks for."""
        if self._features.delay:
            return 0.0
        delays = [one.delay for one in settlement.outgoing]
        return min(max([settlement.release_after or 0.0, *delays]), LONGEST_HOLD)

    def _work(self) -> None:
        if self._pause_until > time.monotonic() and not self._calls:
            return
        pump = self._open()
        for call in self._take_calls():
            _carry_out(call, pump, self._url)
        self._let_wait(pump)
        requests = self._requests
        settlements = [self._out.settlement(one.settlement) for one in requests]
        limit = max(0, self._prefetch - self._out.held(settlements)) if self._stopping_until is None else 0
        accepted, deliveries = pump.exchange(settlements, limit)
        self._requests = []
        self._pause = _SHORTEST_PAUSE
        self._forget(requests)
        self._hand_out(deliveries)
        _answer(requests, accepted)
        pump.finish()

    def _open(self) -> Pump:
        if self._pump is None:
            pump = self._resting or self._make()
            try:
                pump.open()
            except BaseException:
                self._pump = pump
                self._drop()
                raise
            if self._ledger is not None:
                pump.enlist(self._ledger)
            self._pump, self._resting = pump, None
            self._astray_until = time.monotonic() + _COMES_AGAIN_WITHIN
            self._subscribe()
        return self._pump

    def _make(self) -> Pump:
        try:
            self._connection = self._new_connection()
            return pump_of(self._connection)
        except BaseException:
            self._drop()
            raise

    def _take_calls(self) -> Iterator[Call]:
        while self._calls:
            yield self._calls.pop(0)

    def _forget(self, requests: Sequence[Request]) -> None:
        """What was settled is out no more."""
        for request in requests:
            if request.settlement.delivery is not None:
                self._out.discard(request.settlement.delivery)

    def _hand_out(self, deliveries: Sequence[Delivery]) -> None:
        batches: dict[Consumer, list[Delivery]] = {}
        for delivery in deliveries:
            if self._out.add(delivery):
                log.info("a message came again while its step runs here", queue=delivery.queue, message_id=delivery.id)
            elif (consumer := self._consumer_of(delivery.queue)) is not None:
                batches.setdefault(consumer, []).append(delivery)
            else:  # it was on its way when its consumer went
                self._requests.append(Request(Settlement(delivery=delivery, release_after=0.0), Future()))
        for consumer, batch in batches.items():
            call_in(consumer.loop, consumer.arrivals.put_nowait, batch)

    def _consumer_of(self, queue: str) -> Consumer | None:
        """Consumers of the same queue take turns."""
        candidates = [one for one in self._consumers if queue in one.queues]
        return candidates[next(self._turn) % len(candidates)] if candidates else None

    # --- when deliveries went with their connection ------------------------------------------------------------

    def _let_wait(self, pump: Pump) -> None:
        """Settlements whose deliveries went with the connection wait a moment: the broker may hand them to us again."""
        is_of_use = self._consumers and self._stopping_until is None and not pump.keeps_leases
        if is_of_use and time.monotonic() < self._astray_until:
            astray = [one for one in self._requests if self._out.is_astray(one.settlement)]
            self._requests = [one for one in self._requests if one not in astray]
            self._astray += astray

    def _find_astray(self, now: float) -> None:
        """Those that have come again can be settled, and those that have not are somebody else's by now."""
        if self._astray:
            is_over = now >= self._astray_until or self._stopping_until is not None
            found = [one for one in self._astray if is_over or not self._out.is_astray(one.settlement)]
            self._astray = [one for one in self._astray if one not in found]
            self._requests += found

    # --- when the broker is in trouble ------------------------------------------------------------------------

    def _recover(self, error: Exception) -> None:
        """Drop the connection and try again later, or refuse what can never succeed."""
        if self._pump is not None and not self._pump.is_recoverable(error) and self._requests:
            self._refuse_culprits()
            return
        self._drop()
        for _, future in self._take_calls():
            answer([(future, None, unreachable(self._url, error))])
        now = time.monotonic()
        given_up = [one for one in self._requests if one.give_up_at is not None and one.give_up_at <= now]
        self._requests = [one for one in self._requests if one not in given_up]
        for request in self._requests:
            request.settlement.tried = True
        answer((one.future, None, unreachable(self._url, error)) for one in given_up)
        if self._consumers or self._requests:
            log.warning("broker unreachable, trying again", broker=self._url, error=str(error).splitlines()[:1])
        self._pause_until = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _refuse_culprits(self) -> None:
        """One settlement the broker cannot take must not hold up the others: make each on its own."""
        requests, self._requests = self._requests, []
        self._drop()
        for position, request in enumerate(requests):
            try:
                accepted, _ = self._open().exchange([self._out.settlement(request.settlement)], 0)
            except Exception as error:  # noqa: BLE001 - told to whoever asked
                if self._pump is None or self._pump.is_recoverable(error):
                    self._requests = requests[position:]
                    self._recover(error)
                    return
                answer([(request.future, None, unreachable(self._url, error))])
                self._drop()
            else:
                self._forget([request])
                _answer([request], accepted)
        try:
            if self._pump is not None:
                self._pump.finish()
        except Exception as error:  # noqa: BLE001 - it is as if it had happened a moment later
            self._recover(error)

    def _drop(self) -> None:
        """Disconnect without asking the broker. A pump that keeps its leases rests until the next try."""
        pump, self._pump = self._pump, None
        self._without_trouble(pump.disconnect if pump is not None else None)
        if pump is not None and pump.keeps_leases:
            self._resting = pump
        elif self._resting is None:
            connection, self._connection = self._connection, None
            self._without_trouble(connection and partial(connection.collect, 1.0))

    def _without_trouble(self, close: Callable[[], object] | None) -> None:
        try:
            if close is not None:
                close()
        except Exception:  # noqa: BLE001 - it is broken: that is why it is dropped
            log.debug("could not close a broken connection", broker=self._url)

    def _part(self) -> None:
        """Give back what is out and end what waits."""
        try:
            if (pump := self._pump or self._resting) is not None:
                pump.close()
            if self._connection is not None:
                self._connection.release()
        except Exception as error:  # noqa: BLE001 - nobody is left to tell
            log.warning("could not part from the broker in good order", broker=self._url, error=str(error))
        gone = TransportError(f"the connection to {self._url} was closed")
        waiting = [*self._requests, *self._astray, *(request for _, _, request in self._later)]
        answer((request.future, None, gone) for request in waiting)
        answer((future, None, gone) for _, future in self._take_calls())


def _answer(requests: Sequence[Request], accepted: Sequence[bool]) -> None:
    answers = zip(requests, accepted, strict=True)
    answer((request.future, None, None if ok else Superseded()) for request, ok in answers)


def _without_delay(settlement: Settlement) -> Settlement:
    return replace(
        settlement,
        outgoing=[replace(one, delay=0.0) for one in settlement.outgoing],
        release_after=None if settlement.release_after is None else 0.0,
    )


def _carry_out(call: Call, pump: Pump, url: str) -> None:
    function, future = call
    try:
        answer([(future, function(pump), None)])
    except Exception as error:
        if isinstance(error, PaigeantError):
            answer([(future, None, error)])
            return
        told = unreachable(url, error)
        if pump.is_recoverable(error):
            told = Interrupted(*told.args, hint=told.hint)
        answer([(future, None, told)])
        raise


def unreachable(url: str, error: BaseException) -> PaigeantError:
    """The error for whoever asked a broker that does not answer."""
    if isinstance(error, PaigeantError):
        return error
    original = getattr(error, "orig", None) or error
    reason = (str(original).strip() or type(original).__name__).splitlines()[0]
    return TransportError(f"cannot use the broker {url}: {reason}", hint="is it running, and is the URL right?")
