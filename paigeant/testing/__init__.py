"""For your tests: workflows in virtual time, with everything going wrong; suites for transports and stores.

``run`` and ``simulate`` are for workflows; :mod:`paigeant.testing.conformance` is for those who write a transport or a
store of their own.
"""

from __future__ import annotations

from paigeant.testing.faults import Fault, FaultPlan, fault_plans
from paigeant.testing.simulation import Report, SimulationFailed, run, simulate
from paigeant.testing.world import WorkflowRun

__all__ = ["Fault", "FaultPlan", "Report", "SimulationFailed", "WorkflowRun", "fault_plans", "run", "simulate"]
