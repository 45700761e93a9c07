"""The draft: steps that a program collects before it dispatches them, separately for each task."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from paigeant.wire.slip import ActivitySpec


@dataclass(slots=True)
class _Steps:
    owner: asyncio.Task[Any] | None
    steps: list[ActivitySpec] = field(default_factory=list)
    is_sent: bool = False


class Draft:
    """Steps that a program adds one after another and dispatches together.

    The first step after a dispatch starts a new draft; a dispatch without a new step sends the same steps again. A
    task starts with the steps that existed when it was created and adds to its own draft. So requests that a server
    handles at the same time do not see each other's steps.
    """

    def __init__(self) -> None:
        self._current: ContextVar[_Steps | None] = ContextVar("paigeant_draft", default=None)

    @property
    def steps(self) -> list[ActivitySpec]:
        """Return a copy of the collected steps."""
        current = self._current.get()
        return [] if current is None else [*current.steps]

    def add(self, step: ActivitySpec) -> None:
        """Append a step."""
        current, task = self._current.get(), _task()
        if current is None or current.is_sent:
            current = _Steps(task)
            self._current.set(current)
        elif current.owner is not task:
            current = _Steps(task, [*current.steps])
            self._current.set(current)
        current.steps.append(step)

    def sent(self) -> None:
        """Note that the steps were dispatched, so that the next step starts a new draft."""
        if (current := self._current.get()) is not None:
            current.is_sent = True


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
