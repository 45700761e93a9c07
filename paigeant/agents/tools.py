"""Tools by which an agent reaches its workflow: to read what earlier steps gave, and to send workflows on their way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic_ai.toolsets import FunctionToolset


def workflow_tools(*, may_dispatch: Sequence[str] = ()) -> FunctionToolset[Any]:
    """A toolset for agents that workers run: ``Agent(..., toolsets=[workflow_tools(may_dispatch=["ship"])])``.

    ``read_output`` reads the output of an earlier step. ``dispatch_workflow`` sends a workflow over some of the
    activities that it ``may_dispatch``, by name, in any order and number; without any there is no such tool.

    Raises:
        ConfigurationError: something in ``may_dispatch`` is no name.
    """
    from pydantic_ai.toolsets import FunctionToolset

    if not all(isinstance(name, str) and name for name in may_dispatch):
        raise ConfigurationError("may_dispatch takes names of activities", hint='may_dispatch=["ship", "bill"]')
    toolset: FunctionToolset[Any] = FunctionToolset(id="paigeant")
    toolset.add_function(read_output, takes_ctx=False)
    if may_dispatch:
        toolset.add_function(_dispatching(tuple(may_dispatch)), takes_ctx=False)
    return toolset


def read_output(step: str) -> Any:
    """Read what an earlier step of the workflow gave.

    Args:
        step: The name or id of the step.
    """
    from pydantic_ai import ModelRetry

    context = ActivityContext.current()
    try:
        return context.output(step)
    except KeyError as error:
        done = ", ".join(entry.name for entry in context.message.routing_slip.log)
        raise ModelRetry(f"No step {step!r} has completed. Completed: {done or 'none'}.") from error


def _dispatching(names: tuple[str, ...]) -> Any:
    def dispatch_workflow(activities: list[str], variables: dict[str, Any] | None = None) -> str:
        """Send another workflow on its way, and give its id. It starts when this step completes.

        Args:
            activities: The names of its activities, in the order in which they run.
            variables: Values that its activities can read by name.
        """
        from pydantic_ai import ModelRetry

        if not activities:
            raise ModelRetry("A workflow needs an activity.")
        return ActivityContext.current().dispatch(*activities, variables=variables)

    dispatch_workflow.__annotations__["activities"] = list[Literal[names]]  # type: ignore[valid-type]
    return dispatch_workflow
