"""A process as the owner of deliveries, for as long as it renews its row."""

from __future__ import annotations

from dataclasses import dataclass, field

from paigeant.transport import Delivery

Tag = tuple[int, int]
"""A delivery: the message's row and the fencing token of this claim."""


@dataclass(slots=True)
class Holder:
    """This process as an owner of deliveries; a new name every time its lease was lost."""

    lease_seconds: float
    id: str = ""
    renewed_at: float = float("-inf")
    is_unsure: bool = False
    """Whether a transaction broke, so that it is unknown what it renewed, claimed or settled."""
    held: dict[Tag, Delivery] = field(default_factory=dict)

    def is_due(self, now: float) -> bool:
        """Renewing at a third of the lease keeps a live holder's row from ever being found expired."""
        return self.is_unsure or not 0 <= now - self.renewed_at < self.lease_seconds / 3

    def lose_all(self) -> None:
        for delivery in self.held.values():
            delivery.lease.lost = True
        self.held.clear()
        self.id = ""
