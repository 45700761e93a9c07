"""From what was measured on a broker to the tier it deserves, compared with what its transport declares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from paigeant.doctor.finding import Verdict
from paigeant.transport import Durability, Features


class Tier(StrEnum):
    """How much a broker keeps of what paigeant promises; the best first."""

    ATOMIC = "atomic with the store"
    """Recording, publishing and acknowledging are one transaction, refused to a stale holder."""
    FENCED = "fenced"
    """Publishing and acknowledging are one act, refused to a stale holder."""
    AT_LEAST_ONCE = "at least once"
    """What was not acknowledged comes again."""
    BEST_EFFORT = "best effort"
    """Messages are lost or late when a worker dies."""
    ONE_PROCESS = "one process"
    """No other process ever sees a message."""

    def is_worse_than(self, other: Tier) -> bool:
        order = list(Tier)
        return order.index(self) > order.index(other)


@dataclass(slots=True)
class Measured:
    """What the experiments saw; None where none of them could tell."""

    is_shared: bool | None = None
    comes_again: bool | None = None
    loses: bool = False
    is_fenced: bool | None = None
    is_atomic: bool | None = None
    deliveries: int | None = None
    """What the second delivery said about its count."""

    def adopt(self, later: Measured) -> None:
        """Add what a later experiment has seen."""
        for one in fields(later):
            value = getattr(later, one.name)
            if value is not None and one.name != "loses":
                setattr(self, one.name, value)
        self.loses = self.loses or later.loses


def declared_tier(features: Features) -> Tier:
    """The tier that the transport's features claim."""
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
    """The tier that the experiments support; what could not be measured supports nothing."""
    if measured.is_shared is False:
        return Tier.ONE_PROCESS
    if not measured.comes_again or measured.loses:
        return Tier.BEST_EFFORT
    if not measured.is_fenced:
        return Tier.AT_LEAST_ONCE
    return Tier.ATOMIC if measured.is_atomic else Tier.FENCED


def compared(declared: bool, measured: bool) -> Verdict:
    """A feature that is declared and not there is a failure; one that is there and not declared is none."""
    return Verdict.FAIL if declared and not measured else Verdict.OK
