"""What a caller hands to the I/O thread of a transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paigeant.events import Event
from paigeant.transport import Delivery, Outgoing


@dataclass(slots=True, kw_only=True)
class Settlement:
    """What one caller wants done, atomically: acknowledge a delivery, publish, record. Any part may be missing."""

    delivery: Delivery | None = None
    outgoing: Sequence[Outgoing] = ()
    record: Sequence[Event] = ()
    release_after: float | None = None
    """Give the delivery back instead, due after this many seconds."""
    expires: float | None = None
    """Seconds after which what is published is dropped."""
    tried: bool = False
    """Whether the outcome of an earlier try is unknown (the connection broke during its commit)."""

    @property
    def is_unconditional(self) -> bool:
        """Whether no lease has to be held for it."""
        return self.delivery is None or self.release_after is not None
