"""The agent of the documents: an agent of pydantic-ai that knows the dispatcher whose workflows it takes part in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.output import OutputDataT
from pydantic_ai.tools import AgentDepsT, Tool

from paigeant.agents.naming import variable_of
from paigeant.errors import ConfigurationError
from paigeant.runway.editing import edit_tool

if TYPE_CHECKING:
    from paigeant.runway.dispatcher import WorkflowDispatcher


class PaigeantAgent(Agent[AgentDepsT, OutputDataT]):
    """A pydantic-ai agent that steps of workflows run. Outside of a workflow it is an Agent as any other.

    It is an activity of the ``dispatcher``'s App under its ``name``: without one, the variable that holds it. A first
    argument that names no provider (``"notifier-agent"``) is a name as well; such an agent is given a model with
    ``agent.override(model=...)``. Models are looked up when the agent first runs, so that making it needs no key.

    With ``can_edit_itinerary`` its model has the tool ``_edit_itinerary``, which inserts steps right after the current
    one: at most ``max_added_steps`` of them, and only what :meth:`register_activity` made insertable. All other options
    are those of :class:`pydantic_ai.Agent`.

    Raises:
        DuplicateActivity: the dispatcher has an agent or activity of this name.
    """

    def __init__(
        self,
        model: Model | str | None = None,
        *,
        dispatcher: WorkflowDispatcher | None = None,
        name: str | None = None,
        can_edit_itinerary: bool = False,
        max_added_steps: int = 3,
        tools: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        if isinstance(model, str) and ":" not in model and model != "test":
            model, name = None, name or model
        self.dispatcher = dispatcher
        self.can_edit_itinerary = can_edit_itinerary
        self.max_added_steps = max_added_steps
        own: list[Tool[Any]] = [edit_tool(self)] if can_edit_itinerary else []
        super().__init__(model, name=name, tools=[*tools, *own], **{"defer_model_check": True} | options)
        self.take_name(sys._getframe(1))
        if dispatcher is not None and self.name is not None:
            dispatcher.add(self, sys._getframe(1))

    def add_to_runway(self, prompt: str | None = None, deps: Any = None) -> None:
        """Append a run of this agent to the workflow that its dispatcher will dispatch.

        Raises:
            ConfigurationError: it has no dispatcher or no name.
            InvalidArguments: the deps are not of its ``deps_type``.
            NotSerializable: the deps cannot be written as JSON.
        """
        self._dispatcher(sys._getframe(1)).add_to_runway(self, prompt, deps)

    def register_activity(self, prompt: str | None = None, deps: Any = None) -> None:
        """Let agents that may edit their itinerary insert this one; what an edit does not say is taken from here.

        Raises:
            ConfigurationError, InvalidArguments, NotSerializable: as :meth:`add_to_runway`.
        """
        self._dispatcher(sys._getframe(1)).register_activity(self, prompt, deps)

    def take_name(self, frame: FrameType) -> str | None:
        """Its name, from now on that of the variable that holds it in this frame, if it has none."""
        self.name = self.name or variable_of(self, frame)
        return self.name

    def _dispatcher(self, frame: FrameType) -> WorkflowDispatcher:
        if self.dispatcher is None:
            raise ConfigurationError(
                f"agent {self.name!r} has no dispatcher", hint="PaigeantAgent(..., dispatcher=WorkflowDispatcher())"
            )
        if self.name is None and self.take_name(frame) is not None:
            self.dispatcher.add(self, frame)
        return self.dispatcher
