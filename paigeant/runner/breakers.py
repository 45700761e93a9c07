"""The circuit breakers of one worker, one for each activity."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from paigeant.activity import Activity
from paigeant.decisions.failure import Failure
from paigeant.decisions.interrupts import Interrupt
from paigeant.runner.breaker import TRIALS, Breaker
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.retry import RetryPolicy

log = structlog.stdlib.get_logger("paigeant.breakers")


def policy_of(activity: Activity[..., Any], message: PaigeantMessage) -> RetryPolicy:
    """Return the retry policy of a step: its own, or else the policy of its activity."""
    return message.step.retry or activity.retry


@dataclass(slots=True)
class Breakers:
    """Has a :class:`Breaker` for each activity; a breaker gives up after ``trials``. Times are epoch seconds."""

    trials: int = TRIALS
    _each: defaultdict[Activity[..., Any], Breaker] = field(init=False)

    def __post_init__(self) -> None:
        self._each = defaultdict(partial(Breaker, self.trials))

    def hold_off(self, activity: Activity[..., Any], message: PaigeantMessage, now: float) -> float | None:
        """Seconds to wait before a step of a failing activity starts, or None. A step without retries never waits."""
        if not policy_of(activity, message).retries:
            return None
        return self._each[activity].ask(message.id, now)

    def left(self, activity: Activity[..., Any], message: PaigeantMessage) -> None:
        """Record that the admitted run of this message is over."""
        self._each[activity].left(message.id)

    def excuse(self, activity: Activity[..., Any], failure: Failure, now: float) -> float | None:
        """Seconds until the retry of a step that failed only because its activity fails for every step, or None."""
        if isinstance(failure.error, Interrupt) or not failure.is_curable or not failure.policy.retries:
            return None
        breaker, message = self._each[activity], failure.message
        was_open, was_given_up = breaker.is_open, breaker.is_given_up
        pause = breaker.failed(message.id, f"{message.correlation_id} {message.step.id}", now)
        if breaker.is_open and not was_open:
            log.warning("activity keeps failing: its steps run one at a time until one completes")
        if breaker.is_given_up and not was_given_up:
            log.error("activity failed in every trial: its steps use up their attempts again", trials=self.trials)
        return pause

    def works(self, activity: Activity[..., Any]) -> None:
        """Record that a step of the activity completed."""
        breaker = self._each[activity]
        if breaker.is_open:
            log.warning("activity works again")
        breaker.succeeded()
