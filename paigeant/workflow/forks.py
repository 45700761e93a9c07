"""Forks: new workflows that start at a step of another workflow, with the outputs of the steps before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from paigeant.activity import problem
from paigeant.decisions.fork import slip_at
from paigeant.decisions.plan import Send
from paigeant.dispatch.catalog import Catalog
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.packing import Packed
from paigeant.errors import InvalidArguments, WorkflowError, WorkflowNotFound
from paigeant.events import WorkflowDispatched
from paigeant.records.workflow import WorkflowRecord, elsewhere
from paigeant.runtime.clock import Clock
from paigeant.store import Store
from paigeant.wire.ids import new_correlation_id
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.names import check_name
from paigeant.wire.slip import RoutingSlip
from paigeant.wire.times import Times, When


@dataclass(frozen=True, slots=True)
class Forks:
    """Forks the workflows of one store. ``handle`` returns the handle for a workflow's id."""

    dispatcher: Dispatcher
    store: Store
    catalog: Catalog
    clock: Clock
    handle: Callable[[str], Any]

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
        """Fork a workflow and return the handle of the fork; see :meth:`paigeant.Workflow.fork`."""
        check_name("the id of a workflow", id)
        origin, course = await self.store.workflow(correlation_id), await self.store.course(correlation_id)
        if origin is None or course is None:
            raise WorkflowNotFound(f"no workflow {correlation_id!r}", correlation_id=correlation_id)
        taken_back = {step.id for step in origin.steps if step.heading == "back" and step.status == "compensated"}
        slip = slip_at(correlation_id, course, taken_back, from_step)
        slip = self._edited(slip, arguments or {}, prompt, variables or {})
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
        begun = self.dispatcher.packing.begun(Send(message), now, forked=correlation_id)
        await self._check_broker(correlation_id, begun)
        await self.dispatcher.beginning.start(_of(origin, begun), repeated=id is not None)
        return self.handle(message.correlation_id)

    def _edited(
        self, slip: RoutingSlip, arguments: Mapping[str, Any], prompt: str | None, variables: Mapping[str, Any]
    ) -> RoutingSlip:
        """Return the slip with these variables, and with these arguments and this prompt for its first step."""
        step, *ahead = slip.itinerary
        step = step.changed("arguments", self.catalog.serialize_arguments(step.name, arguments))
        if prompt is not None:
            step = step.with_field("prompt", prompt)
        slip = slip.changed("variables", self.catalog.serialize(variables, (step, *ahead)))
        return slip.model_copy(update={"itinerary": (step, *ahead)})

    async def _check_broker(self, correlation_id: str, begun: Packed) -> None:
        """Raise an error if the fork would be published to a broker that no worker of its App uses."""
        known = await self.store.brokers()
        for outgoing in begun.outgoing:
            if (owner := elsewhere(outgoing.queue, self.dispatcher.owner, known)) is not None:
                raise WorkflowError(
                    f"workflow {correlation_id} cannot be forked here: queue {outgoing.queue} is on another broker",
                    correlation_id=correlation_id,
                    hint=f"fork it with the App {owner.prefix!r}, which uses {owner.address or 'that broker'}",
                )


def _of(origin: WorkflowRecord, begun: Packed) -> Packed:
    """Mark the dispatch event of a new workflow as that of a fork, with the original workflow's id and App."""
    first, *rest = begun.facts
    assert isinstance(first, WorkflowDispatched)
    return replace(begun, facts=[replace(first, forked_from=origin.correlation_id, app=origin.app), *rest])
