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
from paigeant.records import EventRecord


class Streaming(AbstractCapability[Any]):
    """Shows each event of a run, which streams its model requests for that."""

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
                self._show(_written(event))
                yield event


class _Events(Protocol):
    """What is asked of a workflow."""

    def events(self, after: int = 0) -> AsyncGenerator[EventRecord, None]: ...


async def agent_events(
    workflow: _Events, *, step: str | None = None, after: int = 0
) -> AsyncGenerator[AgentStreamEvent, None]:
    """What agents of the workflow (or that of one ``step``, by name or id) stream, as pydantic-ai's own events.

    This is what pydantic-ai's encoders for user interfaces read. Events of abandoned runs are left out, and so are
    those that were too large to be shown and those that this release of pydantic-ai does not know.

    Raises:
        StreamBroken: a step runs again of which events were given out already.
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


def _written(event: AgentStreamEvent) -> Any:
    """The event as JSON types; of one that cannot be written, such as a tool's strange result, only its kind."""
    try:
        return _adapter().dump_python(event, mode="json")
    except PydanticSerializationError:
        return {"event_kind": event.event_kind, "unwritable": True}


def _read(value: Any) -> AgentStreamEvent | None:
    try:
        return _adapter().validate_python(value)
    except ValidationError:
        return None
