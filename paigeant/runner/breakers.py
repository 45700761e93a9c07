"""What one worker knows of its activities: which of them work, and which keep failing and are tried one at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import structlog

from paigeant.activity import Activity
from paigeant.failure import Failure
from paigeant.interrupts import Interrupt
from paigeant.message import PaigeantMessage
from paigeant.retry import RetryPolicy
from paigeant.runner.breaker import Breaker

log = structlog.stdlib.get_logger("paigeant.breakers")


def policy_of(activity: Activity[..., Any], message: PaigeantMessage) -> RetryPolicy:
    """How often the step is tried: as it says itself, else as its activity says."""
    return message.step.retry or activity.retry


@dataclass(slots=True)
class Breakers:
    """A :class:`Breaker` for each activity. Times are epoch seconds."""

    _each: defaultdict[Activity[..., Any], Breaker] = field(default_factory=lambda: defaultdict(Breaker))

    def hold_off(self, activity: Activity[..., Any], message: PaigeantMessage, now: float) -> float | None:
        """Seconds for which a step goes back because its activity keeps failing; one that is never retried does not."""
        if not policy_of(activity, message).retries:
            return None
        return self._each[activity].ask(message.id, now)

    def left(self, activity: Activity[..., Any], message: PaigeantMessage) -> None:
        """The run of this message, which was let in, is over."""
        self._each[activity].left(message.id)

    def excuse(self, activity: Activity[..., Any], failure: Failure, now: float) -> float | None:
        """Seconds until the next attempt of a step that failed only because its activity does, for everyone."""
        if isinstance(failure.error, Interrupt) or not failure.is_curable or not failure.policy.retries:
            return None
        breaker, message = self._each[activity], failure.message
        was_open = breaker.is_open
        pause = breaker.failed(message.id, f"{message.correlation_id} {message.step.id}", now)
        if breaker.is_open and not was_open:
            log.warning("activity keeps failing: it is tried one at a time until it works")
        return pause

    def works(self, activity: Activity[..., Any]) -> None:
        """A step of it completed."""
        breaker = self._each[activity]
        if breaker.is_open:
            log.warning("activity works again")
        breaker.succeeded()
