"""Queues in Redis Streams: what our kombu transport over Redis does underneath.

A queue is a stream with one consumer group. One script, ``lua/exchange.lua``, makes a whole exchange atomically: it
settles what is still held, adds what follows, frees what dead holders held and claims. A holder keeps all its leases by
one entry in a sorted set; times are the server's. No script touches more than a part of what there is: the next call
does what is left over.

What Redis promises about its own durability is a matter of its configuration (``appendonly``, ``maxmemory-policy``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis
import structlog

from paigeant.errors import TransportError
from paigeant.runtime.clock import Clock
from paigeant.transport import Delivery, Ledger
from paigeant.transports.pump.diagnosis import LOST, OURS, REFUSED, Diagnosis, Scope
from paigeant.transports.pump.settlement import NoRoom, Settlement
from paigeant.transports.redis import exchange
from paigeant.transports.redis.client import connect as connect
from paigeant.transports.redis.exchange import Verdict
from paigeant.transports.redis.exchanges import Exchanges
from paigeant.transports.redis.housekeeping import Housekeeping
from paigeant.transports.redis.leases import Leases
from paigeant.transports.redis.routes import RedisRoutes, declared_in
from paigeant.transports.redis.server import Server
from paigeant.transports.redis.wake import WakeUps

log = structlog.stdlib.get_logger("paigeant.transport")

_FALLBACK_POLL = 1.0
"""Seconds between two looks although no wake-up came: publish/subscribe may lose one."""

_MOST_CLAIMS = 250
"""Messages claimed at once, so that the script does not hold up others."""

_PER_PIPELINE = 100

_RECOVERS = ("OOM", "LOADING", "READONLY", "MISCONF", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "UNKILLABLE")
"""Errors of a server that may serve later."""


class RedisQueue:
    """The queues of one Redis database as one thread of one process uses them.

    ``address`` names this database: the process remembers under this name what it has declared there.
    """

    keeps_leases = True
    trouble: tuple[type[Exception], ...] = (redis.exceptions.RedisError, OSError)

    def __init__(
        self,
        client: redis.Redis,
        *,
        address: str = "",
        prefix: str = "paigeant:",
        lease_seconds: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self.routes: RedisRoutes = RedisRoutes(client, prefix, declared_in(address, prefix))
        self.heartbeat: float | None = lease_seconds / 3
        self.server = Server(client, prefix, clock)
        self.leases = Leases(self.server, lease_seconds)
        self.exchanges = Exchanges(self.server, self.leases, self.routes)
        self._house = Housekeeping(self.server, self.leases, self.exchanges, self.routes)
        self._wake = WakeUps(client, prefix)
        self._is_connected = False
        self._subscription: list[str] = []
        self._look_at = 0.0
        self._has_room = True

    # --- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: this Redis cannot be used.
        """
        self._connect()

    def _connect(self) -> None:
        if not self._is_connected:
            self.server.script("greet", self.routes.greet())
            self.exchanges.connected(time.monotonic())
            while self._house.move_older():
                pass
            self.leases.settle_doubt()
            self._is_connected = True

    def disconnect(self) -> None:
        """Drop the connections. Leases stay, because they belong to a name and not to a connection."""
        self._is_connected = False
        self._wake.close()
        self.server.redis.connection_pool.disconnect()

    def close(self) -> None:
        """Release every delivery at once and disconnect."""
        try:
            if self.leases.is_known or self.leases.is_unsure:
                self.leases.resign()
                self.routes.write(["ZREM", f"{self.server.prefix}holders", self.leases.me])
        finally:
            self.leases.lose_all()
            self.disconnect()

    @property
    def patience(self) -> float | None:
        """Seconds until the next delayed message, renewal or fallback look."""
        longest = self.leases.seconds / 6
        if not self._subscription:
            return longest if self.leases.held else None
        if not self._has_room:  # the thread is woken when a handler becomes free
            return longest
        return max(0.0, min(longest, self._look_at - time.monotonic()))

    def fileno(self) -> int | None:
        return self._wake.fileno()

    obstacle: str | None = None
    glances = None

    def diagnose(self, error: BaseException) -> Diagnosis:
        """Return what an error concerns. A full or loading server may recover; a malformed command cannot."""
        if isinstance(error, redis.exceptions.ResponseError):
            recovers = (error.status_code or str(error).partition(" ")[0]) in _RECOVERS
            return Diagnosis(Scope.SERVER, again=True) if recovers else REFUSED
        if isinstance(error, redis.exceptions.RedisError | OSError | TransportError):
            return LOST
        return OURS if isinstance(error, AttributeError | TypeError | NameError) else REFUSED

    def enlist(self, ledger: Ledger) -> None:
        raise TransportError("Redis has no transaction that a store could join")

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Iterable[str], arguments: Mapping[str, Any] | None = None) -> None:
        """Record the queues. Publishing to a queue records it too, so that a message waits there for any consumer.

        Raises:
            TransportError: a queue was declared with other arguments.
        """
        self.routes.declare_queues(names, arguments)
        self._house.forget_limits()

    def depth(self, name: str) -> int:
        """Count the messages that wait in the queue."""
        self._look_after([name])
        return int(self.server.script("depth", name))

    def depths(self) -> Mapping[str, int]:
        """Count the messages that wait in every queue, those not due yet included."""
        self._look_after([])
        names = self.routes.queue_names()
        found: dict[str, int] = {}
        for start in range(0, len(names), _PER_PIPELINE):
            part = names[start : start + _PER_PIPELINE]
            with self.server.redis.pipeline(transaction=False) as pipe:
                for name in part:
                    self.server.scripts["depth"](args=[self.server.prefix, self.server.now(), name], client=pipe)
                found.update(zip(part, map(int, pipe.execute()), strict=True))
        return found

    def _look_after(self, names: Sequence[str]) -> None:
        """Drop expired messages before the queues are counted."""
        self._house.keep(self.exchanges.make([], names, 0))

    def purge(self, name: str) -> int:
        """Delete the messages that wait in the queue, a part at a time."""
        self._look_after([name])
        deleted = 0
        for priority in range(11):  # the last are those that are not due yet
            at = "-"
            while at:
                count, at = self.server.script("purge", name, priority, at)
                deleted += count
        return deleted

    def delete(self, name: str) -> None:
        """Delete the queue with all its messages, those that are leased included."""
        self.purge(name)
        self.server.script("delete", name)
        self.routes.forget_queue(name)

    def note(self, key: str, seconds: float) -> None:
        """Store a fact for so many seconds."""
        self.server.redis.set(f"{self.server.prefix}note:{key}", 1, px=max(1, int(seconds * 1000)))

    def noted(self, key: str) -> bool:
        """Return whether this fact is stored."""
        return bool(self.server.redis.exists(f"{self.server.prefix}note:{key}"))

    def subscribe(self, names: Iterable[str], prefetch: int = 0) -> None:
        """Claim from these queues from now on. The limit of ``exchange`` says how much."""
        del prefetch
        self._subscription = list(dict.fromkeys(names))
        self.leases.is_subscribed = bool(self._subscription)
        self._look_at = 0.0
        self._house.forget_limits()
        self._has_room = True
        if not self._subscription:
            self._wake.close()

    @property
    def is_holding(self) -> bool:
        """Whether any delivery is leased."""
        return bool(self.leases.held)

    @property
    def counts_deliveries(self) -> bool:
        """Whether a subscribed queue has a delivery limit."""
        return self._house.has_limits(self._subscription)

    # --- the hop ---------------------------------------------------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], limit: int
    ) -> tuple[list[bool | TransportError], list[Delivery]]:
        """Settle and claim in one script. Returns whether each settlement was accepted, and up to ``limit`` deliveries.

        If a full Redis has no room for a settlement, its answer is the error; the settlement can be repeated later.
        This asks Redis only if there is something to settle, or a sign that there is something to claim.
        """
        wanted = min(limit, _MOST_CLAIMS) if self._subscription else 0
        self._has_room = wanted > 0
        if self._subscription and (self._wake.listen(self._subscription) or self._wake.hear()):
            self._look_at = 0.0
        if not settlements and not self.leases.renewal_is_due and not (wanted and self._has_reason_to_look()):
            return [], []
        accepted, deliveries, is_all = self._exchange(settlements, self._subscription, wanted)
        if wanted:
            next_look = self.exchanges.made_at + min(_FALLBACK_POLL, self.exchanges.due_in)
            self._look_at = next_look if is_all else 0.0
            self._subscription = self._subscription[1:] + self._subscription[:1]
        return accepted, deliveries

    def _has_reason_to_look(self) -> bool:
        return time.monotonic() >= self._look_at or self.server.clock is not None

    def finish(self) -> None:
        """Do nothing: the exchange has notified other processes already."""

    def take(self, name: str, limit: int = 1) -> list[Delivery]:
        """Claim from this queue, subscribed to or not."""
        while True:
            _, deliveries, is_all = self._exchange([], [name], limit)
            if deliveries or is_all:
                self._look_at = 0.0
                return deliveries

    def reject(self, delivery: Delivery) -> bool:
        """Drop the delivery, or send it to the dead letter exchange of its queue. Returns False if its lease was lost.

        Raises:
            TransportError: the dead letter exchange leads nowhere; the delivery is still leased.
        """
        reply = self.exchanges.make([(Settlement(delivery=delivery), self._house.letters(delivery, "rejected"))], [], 0)
        if reply.accepted[0] is Verdict.NO_ROOM:
            raise _full()
        return reply.accepted[0] is Verdict.ACCEPTED

    def renew(self) -> None:
        """Renew the leases now rather than when they are due."""
        self.leases.renewed_at = float("-inf")
        self._exchange([], [], 0)

    def beat(self) -> None:
        """Renew the leases from another thread. If they were lost, the queue's own thread notices it later."""
        self.leases.beat()

    def _exchange(
        self, settlements: Sequence[Settlement], names: Sequence[str], wanted: int
    ) -> tuple[list[bool | TransportError], list[Delivery], bool]:
        """Return what :meth:`exchange` returns, and whether nothing more is waiting."""
        self._connect()
        reply = self.exchanges.make([(one, exchange.letters(one)) for one in settlements], names, wanted)
        answers = [_answer(*one) for one in zip(settlements, reply.accepted, strict=True)]
        try:
            deliveries = self._house.worth_handing_out(reply.claims)
            is_part = self._house.keep(reply)
        except (redis.exceptions.RedisError, OSError, TransportError) as error:
            log.warning("gives back what was claimed", error=str(error).splitlines()[:1])
            self.leases.disown(reply.claims)  # the settlements stay made
            return answers, [], True
        is_all = len(reply.claims) < wanted and not reply.lost and not is_part
        return answers, deliveries, is_all


def _full() -> NoRoom:
    return NoRoom(
        "Redis is full: it has reached its maxmemory and takes no more messages",
        hint="let workers drain it, which works while it is full, or raise maxmemory",
    )


def _answer(settlement: Settlement, verdict: Verdict) -> bool | TransportError:
    if verdict is Verdict.NO_ROOM:
        return _full()
    return verdict is Verdict.ACCEPTED or settlement.release_after is not None
