"""A process as the holder of deliveries, as long as it renews its row."""

from __future__ import annotations

from dataclasses import dataclass, field

from paigeant.transport import Delivery, Term

Tag = tuple[int, int]
"""A delivery: the message's row and the fencing token of this claim."""


@dataclass(slots=True)
class Holder:
    """This process as a holder of deliveries. It takes a new name each time its lease was lost."""

    lease_seconds: float
    id: str = ""
    renewed_at: float = float("-inf")
    is_unsure: bool = False
    """Whether a transaction broke, so that its renewals, claims and settlements are unknown."""
    held: dict[Tag, Delivery] = field(default_factory=dict)
    term: Term = field(default_factory=Term)
    _renewing_until: float = float("inf")

    def is_due(self, now: float) -> bool:
        """Return whether to renew: at a third of the lease, so that the row of a living holder never expires."""
        return self.is_unsure or not 0 <= now - self.renewed_at < self.lease_seconds / 3

    def renews(self, now: float, asked_at: float) -> None:
        """Note that a transaction, which began at ``asked_at`` by the boot clock, renews the leases."""
        self.renewed_at = now
        self._renewing_until = asked_at + self.lease_seconds

    def is_sure(self) -> None:
        """Note that the transaction was committed."""
        self.is_unsure = False
        self.term.until = self._renewing_until

    def lose_all(self) -> None:
        for delivery in self.held.values():
            delivery.lease.lost = True
        self.held.clear()
        self.id = ""
