"""How a tool call ended, as the journal records it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai.durable_exec import JSON_CODEC
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolReturn, ToolReturnContent

from paigeant.agents import results
from paigeant.agents.journal import Journal
from paigeant.context.state import StepState
from paigeant.errors import NotSerializable
from paigeant.records.journal import Unit

_BEFORE: dict[str, Any] = {"content": ToolReturnContent, "return": ToolReturn}
"""The types of results in journals of earlier releases, by the kind of the outcome."""

_RETURNED = ("result", *_BEFORE)
"""The kinds of outcome of a tool that returned."""


@dataclass
class ToolOutcome:
    """The end of a tool call: its result or refusal, and what the call changed and used.

    ``effects`` are its changes in the workflow, ``usage`` is that of the agents that it ran, and ``queued`` are the
    messages that it added to its run. Journals contain the fields, so their names must stay readable.
    """

    kind: str
    value: Any = None
    effects: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    queued: list[Any] = field(default_factory=list)

    @property
    def has_returned(self) -> bool:
        """Whether the tool returned; otherwise it asked the model for another call, or failed."""
        return self.kind in _RETURNED

    def collect(self, fork: StepState) -> None:
        """Take the changes of the call from its state. Of a call that did not return, only its arrivals count."""
        self.effects = fork.effects() if self.has_returned else fork.arrivals()

    def with_result(self, name: str, result: Any) -> ToolOutcome:
        """The same outcome with the result as JSON types."""
        return replace(self, value=results.serialized(name, result)) if self.has_returned else self

    def read(self, journal: Journal) -> Any:
        """The result of the tool; None if it did not return.

        Raises:
            JournalMismatch: an earlier release wrote it, which did not record whether it was a file or similar data.
        """
        if not self.has_returned:
            return None
        if self.kind not in _BEFORE:
            return results.read(self.value)
        value = JSON_CODEC.load(_BEFORE[self.kind], self.value)
        if results.has_files(value):
            raise journal.mismatch("a result of the release before cannot be told from a file")
        return value

    def given(self, result: Any) -> Any:
        """Return the result of the tool, or raise the exception that it raised."""
        match self.kind:
            case "retry":
                raise ModelRetry(self.value)
            case "failed":
                raise ToolFailed(self.value)
            case "unwritable":
                raise NotSerializable(self.value, hint=results.HINT)
        return result


async def ended(call: Any) -> tuple[ToolOutcome, Any]:
    """Await a tool call; return its outcome and its result. Other exceptions of the tool propagate."""
    try:
        return ToolOutcome("result"), await call
    except ModelRetry as error:
        return ToolOutcome("retry", error.message), None
    except ToolFailed as error:
        return ToolOutcome("failed", error.message), None


def unwritable(name: str, error: Exception, usage: dict[str, Any]) -> ToolOutcome:
    """The outcome of a call whose result cannot be recorded."""
    why = str(error) if isinstance(error, NotSerializable) else f"the result of tool {name!r} cannot be kept: {error}"
    return ToolOutcome("unwritable", why, usage=usage)


def is_refusal(unit: Unit) -> bool:
    """Whether the unit is a tool call that only asked the model for another call."""
    return isinstance(unit.value, dict) and unit.value.get("kind") == "retry"
