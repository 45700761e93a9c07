"""The parts of a workflow that an agent's model receives beside the prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic_core import to_json

from paigeant.agents.conversation import PREFIX
from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError

PREVIOUS, VARIABLES = "previous", "variables"
"""Names in ``tells`` that are no variables: the output of the previous step, and all variables."""

DEFAULT = (PREVIOUS,)
"""By default no variable reaches a model provider, because variables may contain secrets of other steps."""


def checked_tells(name: str, tells: Any) -> tuple[str, ...]:
    """Check the option ``tells`` of an activity and return it.

    Raises:
        ConfigurationError: it is no collection of names.
    """
    if isinstance(tells, str) or not isinstance(tells, Collection) or not all(isinstance(one, str) for one in tells):
        raise ConfigurationError(
            f"activity {name!r}: tells is {tells!r}",
            hint=f'name "{PREVIOUS}", "{VARIABLES}" or single variables: tells=("{PREVIOUS}", "customer")',
        )
    return tuple(tells)


def known_so_far(context: ActivityContext, tells: Collection[str]) -> str | None:
    """The chosen parts of the workflow as an instruction; None if they are empty. The prompt stays unchanged."""
    previous = context.message.routing_slip.previous
    parts = []
    if PREVIOUS in tells and previous is not None and previous.output is not None:
        parts.append(f"Output of the previous step ({previous.name}), as JSON:\n{_json(previous.output)}")
    if variables := _told(context.variables, tells):
        parts.append(f"Variables of the workflow, as JSON:\n{_json(variables)}")
    return "\n\n".join(parts) or None


def _told(variables: Mapping[str, Any], tells: Collection[str]) -> dict[str, Any]:
    names = (name for name in variables if VARIABLES in tells or name in tells)
    return {name: variables[name] for name in names if not name.startswith(PREFIX)}


def _json(value: Any) -> str:
    return to_json(value).decode()
