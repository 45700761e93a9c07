"""Publishing to RabbitMQ: confirms on a connection of its own, so that trouble with it costs no delivery.

py-amqp leaves to its caller: publishing with ``mandatory`` (an unroutable message is confirmed otherwise), matching
confirms to publishes by delivery tag (py-amqp credits a late confirm to the next publish), and doubt about confirms.

A late confirm is no doubt: the broker is asked something else, and only when it does not answer that either is the
connection dropped and what is not confirmed published again, with the same ids, on a new one. While RabbitMQ blocks the
connection (it is low on memory or disk) everything waits. A refusal concerns the messages of one settlement only.

A queue that does not answer while RabbitMQ does concerns its own messages only: each queue has a channel of its own. A
quorum queue that was declared in the last second before RabbitMQ was killed comes back like that, for ever. Where it is
one of delayed messages, another is used in its place.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import amqp
import structlog
from amqp import spec

from paigeant.errors import BrokerRefused, TransportError
from paigeant.transport import Outgoing
from paigeant.transports.amqp import delays
from paigeant.transports.amqp.lane import Lane, LaneClosed
from paigeant.transports.amqp.link import Link
from paigeant.transports.amqp.queues import Queues, said
from paigeant.transports.pump.backoff import Backoff
from paigeant.transports.pump.settlement import Settlement

log = structlog.stdlib.get_logger("paigeant.transport")

PROMPT = 0.05
"""Seconds for which confirms are awaited at once; what is confirmed later is heard of as it comes."""

CONFIRM_TIMEOUT = 5.0
"""Seconds after which a missing confirm makes RabbitMQ be asked whether it is there, and again for its answer."""

_SLOWEST = 10_000
"""Bytes a second that a link must carry; what has been sent is given that much longer."""

_LONGEST_CONFIRM = 120.0
"""Seconds after which a confirm is not awaited any more, although RabbitMQ answers to other things."""

_MUTE_AFTER = 2.0
"""How many times CONFIRM_TIMEOUT a queue of delayed messages may be silent before another is used in its place."""

_AWAITED = 1.0
"""Seconds after which a confirm is late: what is prompt does not wait for it any more."""

_MOST_LANES = 200
"""Queues that get a channel of their own; RabbitMQ allows 2047 in all. The others share one."""

_UNSENT_PAUSE = 0.02
_PERSISTENT = 2
_TRIES = 2
"""How often a message is published whose queue is not there: the queue is declared again in between."""


class Flight:
    """The messages of one settlement on their way."""

    __slots__ = ("error", "left", "publisher", "settlement")

    def __init__(self, publisher: Publisher, settlement: Settlement, count: int) -> None:
        self.publisher = publisher
        self.settlement = settlement
        self.left = count
        self.error: TransportError | None = None

    @property
    def has_landed(self) -> bool:
        """Whether everything is confirmed, or refused."""
        return self.left <= 0 or self.error is not None


@dataclass(slots=True, eq=False)
class _Item:
    """One message of a flight. ``exchange`` is not empty for one with a delay."""

    flight: Flight
    one: Outgoing
    exchange: str = ""
    sent_at: float = 0.0
    tries: int = 0
    is_returned: bool = False

    @property
    def queue(self) -> str:
        """The queue that it goes to first."""
        return self.exchange or self.one.queue


class Publisher:
    """What one pump publishes. ``gone`` is told of a queue that was not there although it was declared.

    The connection is made when it is first needed.
    """

    def __init__(self, new_link: Callable[[], Link], queues: Queues, gone: Callable[[str], None]) -> None:
        self._new_link = new_link
        self._queues = queues
        self._gone = gone
        self.link: Link | None = None
        self.obstacle: str | None = None
        """Why nothing can be published now; None while it can."""
        self._queue: deque[_Item] = deque()
        self._lanes: dict[str, Lane[_Item]] = {}
        self._detours: dict[str, str] = {}
        self._bytes = 0
        self._alone = 0
        self._backoff = Backoff()
        self._not_before = 0.0
        self._asked: tuple[float, int] | None = None
        self._ask_again_at = 0.0
        self._look_again_at = 0.0

    # --- what the pump asks for ------------------------------------------------------------------------------

    def launch(self, settlement: Settlement, outgoing: Sequence[Outgoing]) -> Flight:
        """Publish these with the next :meth:`work`."""
        flight = Flight(self, settlement, len(outgoing))
        self._queue.extend(_Item(flight, one, _exchange_of(one)) for one in outgoing)
        return flight

    def work(self, patience: float) -> None:
        """Publish, hear confirms for so many seconds at most, and see to the connection. Never raises."""
        try:
            if self.is_flying:
                self._fly(time.monotonic() + patience)
            if self.link is not None:
                self._look_after(self.link)
        except LaneClosed as closed:
            self._on_closed_lane(closed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this connection's
            self.doubt(error)

    def ensure(self, names: Collection[str]) -> bool:
        """Declare these queues, of which a refusal closes nothing that matters; False when that cannot be done now.

        Raises:
            BrokerRefused: RabbitMQ refuses one of them.
        """
        try:
            link = self._connected()
            if link is None or link.blocked or link.parts.has_unsent:
                return False
            for name in names:
                self._queues.ensure(link, name)
        except BrokerRefused:
            raise
        except LaneClosed as closed:
            self._on_closed_lane(closed)
            return False
        except Exception as error:  # noqa: BLE001 - the next try is made later
            self.doubt(error)
            return False
        return True

    def doubt(self, error: BaseException) -> None:
        """Drop the connection; what is not confirmed is published again on the next one."""
        if self.obstacle is None:
            log.warning("lost the connection on which messages are published, connecting again", error=said(error))
        self.obstacle = f"cannot publish: {said(error)}"
        self._land_back(self._lanes.values())
        self._not_before = time.monotonic() + self._backoff.next()
        self._close()

    def close(self) -> None:
        """Forget everything and close the connection."""
        self._queue.clear()
        self._close()

    @property
    def is_flying(self) -> bool:
        """Whether something is on its way or waits to be."""
        return bool(self._queue or self._sent)

    @property
    def _sent(self) -> list[_Item]:
        """What is not confirmed."""
        return [item for lane in self._lanes.values() for item in lane.sent.values()]

    @property
    def blocked(self) -> str | None:
        """Why RabbitMQ lets us publish nothing, in its words."""
        return self.link.blocked if self.link is not None else None

    @property
    def patience(self) -> float | None:
        """Seconds after which :meth:`work` wants to be called although nothing came; None for whenever."""
        now = time.monotonic()
        if self.link is None:
            return max(0.0, self._not_before - now) if self._queue else None
        if self.link.parts.has_unsent and not self.link.blocked:
            return _UNSENT_PAUSE
        return self.link.patience

    # --- publishing ------------------------------------------------------------------------------------------

    def _fly(self, until: float) -> None:
        link = self._connected()
        while link is not None:
            self._take_off(link)
            if not self._await(link, until) or not self._queue or link.blocked or link.parts.has_unsent:
                return

    def _connected(self) -> Link | None:
        """The connection; None while it is too early to try again."""
        if self.link is None and time.monotonic() >= self._not_before:
            self.link = link = self._new_link()
            link.open()
            self._spare = link.amqp.channel()
        return self.link

    def _lane_of(self, link: Link, queue: str) -> Lane[_Item]:
        """The channel for this queue."""
        name = queue if queue in self._lanes or len(self._lanes) < _MOST_LANES else ""
        if name not in self._lanes:
            self._lanes[name] = Lane(link, name, self._on_confirm, self._on_refuse, self._on_return)
        return self._lanes[name]

    def _take_off(self, link: Link) -> None:
        """Send what may be sent: everything, or one settlement's messages alone while a culprit is looked for."""
        if link.blocked or link.parts.has_unsent or (self._alone and self._is_awaiting):
            return
        first, items = self._queue[0].flight if self._queue else None, list[_Item]()
        while self._queue and (not self._alone or self._queue[0].flight is first):
            items.append(self._queue.popleft())
        self._alone = max(0, self._alone - 1) if items else self._alone
        try:
            ready = [(one, self._lane_of(link, one.queue)) for one in items if self._may_fly(link, one)]
        except BaseException:
            self._queue.extendleft(reversed(items))
            raise
        with link.parts.put_off():
            for item, lane in ready:
                self._send(item, lane)
        link.parts.send_some()

    def _may_fly(self, link: Link, item: _Item) -> bool:
        """Whether its queue is there; one that the broker refuses is its settlement's failure."""
        if item.flight.error is not None or item.flight.settlement.is_withdrawn:
            return False
        item.exchange = self._detours.get(item.exchange, item.exchange)
        try:
            if item.exchange:
                self._queues.ensure_delay(link, item.exchange)
            self._queues.ensure(link, item.one.queue)
        except BrokerRefused as error:
            item.flight.error = error
            return False
        return True

    def _send(self, item: _Item, lane: Lane[_Item]) -> None:
        if item.flight.error is not None:  # another of its messages was refused
            return
        item.sent_at, item.tries, item.is_returned = time.monotonic(), item.tries + 1, False
        self._bytes += len(item.one.body)
        lane.send(item, item.exchange, item.one.queue, _message(item.one))

    def _await(self, link: Link, until: float) -> bool:
        """Hear confirms until then; whether everything is confirmed that is not late."""
        while self._is_awaiting and (left := until - time.monotonic()) > 0 and not link.blocked:
            if not link.parts.wait(left):
                break
            while link.parts.has_come():
                link.read_frame()
        if not any(lane.sent for lane in self._lanes.values()):
            self._bytes = 0
        return not self._is_awaiting

    @property
    def _is_awaiting(self) -> bool:
        """Whether something is under way that is not late."""
        since = time.monotonic() - _AWAITED
        return any(_oldest(lane).sent_at > since for lane in self._lanes.values() if lane.sent)

    # --- what RabbitMQ says ----------------------------------------------------------------------------------

    def _on_confirm(self, items: list[_Item]) -> None:
        for item in items:
            if item.is_returned:
                self._try_again(item)
            else:
                item.flight.left -= 1
        if self.obstacle is not None:
            log.info("messages are published again")
        self.obstacle = None
        self._backoff.reset()

    def _on_refuse(self, items: list[_Item]) -> None:
        for item in items:
            if item.exchange and self._find_detour(item.exchange):
                self._queue.append(item)
                continue
            item.flight.error = BrokerRefused(
                f"RabbitMQ refused a message for the queue {item.queue!r}",
                hint="is the queue full (x-max-length with reject-publish), or without a leader? rabbitmqctl tells;"
                " delete one that never has a leader, it is declared again",
            )

    def _on_return(self, lane: Lane[_Item], exchange: str, routing_key: str) -> None:
        """There is no such queue. RabbitMQ confirms what it returned, after this."""
        for item in lane.sent.values():
            if (item.exchange, item.one.queue) == (exchange, routing_key):
                item.is_returned = True

    def _try_again(self, item: _Item) -> None:
        self._gone(item.queue)
        if item.tries < _TRIES:
            self._queue.append(item)
        else:
            item.flight.error = BrokerRefused(f"RabbitMQ refused a message: no queue {item.queue!r}")

    # --- trouble ---------------------------------------------------------------------------------------------

    def _on_closed_lane(self, closed: LaneClosed) -> None:
        """RabbitMQ closed a channel because of one of the messages: it is known which if it was alone."""
        lane: Lane[_Item] = closed.lane
        if self._lanes.get(lane.name) is lane:
            del self._lanes[lane.name]
        flights = {id(one.flight): one.flight for one in lane.sent.values()}
        if len(flights) == 1:
            [flight] = flights.values()
            flight.error = BrokerRefused(f"RabbitMQ refused a message: {said(closed.error)}")
            return
        self._alone = len(flights)
        for item in lane.sent.values():
            if item.exchange:
                self._gone(item.exchange)  # it may be its exchange that is not there
        self._land_back([lane])

    def _land_back(self, lanes: Iterable[Lane[_Item]]) -> None:
        """What is not confirmed waits to be published again, in its order."""
        sent = [item for lane in lanes for item in lane.take_all()]
        again = [one for one in sorted(sent, key=_sent_at) if not one.flight.settlement.is_withdrawn]
        for item in again:
            item.tries -= 1
        self._queue.extendleft(reversed(again))

    def _find_detour(self, exchange: str) -> bool:
        """Use another queue for the delayed messages of this one from now on; False if it is another one already."""
        if exchange in self._detours.values():
            return False
        if exchange not in self._detours:
            self._detours[exchange] = other = delays.other_queue(exchange)
            log.error(
                "a queue of delayed messages takes none, another is used in its place", queue=exchange, used=other
            )
        return True

    def _go_round(self, now: float) -> None:
        """RabbitMQ answers, and some queues of delayed messages have not answered for long."""
        late = now - _MUTE_AFTER * CONFIRM_TIMEOUT - self._bytes / _SLOWEST
        for name, lane in list(self._lanes.items()):
            oldest = _oldest(lane) if lane.sent else None
            if oldest is not None and oldest.exchange and oldest.sent_at < late and self._find_detour(oldest.exchange):
                self._land_back([self._lanes.pop(name)])

    def _close(self) -> None:
        link, self.link, self._asked = self.link, None, None
        self._lanes.clear()
        try:
            if link is not None:
                link.collect()
        except Exception:  # noqa: BLE001 - it is broken: that is why it is dropped
            log.debug("could not close a broken connection")

    def _look_after(self, link: Link) -> None:
        """Keep it alive, and doubt it when confirms are late and nothing else comes either."""
        if not any(lane.sent for lane in self._lanes.values()) and not link.blocked and self._is_early:
            return
        self._look_again_at = time.monotonic() + min(1.0, link.patience)
        link.read()
        link.beat()
        if not (sent := self._sent) or link.blocked:
            self._asked = None
            return
        now, oldest = time.monotonic(), min(sent, key=_sent_at)
        waited = now - oldest.sent_at - self._bytes / _SLOWEST
        if waited < CONFIRM_TIMEOUT:
            return
        if waited > _LONGEST_CONFIRM:
            raise TransportError(f"RabbitMQ did not confirm {len(sent)} messages in time")
        if self._asked is None:
            if now >= self._ask_again_at:
                self._ask(now, link)
        elif link.heard != self._asked[1]:
            self._asked, self._ask_again_at = None, now + CONFIRM_TIMEOUT
            self._go_round(now)
        elif now - self._asked[0] > CONFIRM_TIMEOUT:
            raise TransportError("RabbitMQ does not answer on the connection on which messages are published")

    @property
    def _is_early(self) -> bool:
        return time.monotonic() < self._look_again_at

    def _ask(self, now: float, link: Link) -> None:
        """Something harmless that RabbitMQ answers at once, without waiting for the answer."""
        self._asked = now, link.heard
        with link.parts.put_off():
            self._spare.send_method(spec.Basic.Qos, "lBb", (0, 0, False))
        link.parts.send_some()


def _sent_at(item: _Item) -> float:
    return item.sent_at


def _oldest(lane: Lane[_Item]) -> _Item:
    return next(iter(lane.sent.values()))


def _exchange_of(one: Outgoing) -> str:
    return delays.delay_queue(one.queue, one.delay) if one.delay > 0 else ""


def _message(one: Outgoing) -> Any:
    properties: dict[str, Any] = {
        "delivery_mode": _PERSISTENT,
        "content_type": "application/json",
        "application_headers": dict(one.headers),
    }
    if one.id is not None:
        properties["message_id"] = one.id
    if one.delay > 0:
        properties["expiration"] = delays.milliseconds(one.delay)
    return amqp.basic_message.Message(one.body, **properties)
