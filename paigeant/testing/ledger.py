"""The ledger of a simulated world: what bodies of steps, tools and models did outside of paigeant.

A test calls these functions from the code that it simulates. The ledger belongs to the world, so it survives the death
of a simulated process. Outside of a simulation the functions do nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from pydantic_core import to_json

from paigeant.context import ActivityContext
from paigeant.testing.history import Fact, History
from paigeant.testing.labels import step_label
from paigeant.testing.witnesses import Effect, GuardedCall, UnitDone

current_history: ContextVar[History | None] = ContextVar("paigeant_current_history", default=None)
"""The history of the world in which this code runs."""


def done(token: str) -> None:
    """Record an effect that the step's compensation must undo; ``token`` names the effect in the whole world."""
    _note_effect(token, is_undone=False)


def undone(token: str) -> None:
    """Record that a compensation undid the effect with this name."""
    _note_effect(token, is_undone=True)


def _note_effect(token: str, *, is_undone: bool) -> None:
    context = ActivityContext.current()
    _note(
        Effect(
            token=token,
            is_undone=is_undone,
            workflow=context.correlation_id,
            step=context.step.id,
            message=context.message.id,
        )
    )


def called(place: str, shown: Any) -> None:
    """Record that a guarded call ran: the call at this place of the step, with the content that people saw."""
    context = ActivityContext.current()
    _note(GuardedCall(workflow=context.correlation_id, step=context.step.id, place=place, shown=formatted(shown)))


def unit(key: str) -> None:
    """Record a call of an agent's model or tool; ``key`` is the unit's place in the journal."""
    context = ActivityContext.current()
    label = step_label(context.step.id, context.message.routing_slip.heading)
    _note(UnitDone(workflow=context.correlation_id, step=label, key=key, lease=context.state.delivery.token))


def formatted(shown: Any) -> str:
    """Format the content of a question as text that is equal for equal content."""
    return to_json(_sorted(shown)).decode()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list | tuple) else value


def _note(fact: Fact) -> None:
    history = current_history.get()
    if history is not None:
        history.add(fact)
