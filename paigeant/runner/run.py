"""A message as delivered to a worker, with everything that concerns its run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from paigeant.decisions.outcome import Execution
from paigeant.records.trust import Doubt, ProofFailed
from paigeant.runtime.clock import Clock
from paigeant.transport import Delivery
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.usage import NOTHING, Usage


@dataclass(frozen=True, slots=True)
class Run:
    """A message, its delivery, and the name and clock of the worker that received it.

    ``ended`` is called when the step's body has ended, if it started: only the settlement remains. ``claims`` are the
    checked claims of the user on whose behalf the step runs; None if there is no such user. Until ``stands_until``, by
    the boot clock, the step may start without another read of its workflow's standing. ``doubts`` are about
    what the step is said to have received, and ``ends`` are keys of ends of other workflows among it, not yet proved.
    """

    message: PaigeantMessage
    delivery: Delivery
    worker: str
    clock: Clock
    ended: Callable[[], None]
    claims: Mapping[str, Any] | None = None
    stands_until: float = -math.inf
    doubts: tuple[Doubt, ...] = ()
    ends: tuple[str, ...] = ()

    def carrying(self, message: PaigeantMessage) -> Run:
        """Return a run of the same delivery with another message."""
        return self if message is self.message else replace(self, message=message)

    def execution(self, started_at: float | None = None, used: Usage = NOTHING) -> Execution:
        """Return the worker, the time from ``started_at`` (default: now) until now, and the usage ``used``."""
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
        """Whether the step has run from its beginning before: an attempt failed, or the step was parked."""
        message = self.message
        again = message.attempt > 1 or message.resumes > 0 or message.epoch > 0
        return again or self.delivery.deliveries > 1

    def about(self) -> dict[str, Any]:
        """Return the fields that every event about this attempt has."""
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

    def doubted(self, doubt: Doubt) -> ProofFailed:
        """Return the event about something that is not trusted."""
        said = {"key": doubt.key, "code": doubt.code, "reason": doubt.reason, "given": doubt.given}
        return ProofFailed(**self.about(), at=self.clock.now(), **said)

    def __str__(self) -> str:
        """The step, or its compensation, for people."""
        name = repr(self.message.step.name)
        return f"the compensation of {name}" if self.message.routing_slip.is_back else name
