"""``PaigeantAgent`` of the source documents: a pydantic-ai agent that belongs to a dispatcher."""

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
    """A pydantic-ai agent that workflow steps run. Outside of a workflow it behaves like any other Agent.

    The agent is an activity of the ``dispatcher``'s App under its ``name``; an unnamed agent takes the name of the
    variable it is assigned to. A first argument without a provider (``"notifier-agent"``) is a name, too; set the
    model of such an agent with ``agent.override(model=...)``. The agent looks up its model on its first run, so
    creating it needs no API key.

    With ``can_edit_itinerary`` its model has the tool ``_edit_itinerary``, which inserts steps right after the current
    one: at most ``max_added_steps``, and only activities that :meth:`register_activity` registered. All other options
    are those of :class:`pydantic_ai.Agent`.

    Raises:
        DuplicateActivity: the dispatcher already has an agent or activity of this name.
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
            ConfigurationError: the agent has no dispatcher or no name.
            InvalidArguments: the deps are not of its ``deps_type``.
            NotSerializable: the deps cannot be serialized as JSON.
        """
        self._dispatcher(sys._getframe(1)).add_to_runway(self, prompt, deps)

    def register_activity(self, prompt: str | None = None, deps: Any = None) -> None:
        """Let agents that may edit their itinerary insert this agent. ``prompt`` and ``deps`` are its defaults.

        Raises:
            ConfigurationError, InvalidArguments, NotSerializable: as :meth:`add_to_runway`.
        """
        self._dispatcher(sys._getframe(1)).register_activity(self, prompt, deps)

    def take_name(self, frame: FrameType) -> str | None:
        """Return the agent's name; an unnamed agent takes the name of the variable it is assigned to in this frame."""
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
