"""Tools with which an agent reads outputs of its workflow and dispatches other workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError
from paigeant.wire.slip import ActivitySpec

if TYPE_CHECKING:
    from pydantic_ai.toolsets import FunctionToolset


def workflow_tools(*, may_dispatch: Sequence[str] = ()) -> FunctionToolset[Any]:
    """A toolset for agents that workers run: ``Agent(..., toolsets=[workflow_tools(may_dispatch=["ship"])])``.

    ``read_output`` reads the output of an earlier step. ``dispatch_workflow`` dispatches a workflow over activities
    named in ``may_dispatch``, in any order and number; ``send_to_activity`` dispatches one of them with arguments. If
    ``may_dispatch`` is empty, the toolset has neither of the two.

    Raises:
        ConfigurationError: an entry of ``may_dispatch`` is no name.
    """
    from pydantic_ai.toolsets import FunctionToolset

    if not all(isinstance(name, str) and name for name in may_dispatch):
        raise ConfigurationError("may_dispatch takes names of activities", hint='may_dispatch=["ship", "bill"]')
    toolset: FunctionToolset[Any] = FunctionToolset(id="paigeant")
    toolset.add_function(read_output, takes_ctx=False)
    if may_dispatch:
        toolset.add_function(_dispatching(tuple(may_dispatch)), takes_ctx=False)
        toolset.add_function(_sending(tuple(may_dispatch)), takes_ctx=False)
    return toolset


def read_output(step: str) -> Any:
    """Read the output of an earlier step of the workflow.

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
        """Start another workflow when this step completes. Returns the id of the workflow.

        Args:
            activities: The names of its activities, in the order in which they run.
            variables: Values that its activities can read by name.
        """
        from pydantic_ai import ModelRetry

        if not activities:
            raise ModelRetry("A workflow needs an activity.")
        return _dispatched(*activities, variables=variables)

    dispatch_workflow.__annotations__["activities"] = list[Literal[names]]  # type: ignore[valid-type]
    return dispatch_workflow


def _sending(names: tuple[str, ...]) -> Any:
    def send_to_activity(activity: str, arguments: dict[str, Any] | None = None) -> str:
        """Start another activity when this step completes, without waiting for its result.

        Args:
            activity: The name of the activity.
            arguments: Its arguments, by the names of its parameters. An agent takes a prompt.
        """
        return _dispatched(ActivitySpec(name=activity, arguments=arguments or {}))

    send_to_activity.__annotations__["activity"] = Literal[names]
    return send_to_activity


def _dispatched(*steps: str | ActivitySpec, variables: dict[str, Any] | None = None) -> str:
    """Dispatch a workflow of these steps and return its id. The model receives errors and can correct them."""
    from pydantic_ai import ModelRetry

    try:
        return ActivityContext.current().dispatch(*steps, variables=variables)
    except ConfigurationError as error:
        raise ModelRetry(f"This cannot be sent: {error}") from error
