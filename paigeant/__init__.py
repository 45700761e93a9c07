"""Durable, asynchronous workflows of AI agents and plain functions, carried by routing slips over any broker."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from paigeant.runtime import moved

if TYPE_CHECKING:
    from fast_depends import Depends as Depends

    from paigeant.activity import OPEN as OPEN
    from paigeant.activity import Activity as Activity
    from paigeant.activity.builtin import await_approval as await_approval
    from paigeant.activity.builtin import await_signal as await_signal
    from paigeant.activity.builtin import sleep as sleep
    from paigeant.activity.scatter import scatter as scatter
    from paigeant.activity.scatter import scatter_map as scatter_map
    from paigeant.agents import Conversation as Conversation
    from paigeant.app import App as App
    from paigeant.context import ActivityContext as ActivityContext
    from paigeant.decisions.interrupts import Park as Park
    from paigeant.decisions.interrupts import Retry as Retry
    from paigeant.decisions.interrupts import Terminate as Terminate
    from paigeant.runway.agent import PaigeantAgent as PaigeantAgent
    from paigeant.runway.dependencies import PreviousOutput as PreviousOutput
    from paigeant.runway.dependencies import WorkflowDependencies as WorkflowDependencies
    from paigeant.runway.dispatcher import WorkflowDispatcher as WorkflowDispatcher
    from paigeant.runway.executor import ActivityExecutor as ActivityExecutor
    from paigeant.runway.planner import PlannerAgentDeps as PlannerAgentDeps
    from paigeant.runway.planner import create_planner_agent as create_planner_agent
    from paigeant.store import SagaRepository as SagaRepository
    from paigeant.store import Store as Store
    from paigeant.transport import BaseTransport as BaseTransport
    from paigeant.transports import get_transport as get_transport
    from paigeant.transports.memory import InMemoryTransport as InMemoryTransport
    from paigeant.wire.budget import Budget as Budget
    from paigeant.wire.condition import Condition as Condition
    from paigeant.wire.grant import Allowance as Allowance
    from paigeant.wire.grant import Grant as Grant
    from paigeant.wire.join import BranchResult as BranchResult
    from paigeant.wire.join import quorum as quorum
    from paigeant.wire.message import PaigeantMessage as PaigeantMessage
    from paigeant.wire.retry import RetryPolicy as RetryPolicy
    from paigeant.wire.slip import ActivitySpec as ActivitySpec
    from paigeant.wire.slip import RoutingSlip as RoutingSlip
    from paigeant.worker import Worker as Worker
    from paigeant.workflow import Workflow as Workflow

    __version__: str

# App's names first, then the source documents' names. Each is imported when it is first asked for, so that
# ``paigeant --help`` and a program that only dispatches do not wait for what they never use. There is no ``__dir__``
# that lists them: who looks at every attribute of every module, as freezegun does, must not import them all.
_HOMES = {
    "App": "paigeant.app",
    "Activity": "paigeant.activity",
    "OPEN": "paigeant.activity",
    "ActivityContext": "paigeant.context",
    "Depends": "fast_depends",
    "RetryPolicy": "paigeant.wire.retry",
    "Worker": "paigeant.worker",
    "Workflow": "paigeant.workflow",
    "Condition": "paigeant.wire.condition",
    "Grant": "paigeant.wire.grant",
    "Allowance": "paigeant.wire.grant",
    "Park": "paigeant.decisions.interrupts",
    "Retry": "paigeant.decisions.interrupts",
    "Terminate": "paigeant.decisions.interrupts",
    "sleep": "paigeant.activity.builtin",
    "await_signal": "paigeant.activity.builtin",
    "await_approval": "paigeant.activity.builtin",
    "scatter": "paigeant.activity.scatter",
    "scatter_map": "paigeant.activity.scatter",
    "quorum": "paigeant.wire.join",
    "BranchResult": "paigeant.wire.join",
    "Store": "paigeant.store",
    "Budget": "paigeant.wire.budget",
    "Conversation": "paigeant.agents",
    "SagaRepository": "paigeant.store",
    "ActivitySpec": "paigeant.wire.slip",
    "RoutingSlip": "paigeant.wire.slip",
    "PaigeantMessage": "paigeant.wire.message",
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

moved.install()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise _no_attribute(name, sys._getframe(1).f_code.co_name == "_handle_fromlist")
    value = getattr(import_module(_HOMES[name]), name) if name in _HOMES else _version()
    globals()[name] = value
    return value


def _no_attribute(name: str, is_import: bool) -> Exception:
    """The error for a name that does not exist. An import shows its own text in the place of an AttributeError's."""
    if name.startswith("_"):  # what Python itself asks for
        return AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from paigeant.runtime.habits import OF_THE_PACKAGE, no_attribute

    error = no_attribute(sys.modules[__name__], name, f"module {__name__!r}", OF_THE_PACKAGE)
    return ImportError(str(error), name=__name__) if is_import and name in OF_THE_PACKAGE else error


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("paigeant")
    except PackageNotFoundError:  # run from a source tree
        return "0.0.0"
