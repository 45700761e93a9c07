"""What a running step is given."""

from __future__ import annotations

from paigeant.context.activity_context import ActivityContext, takes_context

__all__ = ["ActivityContext", "takes_context"]
