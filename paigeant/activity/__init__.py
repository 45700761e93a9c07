"""Activities, their hooks, the providers of their dependencies, and their descriptions for other services."""

from __future__ import annotations

from paigeant.activity.activity import Activity, P, R, problem
from paigeant.activity.decorating import Decorator, Unannotated
from paigeant.activity.left_open import OPEN, NamedOnly
from paigeant.activity.options import (
    ActivityOptions,
    AgentOptions,
    AgentOptionsWithoutDeps,
    refuse_unknown,
)
from paigeant.activity.signature import Kind, Parameter, caller_namespace, kind_of

__all__ = [
    "OPEN",
    "Activity",
    "ActivityOptions",
    "AgentOptions",
    "AgentOptionsWithoutDeps",
    "Decorator",
    "Kind",
    "NamedOnly",
    "P",
    "Parameter",
    "R",
    "Unannotated",
    "caller_namespace",
    "kind_of",
    "problem",
    "refuse_unknown",
]
