"""Messages that are not handed out: expired ones, those delivered too often, and those that an older release left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from paigeant.errors import TransportError
from paigeant.transport import Delivery
from paigeant.transports.channel import routes
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis import exchange
from paigeant.transports.redis.exchange import Claim, Reply, Verdict
from paigeant.transports.redis.exchanges import Act, Exchanges
from paigeant.transports.redis.leases import Leases
from paigeant.transports.redis.routes import RedisRoutes
from paigeant.transports.redis.server import Server

log = structlog.stdlib.get_logger("paigeant.transport")

_ROUNDS = 5
"""Calls in a row that drop expired messages or move old ones, before something else gets its turn."""

_STAYS = 1.0
"""Seconds until an expired message, whose dead letter exchange leads nowhere, is tried again."""


class Housekeeping:
    """Drops messages or sends them to dead letter exchanges, a bounded part at a time."""

    def __init__(self, server: Server, leases: Leases, exchanges: Exchanges, found_in: RedisRoutes) -> None:
        self._server = server
        self._leases = leases
        self._exchanges = exchanges
        self._routes = found_in
        self._limits: dict[str, int] = {}
        self._limits_until = 0.0

    def keep(self, reply: Reply) -> bool:
        """Do a part of the overdue work that an exchange found. Returns whether more of it is left."""
        left = self._expire(reply)
        for _ in range(_ROUNDS if reply.older else 0):
            if not self.move_older():
                return True  # the moved messages may be due
        return left or reply.is_part or reply.older > 0

    def move_older(self) -> bool:
        """Move delayed messages from where an older release stores them. Returns whether more are there."""
        more, aside = self._server.script("migrate")
        for reason in aside:
            log.warning("set aside what cannot be ours", reason=reason.decode(errors="replace"))
        return bool(more)

    def forget_limits(self) -> None:
        """Read the delivery limits again when they are asked for next."""
        self._limits_until = 0.0

    def has_limits(self, names: Sequence[str]) -> bool:
        """Return whether one of these queues has a delivery limit."""
        if time.monotonic() >= self._limits_until:
            found = self._routes.arguments_of(names)
            limits = {name: routes.delivery_limit(arguments) for name, arguments in found.items()}
            self._limits = {name: limit for name, limit in limits.items() if limit is not None}
            self._limits_until = time.monotonic() + min(self._leases.seconds / 10, 5.0)
        return bool(self._limits)

    def worth_handing_out(self, claims: Sequence[Claim]) -> list[Delivery]:
        """Return the deliveries to hand out. Expired and worn-out ones go to the dead letters instead."""
        doubtful = [claim for claim in claims if claim.is_late or claim.delivery.deliveries > 1]
        if not doubtful:
            return [claim.delivery for claim in claims]
        names = list({claim.delivery.queue for claim in doubtful})
        arguments = self._routes.arguments_of(names)
        reasons = [(claim.delivery, _reason_to_drop(claim, arguments)) for claim in claims]
        staying = self._drop([(delivery, reason) for delivery, reason in reasons if reason is not None])
        return [
            delivery for delivery, reason in reasons if reason is None or (delivery in staying and reason != "expired")
        ]

    def letters(self, delivery: Delivery, reason: str) -> list[routes.Letter]:
        """Return what the dead letter exchange gets when the delivery is dropped.

        Raises:
            TransportError: the dead letter exchange of its queue leads nowhere.
        """
        arguments = self._routes.arguments_of([delivery.queue]).get(delivery.queue, {})
        if not routes.has_dead_letters(arguments):
            return []
        priority = exchange.priority_of(delivery)
        clock = self._server.clock
        now = clock.now() if clock is not None else time.time()
        return routes.dead_letters(self._routes, delivery, priority, arguments, reason, now)

    def _expire(self, reply: Reply) -> bool:
        """Drop a part of the messages that expired while they waited. Returns whether there were any."""
        for number in range(_ROUNDS if reply.expired else 0):
            found = [exchange.claim(one).delivery for one in self._server.script("overdue")]
            if not found:
                return number > 0
            self._drop([(delivery, "expired") for delivery in found])
        return reply.expired > 0

    def _drop(self, deliveries: Sequence[tuple[Delivery, str]]) -> list[Delivery]:
        """Drop the deliveries or send them to the dead letters. Returns those whose dead letters lead nowhere."""
        acts: list[Act] = []
        staying: list[Delivery] = []
        for delivery, reason in deliveries:
            try:
                acts.append((Settlement(delivery=delivery), self.letters(delivery, reason)))
            except TransportError as error:
                log.warning("a dead letter stays where it is", queue=delivery.queue, reason=reason, error=str(error))
                staying.append(delivery)
        if acts:
            staying += self._made(acts)
        late = [one for one, reason in deliveries if reason == "expired" and one in staying and self._leases.holds(one)]
        if late:
            self._made([(Settlement(delivery=one, release_after=_STAYS), ()) for one in late])
        return staying

    def _made(self, acts: Sequence[Act]) -> list[Delivery]:
        """Make these settlements. Returns the deliveries for which a full Redis had no room."""
        reply = self._exchanges.make(acts, [], 0)
        answers = zip(acts, reply.accepted, strict=True)
        return [one.delivery for (one, _), verdict in answers if one.delivery and verdict is Verdict.NO_ROOM]


def _reason_to_drop(claim: Claim, arguments: Mapping[str, Mapping[str, Any]]) -> str | None:
    delivery = claim.delivery
    if claim.is_late:
        return "expired"
    limit = routes.delivery_limit(arguments.get(delivery.queue, {}))
    return "delivery_limit" if limit is not None and delivery.deliveries - 1 > limit else None
