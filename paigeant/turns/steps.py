"""Runs turns on workers: an agent's tools become activities of an App, its turns become workflows of one step."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, get_args

from paigeant.activity import Activity
from paigeant.errors import DuplicateActivity, StoreRequired, TurnTimeout, WorkflowFailed
from paigeant.turns.tools import Tool
from paigeant.wire.typed_values import revive

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.turns.turn import Turn
    from paigeant.workflow import Workflow


class Steps:
    """Runs turns over the App's broker. A tool that streams yields its values while its step runs."""

    def __init__(self, app: App, tools: Iterable[Tool[..., Any]]) -> None:
        if app.store is None:
            raise StoreRequired("turns read their values from a store, and this App has none")
        self.app = app
        self._activities = {one: _activity(app, one) for one in tools}

    async def __call__(self, turn: Turn) -> AsyncGenerator[Any, None]:
        """Dispatch the turn as a step and yield its values as they arrive.

        Raises:
            TurnTimeout, WorkflowFailed: the step ran into its timeout, or failed.
        """
        activity = self._activities[turn.tool]
        step = activity.step(**turn.tool.named(*await turn.arguments())).options(timeout=turn.timeout)
        workflow = await self.app.dispatch(step, name=turn.tool.name)
        try:
            if not turn.tool.streams:
                yield await workflow.result()
                return
            seen = 0
            async for value in _streamed(workflow, get_args(activity.output_type)):
                seen += 1
                yield value
            for value in (await workflow.result())[seen:]:  # the stream can lose values, the output is complete
                yield value
        except WorkflowFailed as failed:
            error = (await workflow.record()).error
            if error is not None and error.type == TimeoutError.__name__:
                raise TurnTimeout(f"{turn!r} took longer than {turn.timeout:g} s") from failed
            raise


async def _streamed(workflow: Workflow, item: tuple[Any, ...]) -> AsyncGenerator[Any, None]:
    """Yield the streamed values up to the first missing one, each once: a step that runs again repeats its values."""
    seen = 0
    async for event in workflow.events():
        if event.type == "step_yielded" and event.data["index"] == seen:
            seen += 1
            yield revive(event.data["value"], item[0]) if item else event.data["value"]


def _activity(app: App, tool: Tool[..., Any]) -> Activity[..., Any]:
    """Return the tool's activity, and register it unless another agent has done so."""
    known = app.activities.get(tool.name)
    if known is None:
        made: Activity[..., Any] = app.activity(name=tool.name, lock=tool.locks)(tool.as_function())
        return made
    if getattr(known.function, "__wrapped__", None) is not tool.function:
        raise DuplicateActivity(f"App {app.name!r} already has an activity {tool.name!r}, which is not this tool")
    return known
