"""``paigeant doctor``: checks for common mistakes, and experiments that measure what the user's broker guarantees."""

from __future__ import annotations

from paigeant.doctor.checks import examine
from paigeant.doctor.finding import Finding, Verdict
from paigeant.doctor.prove import LEASE, prove

__all__ = ["LEASE", "Finding", "Verdict", "examine", "prove"]
