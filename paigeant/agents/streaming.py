"""An agent's tokens and tool calls as events of its workflow, and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from functools import cache
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import AgentStreamEvent
from pydantic_ai.tools import RunContext
from pydantic_core import PydanticSerializationError

from paigeant.errors import StreamBroken
from paigeant.records.workflow import EventRecord


class Streaming(AbstractCapability[Any]):
    """Shows each event of a run. pydantic-ai streams the model requests of such a run."""

    def __init__(self, show: Callable[[Any], None]) -> None:
        self._show = show

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    async def wrap_run_event_stream(
        self, ctx: RunContext[Any], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterable[AgentStreamEvent]:
        passing: Any = super().wrap_run_event_stream(ctx, stream=stream)
        async with aclosing(passing):
            async for event in passing:
                self._show(_serialized(event))
                yield event


class _Events(Protocol):
    """The method of a workflow that this module calls."""

    def events(self, after: int = 0) -> AsyncGenerator[EventRecord, None]: ...


async def agent_events(
    workflow: _Events, *, step: str | None = None, after: int = 0
) -> AsyncGenerator[AgentStreamEvent, None]:
    """The events that the agents of a workflow stream, or the agent of one ``step`` (by name or id).

    They are pydantic-ai's own events, which its encoders for user interfaces read. The stream omits events of abandoned
    runs, events that were too large to show, and events that this release of pydantic-ai does not know.

    Raises:
        StreamBroken: a step restarted after the stream had returned some of its events.
    """
    given: set[str] = set()
    async with aclosing(workflow.events(after)) as events:
        async for event in events:
            place = event.data.get("step_id", "")
            if event.abandoned or step not in (None, place, event.data.get("activity")):
                continue
            if event.type == "step_restarted" and place in given:
                raise StreamBroken(
                    f"the step {event.data.get('activity')!r} runs from its beginning again",
                    hint="drop what it has streamed and read the events once more",
                )
            if event.type == "agent_streamed" and (read := _read(event.data.get("value"))) is not None:
                given.add(place)
                yield read


@cache
def _adapter() -> TypeAdapter[AgentStreamEvent]:
    return TypeAdapter(AgentStreamEvent)


def _serialized(event: AgentStreamEvent) -> Any:
    """The event as JSON types; only its kind, if JSON cannot represent it, such as an unusual tool result."""
    try:
        return _adapter().dump_python(event, mode="json")
    except PydanticSerializationError:
        return {"event_kind": event.event_kind, "unwritable": True}


def _read(value: Any) -> AgentStreamEvent | None:
    try:
        return _adapter().validate_python(value)
    except ValidationError:
        return None
