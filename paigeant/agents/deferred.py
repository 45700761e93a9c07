"""Tool calls that wait for people or for other systems. The step waits for the answers without a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from paigeant.agents.journal import Journal, digest
from paigeant.context import ActivityContext
from paigeant.records.journal import Unit
from paigeant.wire.approval import Approval, asked
from paigeant.wire.values import jsonable


async def answers(
    journal: Journal, context: ActivityContext, place: str, requests: DeferredToolRequests, *, is_kept: bool
) -> DeferredToolResults:
    """The answers to these calls, in order. The step parks for the first call that has no answer yet.

    ``place`` is the prefix of their keys in the journal. With ``is_kept``, the journal records the answers of people:
    the next model responses build on them, and a step that an operator retries needs the same ones.
    """
    _refuse_repeated([*requests.approvals, *requests.calls])
    return DeferredToolResults(
        approvals={
            call.tool_call_id: await _approval(journal, context, place, call, _about(call, requests), is_kept)
            for call in requests.approvals
        },
        calls={call.tool_call_id: _result(context, call, _about(call, requests)) for call in requests.calls},
    )


def _refuse_repeated(calls: Sequence[ToolCallPart]) -> None:
    """Refuse two calls with one id, because pydantic-ai assigns answers to calls by their id."""
    for call_id, count in Counter(call.tool_call_id for call in calls).items():
        if count > 1:
            raise UnexpectedModelBehavior(f"the model made {count} calls with the id {call_id!r} that need an answer")


def _about(call: ToolCallPart, requests: DeferredToolRequests) -> dict[str, Any]:
    """The details of a call that the person or system who answers it sees."""
    about = {"tool": call.tool_name, "arguments": call.args_as_dict()}
    metadata = requests.metadata.get(call.tool_call_id)
    return about | ({"metadata": jsonable(metadata, f"the metadata of {call.tool_name}")} if metadata else {})


async def _approval(
    journal: Journal,
    context: ActivityContext,
    place: str,
    call: ToolCallPart,
    about: dict[str, Any],
    is_kept: bool,
) -> ToolApproved | ToolDenied:
    """The answer to this call. An answer to another call does not count, even if both are equal."""
    tool, arguments = call.tool_name, call.args_as_dict()
    unit = Unit(key=f"{place}:{call.tool_call_id}", name=tool, digest=digest((tool, arguments)), value=None)
    if (known := journal.find(unit.key, unit.name, unit.digest)) is not None:
        return _verdict(Approval(**known.value))
    shown = asked(f"{context.step.name} wants to call {tool}", about)
    said = context.ask(digest((unit.key, shown)), shown)
    if is_kept:
        await journal.add(replace(unit, value=said.model_dump()))
    return _verdict(said)


def _verdict(said: Approval) -> ToolApproved | ToolDenied:
    if said.approved:
        return ToolApproved(override_args=said.arguments)
    return ToolDenied(said.reason) if said.reason else ToolDenied()


def _result(context: ActivityContext, call: ToolCallPart, about: dict[str, Any]) -> Any:
    return context.await_signal(call.tool_call_id, details=about)
