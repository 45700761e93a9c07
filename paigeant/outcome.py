"""How one execution ended: a closed union, so that what follows is decided by one ``match``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paigeant.events import ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Who ran the step, on which delivery, and when (epoch seconds)."""

    worker: str
    deliveries: int
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class Completed:
    """The activity returned; ``variables`` is None when it changed none."""

    execution: Execution
    output: Any = None
    variables: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """The activity failed and may try again after ``delay`` seconds."""

    execution: Execution
    error: ErrorInfo
    delay: float


@dataclass(frozen=True, slots=True)
class Faulted:
    """The activity failed for good."""

    execution: Execution
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The delivery killed its worker too often; it is set aside and the workflow fails."""

    execution: Execution
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Returned:
    """This worker cannot run the step; the delivery goes back, unharmed, due again after ``delay`` seconds."""

    reason: str
    delay: float


Outcome = Completed | Retrying | Faulted | Poisoned | Returned
