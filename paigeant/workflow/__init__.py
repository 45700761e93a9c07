"""A workflow as its caller has it: to wait for, watch, steer and fork."""

from __future__ import annotations

from paigeant.workflow.handle import Workflow, run_sync

__all__ = ["Workflow", "run_sync"]
