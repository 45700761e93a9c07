"""Plans: a decision returns a plan, and ``Settling.carry_out`` executes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paigeant.events import CompensationStarted, ErrorInfo, Event, LetterKind
from paigeant.wire.join import Join
from paigeant.wire.message import PaigeantMessage

TIMER = "retry"
"""The key of a parked message that waits only for its time, because the broker cannot delay it."""


@dataclass(frozen=True, slots=True)
class Send:
    """A message to publish, due after ``delay`` seconds."""

    message: PaigeantMessage
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A message to keep in the store until ``key`` arrives, or until ``due_at`` (epoch seconds)."""

    message: PaigeantMessage
    key: str
    due_at: float | None = None
    detail: Any = None
    join: Join | None = None


@dataclass(frozen=True, slots=True)
class Reversal:
    """How a workflow is compensated that was cancelled while its last step ran: its next message, and the fact."""

    message: PaigeantMessage
    started: CompensationStarted


@dataclass(frozen=True, slots=True)
class SetAside:
    """That the delivery's bytes are kept as a dead letter: why, and with which error if its step failed."""

    kind: LetterKind
    reason: str
    error: ErrorInfo | None = None

    @classmethod
    def failed(cls, kind: LetterKind, error: ErrorInfo) -> SetAside:
        """Because the step failed with this error."""
        return cls(kind, str(error), error)


@dataclass(frozen=True, slots=True)
class Settle:
    """Record these facts, publish or hold these messages, acknowledge the delivery.

    ``begin`` are the first messages of other workflows; ``set_aside`` says that the delivery's bytes are kept.
    ``if_cancelled`` takes the place of the workflow's end if the store knows by then that somebody cancelled it.
    """

    send: tuple[Send, ...] = ()
    begin: tuple[PaigeantMessage, ...] = ()
    hold: tuple[Hold, ...] = ()
    record: tuple[Event, ...] = ()
    set_aside: SetAside | None = None
    if_cancelled: Reversal | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Give the delivery back without acknowledging it, due again after ``delay`` seconds.

    ``grows``: each return of the same message doubles that, up to ``most`` seconds, and adds these ``headers`` to it.
    """

    reason: str
    delay: float
    grows: bool = False
    most: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


Plan = Settle | Release
