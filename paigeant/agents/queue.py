"""Messages that tools add to their run with ``ctx.enqueue``. A replayed call adds them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_ai.durable_exec import JSON_CODEC
from pydantic_ai.messages import ModelMessage
from pydantic_ai.tools import RunContext

from paigeant.agents.calls import running


def noting(ctx: RunContext[Any]) -> bool:
    """Make the run's queue report new messages to the running tool call. False if this release's queue cannot."""
    queue: Any = ctx.pending_messages
    if queue is None or not hasattr(queue, "__dict__"):
        return queue is None
    if not hasattr(queue, "_paigeant_append"):
        append = queue._paigeant_append = queue.append

        def noted(pending: Any) -> None:
            append(pending)
            if (call := running()) is not None and call.queue is queue:
                call.queued.append(pending)

        queue.append = noted
    return True


def serialized(queued: Iterable[Any]) -> list[dict[str, Any]]:
    """The messages as JSON types. ``is_beside`` marks a message that goes next to the result of its tool call."""
    return [
        {
            "messages": JSON_CODEC.dump(list[ModelMessage], one.messages),
            "priority": one.priority,
            "is_beside": getattr(one, "_tool_call", None) is not None,
        }
        for one in queued
    ]


def put(ctx: RunContext[Any], queued: Iterable[Mapping[str, Any]]) -> None:
    """Add recorded messages to the run."""
    for one in queued:
        messages: list[Any] = JSON_CODEC.load(list[ModelMessage], one["messages"])
        items = [part for message in messages for part in message.parts] if one["is_beside"] else messages
        ctx.enqueue(*items, priority=one["priority"])
