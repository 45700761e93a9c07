"""What an agent is told of its workflow, beside the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from paigeant.agents.conversation import PREFIX
from paigeant.context import ActivityContext


def known_so_far(context: ActivityContext) -> str | None:
    """The output of the step before and the variables, as an instruction; the prompt itself is never touched."""
    log = context.message.routing_slip.log
    parts = []
    if log and log[-1].output is not None:
        parts.append(f"Output of the previous step ({log[-1].name}), as JSON:\n{_json(log[-1].output)}")
    if variables := _told(context.variables):
        parts.append(f"Variables of the workflow, as JSON:\n{_json(variables)}")
    return "\n\n".join(parts) or None


def _told(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if not name.startswith(PREFIX)}


def _json(value: Any) -> str:
    return to_json(value).decode()
