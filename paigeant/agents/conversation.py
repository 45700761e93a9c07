"""Conversations: messages and usage that one agent step hands to a later one."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paigeant.errors import InvalidInput
from paigeant.values import jsonable

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.run import AgentRunResult
    from pydantic_ai.usage import RunUsage

PREFIX = "conversation."
"""How the names of the workflow variables begin in which conversations travel."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of this name in a workflow: ``writer.step(prompt=..., conversation="letters")``.

    The steps that name it, of one agent or of several, see all messages exchanged before, and their usage limits count
    all that was used. It travels with the workflow as a variable, so it is part of the message and of its limit.
    """

    name: str

    @property
    def variable(self) -> str:
        """The workflow variable that holds it: an object with ``messages`` and ``usage``."""
        return PREFIX + self.name

    def so_far(self, variables: Mapping[str, Any]) -> tuple[list[ModelMessage], RunUsage]:
        """The messages exchanged, and what they used.

        Raises:
            InvalidInput: somebody has put something else into the variable.
        """
        from pydantic import TypeAdapter, ValidationError
        from pydantic_ai.messages import ModelMessagesTypeAdapter
        from pydantic_ai.usage import RunUsage

        held = variables.get(self.variable, {})
        try:
            messages = ModelMessagesTypeAdapter.validate_python(held.get("messages", []))
            return messages, TypeAdapter(RunUsage).validate_python(held.get("usage", {}))
        except (AttributeError, ValidationError) as error:
            raise InvalidInput(f"the variable {self.variable!r} holds no conversation") from error

    def carry(self, result: AgentRunResult[Any], variables: MutableMapping[str, Any]) -> None:
        """Put what was said, and used, where the next step of the conversation finds it."""
        from pydantic_ai.messages import ModelMessagesTypeAdapter

        messages = ModelMessagesTypeAdapter.dump_python(result.all_messages(), mode="json")
        variables[self.variable] = {"messages": messages, "usage": jsonable(result.usage, self.variable)}
