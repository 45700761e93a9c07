"""The changes that a tool call makes in its workflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from paigeant.context import ActivityContext
from paigeant.context.activity_context import made_current
from paigeant.context.state import StepState


@contextmanager
def forked(context: ActivityContext, unit: str) -> Iterator[ActivityContext]:
    """Make a fork of the context, for the tool call ``unit``, the current context."""
    own = context.fork(unit)
    with made_current(own):
        yield own


def note_taken(state: StepState, outcome: Any) -> None:
    """Mark the arrivals that a recorded tool call used, before another call of the run asks for one."""
    effects = outcome.get("effects") if isinstance(outcome, Mapping) else None
    if isinstance(effects, Mapping):
        state.note_taken(effects)
