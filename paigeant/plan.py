"""What a decision asks for. Deciding makes a plan; ``dispatch.carry_out`` is what acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paigeant.events import Event
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
class Settle:
    """Record these facts, publish or hold these messages, acknowledge the delivery.

    ``begin`` are the first messages of other workflows; ``set_aside`` is why the delivery's bytes are kept.
    """

    send: tuple[Send, ...] = ()
    begin: tuple[PaigeantMessage, ...] = ()
    hold: tuple[Hold, ...] = ()
    record: tuple[Event, ...] = ()
    set_aside: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Give the delivery back without acknowledging it, due again after ``delay`` seconds."""

    reason: str
    delay: float


Plan = Settle | Release
