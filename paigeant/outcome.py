"""How one execution ended: a closed union, so that what follows is decided by one ``match``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paigeant.events import ErrorInfo
from paigeant.message import PaigeantMessage
from paigeant.slip import ActivitySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Who ran the step, on which delivery, and when (epoch seconds)."""

    worker: str
    deliveries: int
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What a step changes in its workflow: steps right after it, steps left out, workflows dispatched."""

    insert: tuple[ActivitySpec, ...] = ()
    skip: tuple[str, ...] = ()
    children: tuple[PaigeantMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """The activity returned; ``variables`` is None when it changed none. ``is_last``: the steps ahead are not run."""

    execution: Execution
    output: Any = None
    variables: dict[str, Any] | None = None
    edits: Edits = Edits()
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Retrying:
    """The activity failed and may try again after ``delay`` seconds."""

    execution: Execution
    error: ErrorInfo
    delay: float


@dataclass(frozen=True, slots=True)
class Parked:
    """The step waits for ``key``, or until ``due_at`` (epoch seconds), without holding a process or a message.

    ``detail`` says what is waited for, for people: what an approval asks, for example.
    """

    execution: Execution
    key: str
    due_at: float | None = None
    detail: Any = None
    children: tuple[PaigeantMessage, ...] = ()


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
class Dropped:
    """The step was not started, because its workflow is over."""

    execution: Execution
    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """This worker cannot run the step; the delivery goes back, unharmed, due again after ``delay`` seconds."""

    reason: str
    delay: float


Outcome = Completed | Retrying | Parked | Faulted | Poisoned | Dropped | Returned
