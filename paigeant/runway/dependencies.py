"""What the agent of a step is given as ``deps``."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from paigeant.context import ActivityContext


class PreviousOutput(BaseModel):
    """The output of the step before: ``agent_name`` is that step's activity, ``output`` what it gave, as JSON types."""

    agent_name: str
    output: Any = None


class WorkflowDependencies(BaseModel):
    """The ``deps`` of an agent step; subclasses have fields of their own.

    ``previous_output`` is what the step finds before it. It is filled in where the step runs and never carried there;
    None at the start of a workflow.
    """

    previous_output: PreviousOutput | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _with_previous_output(self) -> Self:
        if self.previous_output is None:
            self.__dict__["previous_output"] = _found_before()  # also where a subclass is frozen
        return self


def _found_before() -> PreviousOutput | None:
    context = ActivityContext.running()
    if context is None or not context.message.routing_slip.log or context.is_compensating:
        return None
    slip = context.message.routing_slip
    return PreviousOutput(agent_name=slip.log[-1].name, output=context.previous)
