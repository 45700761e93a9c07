"""What a decision asks for. Deciding makes a plan; ``dispatch.carry_out`` is what acts on it."""

from __future__ import annotations

from dataclasses import dataclass

from paigeant.events import Event
from paigeant.message import PaigeantMessage


@dataclass(frozen=True, slots=True)
class Send:
    """A message to publish, due after ``delay`` seconds."""

    message: PaigeantMessage
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Settle:
    """Record these facts, publish these messages, acknowledge the delivery; ``set_aside`` keeps its bytes as well."""

    send: tuple[Send, ...] = ()
    record: tuple[Event, ...] = ()
    set_aside: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Give the delivery back without acknowledging it, due again after ``delay`` seconds."""

    reason: str
    delay: float


Plan = Settle | Release
