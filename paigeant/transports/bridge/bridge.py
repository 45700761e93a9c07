"""The bridge between asyncio and kombu: one thread owns the connection, everyone else hands it work.

The thread waits for settlements and for the broker, then makes one *exchange*: it settles a group of what was handed in
and takes what has arrived. What an exchange is depends on the channel: ours make it one transaction, any other kombu
channel publishes, acknowledges and drains.

What an error concerns decides what follows (:mod:`paigeant.transports.pump.diagnosis`). After any doubt about the
connection it is dropped and the same settlements are made again with the same message ids. A settlement that the
broker refuses fails alone, with the broker's reason. Otherwise it fails only when its lease is lost: trouble with the
broker is never the step's failure (G4). Where a lease goes with the connection, what is handed out again while its
step still runs here is settled by that run.

Who consumes is noted here, without the broker: the thread subscribes as soon as it can, and again after every outage.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from kombu import Connection

from paigeant.errors import ConfigurationError, PaigeantError, Superseded, TransportError
from paigeant.runtime.io_thread import Alarm, OncePerIteration, answer
from paigeant.runtime.urls import masked
from paigeant.transport import Delivery, Features, Ledger
from paigeant.transports.bridge.astray import Astray
from paigeant.transports.bridge.calls import Call, carry_out
from paigeant.transports.bridge.consumers import Consumer, Consumers
from paigeant.transports.bridge.line import Line
from paigeant.transports.bridge.out import Came, Out
from paigeant.transports.bridge.refusals import Closed, refused, unreachable
from paigeant.transports.bridge.waiting import Waiting
from paigeant.transports.pump.backoff import Backoff
from paigeant.transports.pump.contract import Pump
from paigeant.transports.pump.diagnosis import LOST, REFUSED, Diagnosis, Response, response
from paigeant.transports.pump.settlement import NoRoom, Request, Settlement, Verdict

log = structlog.stdlib.get_logger("paigeant.transport")

LONGEST_HOLD = 5.0
"""Seconds a message may be held un-acknowledged by a broker that cannot delay (G6)."""

_ROOM_AFTER = 0.5
"""Seconds after which a settlement that the broker had no room for is tried again."""

_PARTING_PATIENCE = 5.0
_GIVE_UP_EVERY = 0.5
"""Seconds between two looks for senders whose patience is over."""

_REFUSED_AGAIN_AFTER = 5.0
"""Seconds after which what the thread itself wants settled is tried again when the broker refused it."""

_REFUSAL_SHOWN_FOR = 60.0
"""Seconds for which the last refusal is told to whoever asks for trouble."""


_NUDGE = object()
"""What is put into the inbox to make the thread look around."""


class Bridge:
    """The thread, what it was handed and what it has handed out."""

    def __init__(
        self, url: str, features: Features, connection: Callable[[], Connection], ledger: Ledger | None
    ) -> None:
        self._url = masked(url)
        self._features = features
        self.delivery_limit: int | None = None
        """After how many returns the broker drops a message, if that is known."""
        self._line = Line(self._url, connection, ledger)
        self._inbox: SimpleQueue[Request | Call | object | None] = SimpleQueue()
        self._alarm = Alarm()
        self._waking = OncePerIteration(self._alarm.ring)
        self._thread = threading.Thread(target=self._run, name="paigeant-transport", daemon=True)
        self._consumers = Consumers()
        self._counter = count()
        self._out = Out()
        self._takers: dict[tuple[Any, int], Consumer] = {}
        self._waiting = Waiting()
        self._group: list[Request] = []
        self._calls: list[Call] = []
        self._later: list[tuple[float, int, Request]] = []
        self._astray = Astray(self._out)
        self._stopping_until: float | None = None
        self._backoff = Backoff()
        self._pause_until = 0.0
        self._tried_at = 0.0
        self._give_up_at = 0.0
        self._lost: str | None = None
        self._has_told = False
        self._refusal: tuple[float, str] | None = None

    # --- called from other threads ----------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Request | Call) -> None:
        """Hand over a settlement, or a function to call with the pump."""
        self._inbox.put(item)
        self._waking.ask()

    def enlist(self, ledger: Ledger) -> None:
        """Record with this ledger whatever is handed over from now on."""
        self._line.ledger = ledger
        self.put((lambda pump: pump.enlist(ledger), Future()))

    def stop(self) -> None:
        """Make the settlements that were handed in, give back the deliveries that are out, end the thread."""
        self._inbox.put(None)
        self._alarm.ring()
        self._thread.join()
        self._alarm.close()

    def kill(self) -> None:
        """End as in a killed process: sockets closed, nothing settled or given back. For tests of transports."""

        def die(_pump: Pump) -> None:
            self._line.abandon()
            self._stopping_until = float("-inf")
            raise OSError("killed")

        self.put((die, Future()))
        self._thread.join()
        self._alarm.close()

    def add(self, consumer: Consumer) -> None:
        """Have it given deliveries as soon as the broker is there; never waits.

        Raises:
            Closed: the thread has ended.
        """
        self._consumers.add(consumer)
        self._nudge()

    def remove(self, consumer: Consumer) -> None:
        """Give it nothing more; never waits. Calling it again does nothing."""
        if self._consumers.remove(consumer):
            self._nudge()

    def _nudge(self) -> None:
        self._inbox.put(_NUDGE)
        self._alarm.ring()

    @property
    def trouble(self) -> str | None:
        """What keeps the transport from working now, in one line."""
        if (lost := self._lost) is not None:
            return lost
        if (pump := self._line.pump) is not None and pump.obstacle is not None:
            return pump.obstacle
        refusal = self._refusal
        return refusal[1] if refusal is not None and time.monotonic() < refusal[0] else None

    @property
    def is_away(self) -> bool:
        """Whether the broker cannot be reached now."""
        return self._lost is not None

    # --- called in the thread ---------------------------------------------------------------------------------

    def _subscribe(self, pump: Pump) -> None:
        """Tell the broker who consumes. A new consumer that the broker refuses gets the error, and nothing more."""
        for consumer, error in self._consumers.subscribe(pump, partial(unreachable, self._url)):
            self.remove(consumer)
            consumer.put(error)

    def _bury(self) -> None:
        """Consumers whose event loop was closed: nobody will settle what they took, so it goes back."""
        for consumer in self._consumers.abandoned():
            log.warning("a consumer's event loop was closed, its deliveries go back", queues=list(consumer.queues))
            self.remove(consumer)
            for delivery in self._out.all():
                if self._takers.get((delivery.tag, delivery.token)) is consumer:
                    self._give_back(delivery)

    def _give_back(self, delivery: Delivery) -> None:
        self._waiting.add(Request(Settlement(delivery=delivery, release_after=0.0), Future(), is_ours=True))

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
        return not (self._waiting or self._calls) or time.monotonic() > self._stopping_until

    def _receive(self) -> None:
        """Wait for something to do, then take all there is."""
        try:
            wait, spoken = self._wait(), self._line.pump.fileno() if self._line.pump is not None else None
            if spoken is None:
                self._sort(self._next(wait))
            else:
                self._alarm.wait(spoken, wait, unless=lambda: not self._inbox.empty())
            while True:
                self._sort(self._inbox.get_nowait())
        except Empty:
            pass
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._waiting.add(heapq.heappop(self._later)[2])
        for request in self._astray.ended(now, is_stopping=self._stopping_until is not None):
            self._waiting.add(request)
        self._bury()
        if now >= self._give_up_at:
            self._give_up(now)

    def _next(self, wait: float | None) -> Any:
        """What the thread is handed next.

        Raises:
            Empty: nothing in this time, or there is something to take from the broker.
        """
        glances = self._line.pump.glances if self._line.pump is not None else None
        if glances is None or wait is None:
            return self._inbox.get(timeout=wait)
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > glances.every:
            with suppress(Empty):
                return self._inbox.get(timeout=glances.every)
            if glances.has_news():
                raise Empty
        return self._inbox.get(timeout=max(0.0, left))

    def _wait(self) -> float | None:
        """How long the thread may sleep: for ever when it has nothing to do and nobody consumes."""
        now = time.monotonic()
        if self._pause_until > now:
            return self._pause_until - now
        if self._waiting.has_new or self._calls or self._stopping_until is not None:
            return 0.0 if self._waiting.has_new or self._calls else _LAST_LOOKS
        if self._line.pump is None and (self._consumers or self._line.is_resting or self._waiting):
            return 0.0  # it was dropped because of something the broker refused: consumers and leases need it again
        if self._consumers.is_stale and self._line.pump is not None:
            return 0.0
        waits = [self._later[0][0] - now] if self._later else []
        if (left := self._astray.left(now)) is not None:
            waits.append(left)
        if self._waiting:
            waits.append(_GIVE_UP_EVERY)
        if self._line.pump is not None and (patience := self._line.pump.patience) is not None:
            waits.append(patience)
        return max(0.0, min(waits)) if waits else None

    def _sort(self, item: Any) -> None:
        if item is None:
            self._stopping_until = time.monotonic() + _PARTING_PATIENCE
        elif isinstance(item, tuple):
            self._calls.append(item)
        elif isinstance(item, Request):
            if (delay := self._hold(item.settlement)) > 0:
                item.settlement = _without_delay(item.settlement)
                self._put_off(item, delay)
            else:
                self._waiting.add(item)

    def _put_off(self, request: Request, delay: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + delay, next(self._counter), request))

    def _hold(self, settlement: Settlement) -> float:
        """Seconds to keep a settlement here because the broker cannot delay what it asks for."""
        if self._features.delay:
            return 0.0
        delays = [one.delay for one in settlement.outgoing]
        return min(max([settlement.release_after or 0.0, *delays]), LONGEST_HOLD)

    def _work(self) -> None:
        if self._pause_until > time.monotonic() and not self._calls:
            return
        self._tried_at = time.monotonic()
        pump = self._open()
        if self._consumers.is_stale:
            self._subscribe(pump)
        for call in self._take_calls():
            carry_out(call, pump, self._url)
        if self._consumers and self._stopping_until is None and not pump.keeps_leases:
            self._astray.take_from(self._waiting, time.monotonic())
        self._exchange(pump, self._waiting.group())
        pump.finish()
        self._is_there()

    def _exchange(self, pump: Pump, group: list[Request]) -> None:
        self._group = group
        settlements = [self._out.settlement(one.settlement) for one in group]
        limit = max(0, self._consumers.prefetch - self._out.held(settlements)) if self._stopping_until is None else 0
        verdicts, deliveries = pump.exchange(settlements, limit)
        for request, settlement in zip(group, settlements, strict=True):
            request.settlement.progress = settlement.progress
        self._group = []
        self._conclude(group, verdicts, deliveries)

    def _conclude(
        self, group: Sequence[Request], verdicts: Sequence[Verdict], deliveries: Sequence[Delivery] = ()
    ) -> None:
        """Hand out what came, and tell those whose settlement is over what became of it."""
        answers = []
        for request, verdict in zip(group, verdicts, strict=True):
            if isinstance(verdict, NoRoom):
                self._wait_for_room(request, verdict)
            elif isinstance(verdict, TransportError):
                self._refuse(request, verdict)
            elif verdict is not None:
                self._forget(request)
                answers.append((request.future, None, None if verdict else Superseded()))
        self._hand_out(deliveries)
        answer(answers)

    def _open(self) -> Pump:
        pump, is_new = self._line.open()
        if is_new:
            self._astray.reconnected(time.monotonic())
            self._consumers.is_stale = True
        return pump

    def _take_calls(self) -> Iterator[Call]:
        while self._calls:
            yield self._calls.pop(0)

    def _forget(self, request: Request) -> None:
        """What was settled is out no more, and copies of it go with it."""
        self._waiting.discard(request)
        delivery = request.settlement.delivery
        if delivery is not None:
            self._takers.pop((delivery.tag, delivery.token), None)
            for copy in self._out.discard(delivery):
                self._waiting.add(Request(Settlement(delivery=copy), Future(), is_ours=True))

    def _hand_out(self, deliveries: Sequence[Delivery]) -> None:
        batches: dict[Consumer, list[Delivery]] = {}
        for delivery in deliveries:
            if (came := self._out.add(delivery)) is not Came.NEW:
                said = "a copy of a message waits for the first one's end" if came is Came.COPY else _CAME_AGAIN
                log.info(said, queue=delivery.queue, message_id=delivery.id)
            elif delivery.is_worn(self.delivery_limit):  # a copy begins anew for the broker; the count goes with it
                self._give_back(delivery)
            elif (consumer := self._consumers.of(delivery.queue)) is not None:
                self._takers[delivery.tag, delivery.token] = consumer
                batches.setdefault(consumer, []).append(delivery)
            else:  # it was on its way when its consumer went
                self._give_back(delivery)
        for consumer, batch in batches.items():
            consumer.put(batch)  # of a closed loop they go back: _bury

    # --- when the broker is in trouble ------------------------------------------------------------------------

    def _recover(self, error: Exception) -> None:
        """Do what the trouble asks for."""
        group, self._group = self._group, []
        diagnosis = self._diagnose(error)
        match response(diagnosis, len(group)):
            case Response.REFUSE:
                self._reset()
                self._refuse(group[0], error, diagnosis)
            case Response.ONE_BY_ONE:
                self._reset()
                self._one_by_one(group)
            case Response.RECONNECT:
                self._reconnect(error)

    def _diagnose(self, error: Exception) -> Diagnosis:
        return self._line.pump.diagnose(error) if self._line.pump is not None else LOST

    def _reset(self) -> None:
        """After a refusal: a pump that loses nothing by it connects anew, so that nothing is left of the attempt."""
        if self._line.pump is not None and self._line.pump.keeps_leases:
            self._line.drop()

    def _refuse(self, request: Request, error: Exception, diagnosis: Diagnosis = REFUSED) -> None:
        """The broker refuses this settlement alone; a delivery that it would settle is still held."""
        told = refused(self._url, error, diagnosis)
        self._refusal = time.monotonic() + _REFUSAL_SHOWN_FOR, str(told)
        request.settlement.progress = None
        self._waiting.discard(request)
        if request.is_ours:
            log.warning("the broker rejects a settlement, trying again", error=str(told))
            self._put_off(request, _REFUSED_AGAIN_AFTER)
        answer([(request.future, None, told)] if not request.is_ours else [])

    def _wait_for_room(self, request: Request, error: NoRoom) -> None:
        """The broker is full: try this settlement again later, unless the patience of its sender is over."""
        now = time.monotonic()
        self._refusal = now + _REFUSAL_SHOWN_FOR, str(error)
        self._waiting.discard(request)
        if request.give_up_at is not None and request.give_up_at <= now:
            answer([(request.future, None, error)])
        else:
            self._put_off(request, _ROOM_AFTER)

    def _one_by_one(self, group: Sequence[Request]) -> None:
        """One settlement the broker cannot take must not hold up the others: make each on its own."""
        for request in group:
            try:
                self._exchange(self._open(), [request])
            except Exception as error:  # noqa: BLE001 - told to whoever asked
                self._group, diagnosis = [], self._diagnose(error)
                if not diagnosis.is_narrow:
                    self._reconnect(error)
                    return
                self._reset()
                self._refuse(request, error, diagnosis)
        try:
            if self._line.pump is not None:
                self._line.pump.finish()
        except Exception as error:  # noqa: BLE001 - it is as if it had happened a moment later
            self._recover(error)

    def _reconnect(self, error: Exception) -> None:
        """Drop the connection; what waits is tried again on the next one."""
        if self._diagnose(error).is_ours:
            log.error("a fault of paigeant in the transport, connecting again", broker=self._url, exc_info=error)
        self._line.drop()
        for _, future in self._take_calls():
            answer([(future, None, unreachable(self._url, error))])
        self._waiting.start_again()
        told = unreachable(self._url, error)
        if not self._has_told and (self._consumers or self._waiting):
            self._has_told = True
            log.warning("broker unreachable, trying again", broker=self._url, error=str(told))
        self._lost = str(told)
        now = time.monotonic()
        if isinstance(error, ConfigurationError):  # no patience helps
            self._refuse_senders(told)
        self._give_up(now, told)
        self._pause_until = self._tried_at + self._backoff.next()  # a try that timed out was a pause by itself

    def _is_there(self) -> None:
        """An exchange succeeded."""
        if self._has_told:
            log.info("the broker is back", broker=self._url)
        self._lost, self._has_told = None, False
        self._backoff.reset()

    def _give_up(self, now: float, error: PaigeantError | None = None) -> None:
        """Tell senders whose patience is over. It is unknown whether their messages will be there."""
        self._give_up_at = now + _GIVE_UP_EVERY
        for request in self._waiting.overdue(now):
            told = error or TransportError(
                f"cannot use the broker {self._url}: {self.trouble or 'it has not confirmed the messages in time'}",
                hint="the messages may arrive all the same; sent again with the same ids they are the same messages",
            )
            request.settlement.is_withdrawn = True
            self._waiting.discard(request)
            answer([(request.future, None, told)])

    def _refuse_senders(self, error: PaigeantError) -> None:
        """Tell everybody who would not wait for ever."""
        for request in self._waiting.take(lambda one: one.give_up_at is not None):
            answer([(request.future, None, error)])

    def _part(self) -> None:
        """Give back what is out and end what waits."""
        self._line.close()
        gone = Closed(f"the connection to {self._url} was closed")
        self._consumers.end(gone)
        waiting = [*self._waiting, *self._astray, *(request for _, _, request in self._later)]
        answer((request.future, None, gone) for request in waiting)
        answer((future, None, gone) for _, future in self._take_calls())


_CAME_AGAIN = "a message came again while its step runs here"
_LAST_LOOKS = 0.02
"""Seconds between two looks at what is under way when the thread is to end."""


def _without_delay(settlement: Settlement) -> Settlement:
    return replace(
        settlement,
        outgoing=[replace(one, delay=0.0) for one in settlement.outgoing],
        release_after=None if settlement.release_after is None else 0.0,
    )
