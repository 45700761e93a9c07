"""Activities, and what is written around them: hooks, providers of dependencies, their description for others."""

from __future__ import annotations

from paigeant.activity.activity import Activity, P, R, problem
from paigeant.activity.options import ActivityOptions, AgentOptions
from paigeant.activity.signature import Kind, Parameter, caller_namespace, kind_of

__all__ = [
    "Activity",
    "ActivityOptions",
    "AgentOptions",
    "Kind",
    "P",
    "Parameter",
    "R",
    "caller_namespace",
    "kind_of",
    "problem",
]
