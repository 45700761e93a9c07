"""What a decision asks for. Deciding makes a plan; ``dispatch.carry_out`` is what acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paigeant.events import ErrorInfo, Event, LetterKind
from paigeant.join import Join
from paigeant.message import PaigeantMessage


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
    """

    send: tuple[Send, ...] = ()
    begin: tuple[PaigeantMessage, ...] = ()
    hold: tuple[Hold, ...] = ()
    record: tuple[Event, ...] = ()
    set_aside: SetAside | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Give the delivery back without acknowledging it, due again after ``delay`` seconds."""

    reason: str
    delay: float


Plan = Settle | Release
