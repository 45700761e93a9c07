"""Derives a broker's tier from measurements and compares it with the tier that its transport declares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from paigeant.doctor.finding import Verdict
from paigeant.transport import Durability, Features


class Tier(StrEnum):
    """How many of paigeant's promises a broker supports; the best tier first."""

    ATOMIC = "atomic with the store"
    """Recording, publishing and acknowledging are one transaction. The broker refuses it to a stale holder."""
    FENCED = "fenced"
    """Publishing and acknowledging are one atomic operation. The broker refuses it to a stale holder."""
    AT_LEAST_ONCE = "at least once"
    """The broker redelivers messages that were not acknowledged."""
    BEST_EFFORT = "best effort"
    """Messages are lost or late when a worker dies."""
    ONE_PROCESS = "one process"
    """No other process ever sees a message."""

    def is_worse_than(self, other: Tier) -> bool:
        order = list(Tier)
        return order.index(self) > order.index(other)


@dataclass(slots=True)
class Measured:
    """The observations of the experiments; None means that no experiment could measure it."""

    is_shared: bool | None = None
    comes_again: bool | None = None
    loses: bool = False
    is_fenced: bool | None = None
    is_atomic: bool | None = None
    deliveries: int | None = None
    """The delivery count that the second delivery reported."""

    def adopt(self, later: Measured) -> None:
        """Add the observations of a later experiment."""
        for one in fields(later):
            value = getattr(later, one.name)
            if value is not None and one.name != "loses":
                setattr(self, one.name, value)
        self.loses = self.loses or later.loses


def declared_tier(features: Features) -> Tier:
    """Return the tier that the transport's features declare."""
    match features.durability:
        case Durability.VOLATILE:
            return Tier.ONE_PROCESS
        case Durability.BEST_EFFORT:
            return Tier.BEST_EFFORT
        case Durability.AT_LEAST_ONCE:
            return Tier.FENCED if features.fenced else Tier.AT_LEAST_ONCE
        case Durability.TRANSACTIONAL:
            return Tier.ATOMIC if features.joins_store else Tier.FENCED


def measured_tier(measured: Measured) -> Tier:
    """Return the tier that the experiments support; a promise that could not be measured does not count."""
    if measured.is_shared is False:
        return Tier.ONE_PROCESS
    if not measured.comes_again or measured.loses:
        return Tier.BEST_EFFORT
    if not measured.is_fenced:
        return Tier.AT_LEAST_ONCE
    return Tier.ATOMIC if measured.is_atomic else Tier.FENCED


def compared(declared: bool, measured: bool) -> Verdict:
    """Return FAIL for a declared feature that is missing; an undeclared feature that exists is OK."""
    return Verdict.FAIL if declared and not measured else Verdict.OK
