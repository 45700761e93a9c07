"""Durable, asynchronous workflows of AI agents and plain functions, carried by routing slips over any broker."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fast_depends import Depends as Depends

    from paigeant.activity import Activity as Activity
    from paigeant.agents import Conversation as Conversation
    from paigeant.app import App as App
    from paigeant.budget import Budget as Budget
    from paigeant.condition import Condition as Condition
    from paigeant.context import ActivityContext as ActivityContext
    from paigeant.grant import Allowance as Allowance
    from paigeant.grant import Grant as Grant
    from paigeant.interrupts import Park as Park
    from paigeant.interrupts import Retry as Retry
    from paigeant.interrupts import Terminate as Terminate
    from paigeant.join import BranchResult as BranchResult
    from paigeant.join import quorum as quorum
    from paigeant.message import PaigeantMessage as PaigeantMessage
    from paigeant.retry import RetryPolicy as RetryPolicy
    from paigeant.runway.agent import PaigeantAgent as PaigeantAgent
    from paigeant.runway.dependencies import PreviousOutput as PreviousOutput
    from paigeant.runway.dependencies import WorkflowDependencies as WorkflowDependencies
    from paigeant.runway.dispatcher import WorkflowDispatcher as WorkflowDispatcher
    from paigeant.runway.executor import ActivityExecutor as ActivityExecutor
    from paigeant.runway.planner import PlannerAgentDeps as PlannerAgentDeps
    from paigeant.runway.planner import create_planner_agent as create_planner_agent
    from paigeant.scattering import scatter as scatter
    from paigeant.scattering import scatter_map as scatter_map
    from paigeant.slip import ActivitySpec as ActivitySpec
    from paigeant.slip import RoutingSlip as RoutingSlip
    from paigeant.steps import await_approval as await_approval
    from paigeant.steps import await_signal as await_signal
    from paigeant.steps import sleep as sleep
    from paigeant.store import Store as Store
    from paigeant.transport import BaseTransport as BaseTransport
    from paigeant.transports import get_transport as get_transport
    from paigeant.transports.memory import InMemoryTransport as InMemoryTransport
    from paigeant.worker import Worker as Worker
    from paigeant.workflow import Workflow as Workflow

    __version__: str

# App's names first, then the source documents' names. Each is imported when it is first asked for, so that
# ``paigeant --help`` and a program that only dispatches do not wait for what they never use.
_HOMES = {
    "App": "paigeant.app",
    "Activity": "paigeant.activity",
    "ActivityContext": "paigeant.context",
    "Depends": "fast_depends",
    "RetryPolicy": "paigeant.retry",
    "Worker": "paigeant.worker",
    "Workflow": "paigeant.workflow",
    "Condition": "paigeant.condition",
    "Grant": "paigeant.grant",
    "Allowance": "paigeant.grant",
    "Park": "paigeant.interrupts",
    "Retry": "paigeant.interrupts",
    "Terminate": "paigeant.interrupts",
    "sleep": "paigeant.steps",
    "await_signal": "paigeant.steps",
    "await_approval": "paigeant.steps",
    "scatter": "paigeant.scattering",
    "scatter_map": "paigeant.scattering",
    "quorum": "paigeant.join",
    "BranchResult": "paigeant.join",
    "Store": "paigeant.store",
    "Budget": "paigeant.budget",
    "Conversation": "paigeant.agents",
    "ActivitySpec": "paigeant.slip",
    "RoutingSlip": "paigeant.slip",
    "PaigeantMessage": "paigeant.message",
    "BaseTransport": "paigeant.transport",
    "get_transport": "paigeant.transports",
    "InMemoryTransport": "paigeant.transports.memory",
    "PaigeantAgent": "paigeant.runway.agent",
    "WorkflowDispatcher": "paigeant.runway.dispatcher",
    "ActivityExecutor": "paigeant.runway.executor",
    "WorkflowDependencies": "paigeant.runway.dependencies",
    "PreviousOutput": "paigeant.runway.dependencies",
    "create_planner_agent": "paigeant.runway.planner",
    "PlannerAgentDeps": "paigeant.runway.planner",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name) if name in _HOMES else _version()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("paigeant")
    except PackageNotFoundError:  # run from a source tree
        return "0.0.0"
