"""Tool calls that wait for people or for other systems: the step waits for them without a process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from paigeant.agents.journal import Journal, digest
from paigeant.approval import Approval
from paigeant.context import ActivityContext
from paigeant.journal import Unit


async def answers(
    journal: Journal, place: str, requests: DeferredToolRequests, *, is_kept: bool
) -> DeferredToolResults:
    """What was said to these calls, one after the other; the step is parked for the first that has no answer yet.

    ``place`` is that of the calls in the run. What people said ``is_kept`` in the journal: what the model says next
    builds on it, and does so as well when an operator has the step tried again.
    """
    return DeferredToolResults(
        approvals={call.tool_call_id: await _approval(journal, place, call, is_kept) for call in requests.approvals},
        calls={call.tool_call_id: _result(journal.context, call) for call in requests.calls},
    )


async def _approval(journal: Journal, place: str, call: ToolCallPart, is_kept: bool) -> ToolApproved | ToolDenied:
    """What was said to this very call: to another, that a model makes which is asked again, nothing was."""
    tool, arguments = call.tool_name, call.args_as_dict()
    unit = Unit(key=f"{place}:{call.tool_call_id}", name=tool, digest=digest((tool, arguments)), value=None)
    if (known := journal.find(unit.key, unit.name, unit.digest)) is not None:
        return _verdict(Approval(**known.value))
    asks = f"{journal.context.step.name} wants to call {tool}"
    said = journal.context._approval(unit.digest, asks, {"tool": tool, "arguments": arguments})
    if is_kept:
        await journal.add(replace(unit, value=said.model_dump()))
    return _verdict(said)


def _verdict(said: Approval) -> ToolApproved | ToolDenied:
    if said.approved:
        return ToolApproved(override_args=said.arguments)
    return ToolDenied(said.reason) if said.reason else ToolDenied()


def _result(context: ActivityContext, call: ToolCallPart) -> Any:
    return context.await_signal(call.tool_call_id)
