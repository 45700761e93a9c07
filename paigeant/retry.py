"""When a failed step is tried again, as data."""

from __future__ import annotations

import random
from typing import Annotated

from pydantic import Field

from paigeant.wire import WireModel


class RetryPolicy(WireModel):
    """Exponential back-off with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    All times are seconds. ``attempts`` counts every start of the step, the first included, so ``attempts=1``
    never retries.
    """

    attempts: Annotated[int, Field(ge=1)] = 1
    delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    max_delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0
    jitter: bool = True

    def allows(self, attempt: int) -> bool:
        """Whether another attempt may follow this one."""
        return attempt < self.attempts

    def ceiling(self, attempt: int) -> float:
        """The longest wait after this attempt."""
        try:
            return min(self.max_delay, self.delay * self.factor ** (attempt - 1))
        except OverflowError:
            return self.max_delay if self.delay else 0.0

    def wait(self, attempt: int, chance: float | None = None) -> float:
        """The wait after this attempt; ``chance`` in [0, 1] replaces the dice in tests."""
        if not self.jitter:
            return self.ceiling(attempt)
        return self.ceiling(attempt) * (random.random() if chance is None else chance)
