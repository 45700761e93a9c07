"""The ``deps`` of an agent step, with the output of the step before it."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field, model_validator

from paigeant.context import ActivityContext


class PreviousOutput(BaseModel):
    """The previous step's output: ``agent_name`` is that step's activity, ``output`` its result as JSON types."""

    agent_name: str
    output: Any = None


class WorkflowDependencies(BaseModel):
    """The ``deps`` of an agent step. Subclasses add their own fields.

    ``previous_output`` is the output of the step before. The worker fills it in when the step runs; messages never
    carry it. It is None at the start of a workflow.
    """

    filled_on_reading: ClassVar = frozenset({"previous_output"})

    previous_output: PreviousOutput | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _with_previous_output(self) -> Self:
        if self.previous_output is None:
            self.__dict__["previous_output"] = _found_before()  # works for frozen subclasses, too
        return self


def _found_before() -> PreviousOutput | None:
    context = ActivityContext.running()
    if context is None or context.is_compensating or (entry := context.message.routing_slip.previous) is None:
        return None
    return PreviousOutput(agent_name=entry.name, output=context.previous)
