"""Conversations: messages and usage that one agent step passes to a later one."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paigeant.errors import InvalidInput
from paigeant.wire.values import jsonable

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.run import AgentRunResult
    from pydantic_ai.usage import RunUsage

PREFIX = "conversation."
"""Prefix of the workflow variables that contain conversations."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of this name in a workflow: ``writer.step(prompt=..., conversation="letters")``.

    The steps that name it, of one agent or of several, see all earlier messages, and their usage limits count the usage
    of all of them. A workflow variable contains the conversation, so it counts towards the size limit of messages.
    """

    name: str

    @property
    def variable(self) -> str:
        """The name of the workflow variable: an object with ``messages`` and ``usage``."""
        return PREFIX + self.name

    def so_far(self, variables: Mapping[str, Any]) -> tuple[list[ModelMessage], RunUsage]:
        """The messages so far, and their usage.

        Raises:
            InvalidInput: the variable contains no conversation.
        """
        from pydantic import TypeAdapter, ValidationError
        from pydantic_ai.messages import ModelMessagesTypeAdapter
        from pydantic_ai.usage import RunUsage

        stored = variables.get(self.variable, {})
        try:
            messages = ModelMessagesTypeAdapter.validate_python(stored.get("messages", []))
            _keep_data(messages, stored)
            return messages, TypeAdapter(RunUsage).validate_python(stored.get("usage", {}))
        except (AttributeError, ValidationError) as error:
            raise InvalidInput(f"the variable {self.variable!r} holds no conversation") from error

    def carry(self, result: AgentRunResult[Any], variables: MutableMapping[str, Any]) -> None:
        """Store the messages and the usage in the variable, for the next step of the conversation."""
        from pydantic_ai.messages import ModelMessagesTypeAdapter

        messages = ModelMessagesTypeAdapter.dump_python(result.all_messages(), mode="json")
        usage = jsonable(result.usage, self.variable)
        variables[self.variable] = {"messages": messages, "usage": usage, "files": _files(result.all_messages())}


def _files(messages: list[ModelMessage]) -> list[list[int]]:
    """The positions of the tool results that contain files."""
    from paigeant.agents.results import has_files

    places = ([at, nth] for at, message in enumerate(messages) for nth, _ in enumerate(message.parts))
    return [[at, nth] for at, nth in places if has_files(getattr(messages[at].parts[nth], "content", None))]


def _keep_data(messages: list[ModelMessage], stored: Mapping[str, Any]) -> None:
    """Restore data that looks like a file, because some releases of pydantic-ai read it as one."""
    from paigeant.agents.results import has_files

    files = stored.get("files", [])
    parts: list[tuple[int, int, Any]] = [
        (at, nth, part) for at, one in enumerate(messages) for nth, part in enumerate(one.parts)
    ]
    for at, nth, part in parts:
        if part.part_kind.endswith("tool-return") and [at, nth] not in files and has_files(part.content):
            part.content = stored["messages"][at]["parts"][nth]["content"]
