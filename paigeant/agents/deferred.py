"""Tool calls that wait for people or for other systems: the step waits for them without a process."""

from __future__ import annotations

from typing import Any

from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from paigeant.context import ActivityContext


def answers(context: ActivityContext, requests: DeferredToolRequests) -> DeferredToolResults:
    """What was said to these calls, one after the other; the step is parked for the first that has no answer yet."""
    return DeferredToolResults(
        approvals={call.tool_call_id: _approval(context, call) for call in requests.approvals},
        calls={call.tool_call_id: _result(context, call) for call in requests.calls},
    )


def _approval(context: ActivityContext, call: ToolCallPart) -> ToolApproved | ToolDenied:
    asks = f"{context.step.name} wants to call {call.tool_name}"
    said = context.await_approval(asks, details={"tool": call.tool_name, "arguments": call.args_as_dict()})
    if said.approved:
        return ToolApproved(override_args=said.arguments)
    return ToolDenied(said.reason) if said.reason else ToolDenied()


def _result(context: ActivityContext, call: ToolCallPart) -> Any:
    return context.await_signal(call.tool_call_id)
