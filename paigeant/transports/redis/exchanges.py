"""Making exchanges with Redis: sending settlements and claims, and noting what the answer says."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import redis
import structlog

from paigeant.runtime.clock import boot_time
from paigeant.transports.channel.routes import Letter
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis import exchange
from paigeant.transports.redis.exchange import Reply, Verdict
from paigeant.transports.redis.leases import Leases
from paigeant.transports.redis.routes import RedisRoutes
from paigeant.transports.redis.server import Server

log = structlog.stdlib.get_logger("paigeant.transport")

Act = tuple[Settlement, Sequence[Letter]]
"""A settlement with the messages that it publishes."""

_DOUBTED_FOR = 300.0
"""Seconds that the server remembers a settlement whose answer was lost."""

_MOST_DOUBTS = 10_000


class Exchanges:
    """Runs the script ``exchange``. It remembers settlements whose answer was lost, so that they are made only once.

    ``due_in`` are the seconds from the last exchange, which was made at ``made_at``, to the next delayed message.
    """

    def __init__(self, server: Server, leases: Leases, routes: RedisRoutes) -> None:
        self._server = server
        self._leases = leases
        self._routes = routes
        self.doubts: dict[str, float] = {}
        self.made_at = 0.0
        self.due_in = math.inf
        self._answered_at: float | None = None
        self._spares_until = 0.0

    def connected(self, now: float) -> None:
        """Give other holders time to renew if the connection was broken for long: they may have been cut off as well.

        The server itself may have stood still, and none of its answers would show that.
        """
        if self._answered_at is not None and now - self._answered_at > self._leases.seconds / 2:
            self._spares_until = now + self._leases.seconds

    def make(self, acts: Sequence[Act], names: Sequence[str], wanted: int) -> Reply:
        """Settle, and claim up to ``wanted`` messages from these queues. Returns the noted answer.

        If the answer is lost, it is unknown what the exchange has settled and claimed.
        """
        reply = self._ask(acts, names, wanted)
        self._conclude([settlement for settlement, _ in acts], reply)
        return reply

    def _ask(self, acts: Sequence[Act], names: Sequence[str], wanted: int) -> Reply:
        leases = self._leases
        leases.settle_doubt()
        now, renewed_at, asked_at = time.monotonic(), self._server.monotonic(), boot_time()
        renews = leases.renewal_is_due or (wanted > 0 and not leases.is_known)
        asked = [key for settlement, _ in acts for key in exchange.keys(settlement)]
        for settlement, _ in acts:
            settlement.tried |= any(key in self.doubts for key in exchange.keys(settlement))
        doubts = self._doubts_besides(asked, now)
        if wanted:
            leases.claims_from(names)
        head = [leases.me, leases.session, leases.next_number(), int(leases.seconds * 1000), int(renews)]
        head += [int(now >= self._spares_until), int(leases.is_known), wanted]
        rest = exchange.arguments(names, doubts, acts, leases.holds)
        leases.is_unsure = True
        try:
            found = self._server.script("exchange", *head, *rest)
            if found is None:
                raise redis.exceptions.ConnectionError("an exchange was overtaken by a later one")
        except BaseException:
            self.doubts.update((key, now + _DOUBTED_FOR) for key in asked)
            for settlement, _ in acts:
                settlement.tried = True
            raise
        for key in asked:
            self.doubts.pop(key, None)
        reply = exchange.reply(found, leases.term)
        if renews:
            leases.renewed(renewed_at, asked_at)
        leases.is_unsure, self._answered_at = False, time.monotonic()
        self.made_at, self.due_in = now, reply.due_in
        return reply

    def _doubts_besides(self, asked: Sequence[str], now: float) -> list[str]:
        """The keys of settlements whose answer was lost, apart from those that this exchange repeats."""
        if not self.doubts:
            return []
        fresh = [(key, until) for key, until in self.doubts.items() if until > now]
        self.doubts = dict(fresh[-_MOST_DOUBTS:])
        return [key for key in self.doubts if key not in set(asked)]

    def _conclude(self, settlements: Sequence[Settlement], reply: Reply) -> None:
        leases = self._leases
        for settlement, verdict in zip(settlements, reply.accepted, strict=True):
            delivery = settlement.delivery
            if delivery is None or verdict is Verdict.NO_ROOM:
                continue
            if leases.holds(delivery):
                del leases.held[delivery.tag[:2]]
            delivery.lease.lost |= verdict is Verdict.REFUSED and settlement.release_after is None
        if reply.lost:
            leases.lose_all()
        self._routes.check(reply.mark)
        for reason in reply.aside:
            log.warning("set aside what cannot be ours", reason=reason)
        leases.held.update((claim.delivery.tag[:2], claim.delivery) for claim in reply.claims)
