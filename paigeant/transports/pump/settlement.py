"""What a caller hands to the I/O thread of a transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paigeant.errors import TransportError
from paigeant.events import Event
from paigeant.runtime.io_thread import AnyFuture
from paigeant.transport import Delivery, Outgoing


class NoRoom(TransportError):
    """The broker is full. The settlement was not made, and may be made later."""


Verdict = bool | TransportError | None
"""What became of a settlement: made; not made, since the lease is lost (False); refused, with the reason, for now if it
is :class:`NoRoom`; or None: it is under way, and the pump wants to be given it again."""


@dataclass(slots=True, kw_only=True, eq=False)
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
    progress: object = None
    """What a pump remembers of a settlement that is under way."""
    is_withdrawn: bool = False
    """Whether nobody waits for it any more: it need not be tried again."""

    @property
    def is_unconditional(self) -> bool:
        """Whether no lease has to be held for it."""
        return self.delivery is None or self.release_after is not None

    @property
    def size(self) -> int:
        """Bytes to publish."""
        if self.release_after is not None and self.delivery is not None:
            return len(self.delivery.body)
        return sum(len(one.body) for one in self.outgoing)


@dataclass(slots=True, eq=False)
class Request:
    """A settlement with whoever waits for it. ``give_up_at`` is a monotonic time, None for never.

    ``is_ours``: the thread itself wants it, so nobody else would try it again.
    """

    settlement: Settlement
    future: AnyFuture
    give_up_at: float | None = None
    is_ours: bool = False

    @property
    def publishes(self) -> bool:
        """Whether something is published for it, on some brokers at least."""
        return bool(self.settlement.outgoing) or self.settlement.release_after is not None
