"""One message as it was delivered to a worker: what everything that runs it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from paigeant.clock import Clock
from paigeant.message import PaigeantMessage
from paigeant.outcome import Execution
from paigeant.transport import Delivery
from paigeant.usage import NOTHING, Usage


@dataclass(frozen=True, slots=True)
class Run:
    """A message, the delivery that brought it, and the name and clock of the worker that took it.

    ``ended`` is called when the step's body has ended, if it was begun: what is left to do is to settle.
    ``claims`` are those of the user on whose behalf it runs, checked; None: it runs on nobody's.
    """

    message: PaigeantMessage
    delivery: Delivery
    worker: str
    clock: Clock
    ended: Callable[[], None]
    claims: Mapping[str, Any] | None = None

    def carrying(self, message: PaigeantMessage) -> Run:
        """The same delivery, with another message in the place of its own."""
        return self if message is self.message else replace(self, message=message)

    def execution(self, started_at: float | None = None, used: Usage = NOTHING) -> Execution:
        """Who ran it, from then (default: now) until now, having used this."""
        now = self.clock.now()
        return Execution(
            worker=self.worker,
            deliveries=self.delivery.deliveries,
            started_at=now if started_at is None else started_at,
            finished_at=now,
            used=used,
        )

    @property
    def is_repeated(self) -> bool:
        """Whether the step has run before, from its beginning: in vain, or until it waited for something."""
        message = self.message
        again = message.attempt > 1 or message.resumes > 0 or message.epoch > 0
        return again or self.delivery.deliveries > 1

    def about(self) -> dict[str, Any]:
        """What every event says that is about this attempt."""
        message = self.message
        return {
            "correlation_id": message.correlation_id,
            "message_id": message.id,
            "step_id": message.step.id,
            "activity": message.step.name,
            "attempt": message.attempt,
            "worker": self.worker,
            "deliveries": self.delivery.deliveries,
            "heading": message.routing_slip.heading.value,
        }

    def __str__(self) -> str:
        """The step, or the taking back of it, for people."""
        name = repr(self.message.step.name)
        return f"the compensation of {name}" if self.message.routing_slip.is_back else name
