"""The context of a running step, and the parts that it consists of."""

from __future__ import annotations

from paigeant.context.activity_context import ActivityContext, takes_context

__all__ = ["ActivityContext", "takes_context"]
