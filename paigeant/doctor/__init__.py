"""What a newcomer gets wrong, looked at one thing at a time, and what the user's own broker keeps, measured on it."""

from __future__ import annotations

from paigeant.doctor.checks import examine
from paigeant.doctor.finding import Finding, Verdict
from paigeant.doctor.prove import LEASE, prove

__all__ = ["LEASE", "Finding", "Verdict", "examine", "prove"]
