"""The leases of one process: its name as a holder, what it holds, and when it has to renew."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from uuid import uuid4

from paigeant.transport import Delivery, Term
from paigeant.transports.redis.exchange import Claim
from paigeant.transports.redis.server import Server


class Leases:
    """One process as the holder of deliveries. It takes a new name each time its leases were lost.

    ``is_unsure`` is set while the answer of an exchange is outstanding or lost: the exchange may have claimed messages
    that this process does not know of.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self.seconds = seconds
        self.session = uuid4().hex
        self.me = uuid4().hex
        self.term = Term()
        self.is_known = False
        self.is_unsure = False
        self.is_subscribed = False
        self.renewed_at = float("-inf")
        self.held: dict[tuple[str, str], Delivery] = {}  # by stream and entry
        self._numbers = itertools.count(1)
        self._claimed_from: set[str] = set()

    def next_number(self) -> int:
        """Return the number of the next exchange. Redis refuses an exchange with a smaller number than the last one."""
        return next(self._numbers)

    def holds(self, delivery: Delivery) -> bool:
        """Return whether this delivery is leased. A later claim of the same message is another delivery."""
        held = self.held.get(delivery.tag[:2])
        return held is not None and held.token == delivery.token

    @property
    def renewal_is_due(self) -> bool:
        is_of_use = self.is_known and (self.held or self.is_subscribed)
        return bool(is_of_use) and self._server.monotonic() - self.renewed_at >= self.seconds / 3

    def renewed(self, at: float, asked_at: float) -> None:
        """Note that an exchange renewed the leases. It was sent at ``asked_at`` by the clock of the machine."""
        self.renewed_at, self.is_known = at, True
        self.term.until = asked_at + self.seconds

    def beat(self) -> None:
        """Renew the leases. Any thread may call this."""
        self._server.script("beat", self.me, int(self.seconds * 1000))

    def claims_from(self, names: Iterable[str]) -> None:
        """Note that an exchange may claim from these queues."""
        self._claimed_from.update(names)

    def disown(self, claims: Sequence[Claim]) -> None:
        """Forget claims that are not handed out. The next exchange releases them."""
        for claim in claims:
            self.held.pop(claim.delivery.tag[:2], None)
        self.is_unsure = True

    def settle_doubt(self) -> None:
        """Release what was claimed without an answer. Otherwise each renewal would lease it for ever."""
        if self.is_unsure:
            self._release()
            self.is_unsure = False

    def resign(self) -> None:
        """Release every delivery."""
        self._release(resign=True)

    def _release(self, *, resign: bool = False) -> None:
        """Release what an exchange claimed whose answer was lost; with ``resign``, everything that is held.

        From now on, an exchange that the server receives late does nothing.
        """
        for stream in self._streams():
            known = [] if resign else [entry for place, entry in self.held if place == stream]
            at: bytes | str = "-"
            while at:
                head = [self.me, self.session, self.next_number(), int(resign), stream, at]
                at = self._server.script("reclaim", *head, *known)

    def _streams(self) -> list[str]:
        """The streams from which this process may have claimed."""
        prefix, names = self._server.prefix, sorted(self._claimed_from)
        with self._server.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.smembers(f"{prefix}levels:{name}")
            levels = pipe.execute(raise_on_error=False)
        return [
            f"{prefix}queue:{name}:{level}"
            for name, found in zip(names, levels, strict=True)
            for level in sorted({"0", *(one.decode() for one in found if isinstance(found, set))})
        ]

    def lose_all(self) -> None:
        """Mark every lease as lost and take a new name."""
        for delivery in self.held.values():
            delivery.lease.lost = True
        self.held.clear()
        self._claimed_from.clear()
        self.me, self.is_known, self.renewed_at = uuid4().hex, False, float("-inf")
        self.is_unsure = False
