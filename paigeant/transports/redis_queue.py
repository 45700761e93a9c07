"""Queues in Redis Streams: what our kombu transport over Redis does underneath.

A queue is a stream with one consumer group. One script, ``lua/exchange.lua``, makes a whole exchange atomically: it
settles what is still held, adds what follows, frees what dead holders held and claims. A holder keeps all its leases by
one entry in a sorted set; times are the server's.

What Redis promises about its own durability is a matter of its configuration (``appendonly``, ``maxmemory-policy``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any
from uuid import uuid4

import redis
import structlog

from paigeant.clock import Clock
from paigeant.errors import TransportError
from paigeant.transport import Delivery, Ledger
from paigeant.transports import redis_script, routes
from paigeant.transports.redis_client import SOCKET_TIMEOUT
from paigeant.transports.redis_client import connect as connect
from paigeant.transports.redis_routes import RedisRoutes, declared_in
from paigeant.transports.redis_script import Claim, Reply
from paigeant.transports.settlement import Settlement

log = structlog.stdlib.get_logger("paigeant.transport")

_FALLBACK_POLL = 1.0
"""Seconds between two looks although no wake-up came: publish/subscribe may lose one."""

_MOST_CLAIMS = 1000
"""Messages claimed at once: Redis' scripts cannot name many more in one command."""

_STAYS = 1.0
"""Seconds until an expired message, whose dead letter exchange leads nowhere, is tried again."""

_RECOVERS = ("OOM", "LOADING", "READONLY", "MISCONF", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "UNKILLABLE")
"""What a server answers that may serve later."""


class RedisQueue:
    """The queues of one Redis database as one thread of one process uses them.

    ``address`` says which database this is: what the process has declared in it is remembered under this name.
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
        self._redis = client
        self._prefix = prefix
        self._lease = lease_seconds
        self._clock = clock
        self._me = uuid4().hex
        self._known = False
        self._is_unsure = False
        self._is_connected = False
        self._renewed_at = float("-inf")
        self._held: dict[tuple[str, str], Delivery] = {}
        self._subscription: list[str] = []
        self._limits: dict[str, int] = {}
        self._limits_until = 0.0
        self._look_at = 0.0
        self._has_room = True
        self._wake: Any = None

    # --- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and listen for wake-ups."""
        self._connect()
        self._listen()

    def _connect(self) -> None:
        if not self._is_connected:
            self.routes.greet()
            self._reclaim()
            self._is_connected = True

    def _listen(self) -> None:
        if self._wake is None:
            self._look_at = 0.0
            self._wake = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            self._wake.subscribe(f"{self._prefix}wake")
            self._wake.get_message(timeout=SOCKET_TIMEOUT)

    def disconnect(self) -> None:
        """Drop the connections. Leases stay: they are kept by name, not by connection."""
        self._is_connected = False
        if self._wake is not None:
            self._wake.close()
            self._wake = None
        self._redis.connection_pool.disconnect()

    def close(self) -> None:
        """Give back every delivery at once and disconnect."""
        try:
            if self._known or self._is_unsure:
                self._script("reclaim")(args=[self._prefix, self._me, 1])
        finally:
            self._lose_all()
            self.disconnect()

    @property
    def patience(self) -> float | None:
        """Until the next delayed message, renewal or fallback look."""
        if not self._subscription:
            return self._lease / 6 if self._known else None
        if not self._has_room:  # what makes room wakes the thread
            return self._lease / 6
        return max(0.0, min(self._lease / 6, self._look_at - time.monotonic()))

    def fileno(self) -> int | None:
        connection = self._wake.connection if self._wake is not None else None
        return int(connection._sock.fileno()) if connection is not None and connection._sock is not None else None

    def is_recoverable(self, error: BaseException) -> bool:
        """Everything but a command Redis can never take; a full or loading server may recover."""
        if isinstance(error, redis.exceptions.ResponseError):
            return (error.status_code or str(error).partition(" ")[0]) in _RECOVERS
        return isinstance(error, redis.exceptions.RedisError | OSError)

    def enlist(self, ledger: Ledger) -> None:
        raise TransportError("Redis has no transaction that a store could join")

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Iterable[str], arguments: Mapping[str, Any] | None = None) -> None:
        """Note the queues. Publishing to a queue does so too: a message waits there whoever comes first.

        Raises:
            TransportError: a queue was declared with other arguments.
        """
        self.routes.declare_queues(names, arguments)
        self._limits_until = 0.0

    def depth(self, name: str) -> int:
        """How many messages wait in the queue."""
        return int(self._script("depth")(args=[self._prefix, name]))

    def depths(self) -> Mapping[str, int]:
        """Every queue with the number of messages that wait in it, those not due yet included."""
        return {name: self.depth(name) for name in self.routes.queue_names()}

    def purge(self, name: str) -> int:
        """Delete what waits in the queue."""
        return int(self._script("purge")(args=[self._prefix, name, 0]))

    def delete(self, name: str) -> None:
        """Delete the queue with everything in it, what is out included."""
        self._script("purge")(args=[self._prefix, name, 1])
        self.routes.forget_queue(name)

    def subscribe(self, names: Iterable[str], prefetch: int = 0) -> None:
        """From now on claim from these queues; ``exchange`` is told how much."""
        del prefetch
        self._subscription = list(dict.fromkeys(names))
        self._look_at = self._limits_until = 0.0
        self._has_room = True

    # --- the hop ---------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        """Settle and claim in one script: whether each settlement was accepted, and up to ``limit`` deliveries.

        Redis is not asked when there is nothing to settle and no sign that there is anything to claim.
        """
        wanted = min(limit, _MOST_CLAIMS) if self._subscription else 0
        self._has_room = wanted > 0
        if self._subscription:
            self._listen()
            self._hear()
        if not settlements and not self._renewal_is_due() and not (wanted and self._has_reason_to_look()):
            return [], []
        accepted, deliveries, is_all = self._exchange(settlements, self._subscription, wanted)
        if wanted:
            self._look_at = self._next_look if is_all else 0.0
            self._subscription = self._subscription[1:] + self._subscription[:1]
        return accepted, deliveries

    def finish(self) -> None:
        """Others were told in the exchange."""

    def take(self, name: str, limit: int = 1) -> list[Delivery]:
        """Claim from this queue, subscribed to or not."""
        while True:
            _, deliveries, is_all = self._exchange([], [name], limit)
            if deliveries or is_all:
                self._look_at = 0.0
                return deliveries

    def reject(self, delivery: Delivery) -> bool:
        """Drop the delivery, or send it to its queue's dead letter exchange; False when it is not ours any more.

        Raises:
            TransportError: the dead letter exchange leads nowhere; the delivery is still held.
        """
        settlement = Settlement(delivery=delivery)
        reply = self._ask([(settlement, self._letters(delivery, "rejected"))], [], 0)
        self._conclude([settlement], reply)
        return reply.accepted[0]

    def renew(self) -> None:
        """Renew the leases now rather than when they are due."""
        self._renewed_at = float("-inf")
        self._exchange([], [], 0)

    def beat(self) -> None:
        """Renew the leases from another thread. Whether they were lost, the queue's own thread will find out."""
        self._script("beat")(args=[self._prefix, self._now(), self._me, int(self._lease * 1000)])

    def _exchange(
        self, settlements: Sequence[Settlement], names: Sequence[str], wanted: int
    ) -> tuple[list[bool], list[Delivery], bool]:
        """What :meth:`exchange` returns, and whether nothing more is waiting."""
        self._connect()
        if self._renewal_is_due():
            self._reclaim()
        reply = self._ask([(one, redis_script.letters(one)) for one in settlements], names, wanted)
        self._conclude(settlements, reply)
        deliveries = self._worth_handing_out(reply.claims)
        if reply.expired:
            self._expire()
        is_all = len(reply.claims) < wanted and not reply.lost and not reply.expired
        return (
            [ok or s.release_after is not None for ok, s in zip(reply.accepted, settlements, strict=True)],
            (deliveries),
            is_all,
        )

    def _ask(
        self, settlements: Sequence[tuple[Settlement, Sequence[routes.Letter]]], names: Sequence[str], wanted: int
    ) -> Reply:
        """Run the script. When its answer is lost, what it has settled and claimed is unknown."""
        now, time_now = time.monotonic(), self._time()
        renews = self._renewal_is_due() or (wanted > 0 and not self._known)
        lease = int(self._lease * 1000) if renews else 0
        head = [self._prefix, self._now(), self._me, lease, int(self._known), wanted]
        self._is_unsure = True
        try:
            found = self._script("exchange")(args=[*head, *redis_script.arguments(names, settlements)])
        except BaseException:
            for settlement, _ in settlements:
                settlement.tried = True
            raise
        reply = redis_script.reply(found)
        if renews:
            self._renewed_at, self._known = time_now, True
        self._is_unsure = False
        self._next_look = now + min(_FALLBACK_POLL, reply.due_in)
        return reply

    def _conclude(self, settlements: Sequence[Settlement], reply: Reply) -> None:
        for settlement, ok in zip(settlements, reply.accepted, strict=True):
            if settlement.delivery is not None:
                self._held.pop(settlement.delivery.tag, None)
                settlement.delivery.lease.lost |= not ok and settlement.release_after is None
        if reply.lost:
            self._lose_all()
        self.routes.check(reply.mark)
        for reason in reply.aside:
            log.warning("set aside what cannot be ours", reason=reason)
        self._held.update((claim.delivery.tag, claim.delivery) for claim in reply.claims)

    # --- leases ----------------------------------------------------------------------------------------------

    @property
    def is_holding(self) -> bool:
        """Whether anything is leased."""
        return bool(self._held)

    def _reclaim(self) -> None:
        """Let others have what an exchange claimed whose answer was lost: renewed leases would keep it for ever.

        Not only after a new connection: Redis may carry out late what it was sent over the old one.
        """
        if self._known or self._is_unsure:
            known = [part for tag in self._held for part in tag]
            self._script("reclaim")(args=[self._prefix, self._me, 0, *known])

    def _renewal_is_due(self) -> bool:
        return self._known and self._time() - self._renewed_at >= self._lease / 3

    def _lose_all(self) -> None:
        for delivery in self._held.values():
            delivery.lease.lost = True
        self._held.clear()
        self._me, self._known, self._renewed_at = uuid4().hex, False, float("-inf")
        self._is_unsure = False

    # --- is there anything to do? ----------------------------------------------------------------------------

    def _has_reason_to_look(self) -> bool:
        return time.monotonic() >= self._look_at or self._clock is not None

    def _hear(self) -> None:
        """Read the wake-ups that have come, and note whether one is for us."""
        while self._wake.connection.can_read(timeout=0):
            message = self._wake.get_message(timeout=0)
            if message is not None and _is_for(message["data"], self._subscription):
                self._look_at = 0.0

    def _time(self) -> float:
        """Seconds by which renewals are due."""
        return time.monotonic() if self._clock is None else self._clock.now()

    def _now(self) -> int:
        """Milliseconds by the clock that was given; 0 for Redis' own."""
        return 0 if self._clock is None else int(self._clock.now() * 1000)

    # --- what is not handed out ------------------------------------------------------------------------------

    @property
    def counts_deliveries(self) -> bool:
        """Whether a queue that is subscribed to has a delivery limit."""
        if time.monotonic() >= self._limits_until:
            found = self.routes.arguments_of(self._subscription)
            limits = {name: routes.delivery_limit(arguments) for name, arguments in found.items()}
            self._limits = {name: limit for name, limit in limits.items() if limit is not None}
            self._limits_until = time.monotonic() + min(self._lease / 10, 5.0)
        return bool(self._limits)

    def _worth_handing_out(self, claims: Sequence[Claim]) -> list[Delivery]:
        """The deliveries; what has expired or is worn out goes to the dead letters instead."""
        doubtful = [claim for claim in claims if claim.is_late or claim.delivery.deliveries > 1]
        if not doubtful:
            return [claim.delivery for claim in claims]
        names = list({claim.delivery.queue for claim in doubtful})
        arguments = self.routes.arguments_of(names)
        reasons = [(claim.delivery, _reason_to_drop(claim, arguments)) for claim in claims]
        staying = self._drop([(delivery, reason) for delivery, reason in reasons if reason is not None])
        return [
            delivery for delivery, reason in reasons if reason is None or (delivery in staying and reason != "expired")
        ]

    def _expire(self) -> None:
        """Drop what expired while it waited, a part at a time."""
        answer = self._script("expire")(args=[self._prefix, self._now(), self._me, _MOST_CLAIMS])
        claims = [redis_script.claim(one) for one in answer]
        self._held.update((claim.delivery.tag, claim.delivery) for claim in claims)
        self._drop([(claim.delivery, "expired") for claim in claims])

    def _drop(self, deliveries: Sequence[tuple[Delivery, str]]) -> list[Delivery]:
        """Drop the deliveries, or send them to the dead letters; those whose dead letters lead nowhere stay."""
        acts: list[tuple[Settlement, Sequence[routes.Letter]]] = []
        staying: list[Delivery] = []
        for delivery, reason in deliveries:
            try:
                acts.append((Settlement(delivery=delivery), self._letters(delivery, reason)))
            except TransportError as error:
                log.warning("a dead letter stays where it is", queue=delivery.queue, reason=reason, error=str(error))
                staying.append(delivery)
                if reason == "expired":
                    acts.append((Settlement(delivery=delivery, release_after=_STAYS), []))
        if acts:
            self._conclude([settlement for settlement, _ in acts], self._ask(acts, [], 0))
        return staying

    def _letters(self, delivery: Delivery, reason: str) -> list[routes.Letter]:
        """What goes to the dead letters when the delivery is dropped.

        Raises:
            TransportError: its queue's dead letter exchange leads nowhere.
        """
        arguments = self.routes.arguments_of([delivery.queue]).get(delivery.queue, {})
        if not routes.has_dead_letters(arguments):
            return []
        priority = redis_script.priority_of(delivery)
        now = self._clock.now() if self._clock is not None else time.time()
        return routes.dead_letters(self.routes, delivery, priority, arguments, reason, now)

    # --- scripts ---------------------------------------------------------------------------------------------

    def _script(self, name: str) -> Callable[..., Any]:
        script: Callable[..., Any] = self._scripts[name]
        return script

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        folder = files("paigeant").joinpath("transports", "lua")
        return {
            name: self._redis.register_script(folder.joinpath(f"{name}.lua").read_text())
            for name in ("exchange", "depth", "purge", "reclaim", "expire", "beat")
        }


def _is_for(data: bytes, names: Sequence[str]) -> bool:
    """Whether a wake-up concerns one of these queues; an empty one concerns all."""
    return not data or data.decode(errors="replace") in names


def _reason_to_drop(claim: Claim, arguments: Mapping[str, Mapping[str, Any]]) -> str | None:
    delivery = claim.delivery
    if claim.is_late:
        return "expired"
    limit = routes.delivery_limit(arguments.get(delivery.queue, {}))
    return "delivery_limit" if limit is not None and delivery.deliveries - 1 > limit else None
