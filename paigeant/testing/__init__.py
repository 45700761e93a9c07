"""Tools for your tests: workflows in virtual time with injected faults, and suites for transports and stores.

Use ``run`` and ``simulate`` to test workflows. Use :mod:`paigeant.testing.conformance` to test your own transport or
store.
"""

from __future__ import annotations

from paigeant.testing import ledger
from paigeant.testing.faults import Fault, FaultPlan, fault_plans
from paigeant.testing.simulation import Report, SimulationFailed, run, simulate
from paigeant.testing.world import WorkflowRun

__all__ = [
    "Fault",
    "FaultPlan",
    "Report",
    "SimulationFailed",
    "WorkflowRun",
    "fault_plans",
    "ledger",
    "run",
    "simulate",
]
