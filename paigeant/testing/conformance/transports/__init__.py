"""What every transport promises. Tests are skipped by the transport's declared ``features`` and by nothing else."""

from __future__ import annotations

from paigeant.testing.conformance.transports._parts import Inbox, has_depth, outgoing
from paigeant.testing.conformance.transports.consuming import Consuming
from paigeant.testing.conformance.transports.crashing import Crashing
from paigeant.testing.conformance.transports.delivering import Delivering
from paigeant.testing.conformance.transports.features import DeclaredFeatures
from paigeant.testing.conformance.transports.settling import Settling
from paigeant.testing.conformance.transports.timing import Timing

__all__ = ["Inbox", "TransportConformance", "has_depth", "outgoing"]


class TransportConformance(Delivering, Consuming, Settling, Timing, DeclaredFeatures, Crashing):
    """Subclass it with a pytest fixture ``scratch`` that gives a :class:`Scratch`, new for each test."""
