"""Forks: a new workflow that goes on from a step of another one, with what the steps before it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from paigeant.activity import problem
from paigeant.catalog import Catalog
from paigeant.clock import Clock
from paigeant.course import slip_at
from paigeant.dispatch import Dispatcher, Written
from paigeant.errors import InvalidArguments, WorkflowNotFound
from paigeant.events import WorkflowDispatched
from paigeant.ids import new_correlation_id
from paigeant.message import PaigeantMessage
from paigeant.plan import Send
from paigeant.records import WorkflowRecord
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.store import Store
from paigeant.times import Times, When
from paigeant.values import jsonable_each


@dataclass(frozen=True, slots=True)
class Forks:
    """Forks the workflows of one store. ``handle`` makes a workflow's handle from its id and its last step."""

    dispatcher: Dispatcher
    store: Store
    catalog: Catalog
    clock: Clock
    handle: Callable[[str, ActivitySpec], Any]

    async def fork(
        self,
        correlation_id: str,
        from_step: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        variables: Mapping[str, Any] | None = None,
        id: str | None = None,  # noqa: A002 - as dispatch() has it
        deadline: When | None = None,
    ) -> Any:
        """See :meth:`paigeant.Workflow.fork`; the handle of the fork."""
        origin, course = await self.store.workflow(correlation_id), await self.store.course(correlation_id)
        if origin is None or course is None:
            raise WorkflowNotFound(f"no workflow {correlation_id!r}", correlation_id=correlation_id)
        taken_back = {step.id for step in origin.steps if step.heading == "back" and step.status == "compensated"}
        slip = _edited(slip_at(correlation_id, course, taken_back, from_step), arguments, prompt, variables)
        now = self.clock.now()
        try:
            message = PaigeantMessage(
                correlation_id=id or new_correlation_id(),
                name=origin.name,
                routing_slip=self.catalog.slip((slip,), {}),
                deadline=Times.of(now, deadline=deadline).deadline,
            ).due(now)
        except ValidationError as error:
            raise InvalidArguments(f"this cannot be dispatched: {problem(error)}") from error
        begun = self.dispatcher.begun(Send(message), now)
        await self.dispatcher.start(_of(origin, begun), repeated=id is not None)
        return self.handle(message.correlation_id, message.routing_slip.itinerary[-1])


def _edited(
    slip: RoutingSlip, arguments: Mapping[str, Any] | None, prompt: str | None, variables: Mapping[str, Any] | None
) -> RoutingSlip:
    """The slip with these arguments and this prompt of its first step, and these variables; the others as they were."""
    step = slip.itinerary[0].changed("arguments", jsonable_each(arguments or {}, "argument"))
    if prompt is not None:
        step = step.with_field("prompt", prompt)
    slip = slip.changed("variables", jsonable_each(variables or {}, "variable"))
    return slip.model_copy(update={"itinerary": (step, *slip.itinerary[1:])})


def _of(origin: WorkflowRecord, begun: Written) -> Written:
    """The beginning of a workflow as that of a fork."""
    first, *rest = begun.facts
    assert isinstance(first, WorkflowDispatched)
    return replace(begun, facts=[replace(first, forked_from=origin.correlation_id, app=origin.app), *rest])
