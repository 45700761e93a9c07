"""The handle with which a caller waits for a workflow, watches it, steers it and forks it."""

from __future__ import annotations

from paigeant.workflow.handle import Workflow, run_sync
from paigeant.workflow.options import DispatchOptions
from paigeant.workflow.results import OWN_TYPE, checked_type

__all__ = ["OWN_TYPE", "DispatchOptions", "Workflow", "checked_type", "run_sync"]
