"""Plans steps and dispatches workflows. All changes take effect with the outcome of the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paigeant.context.on_behalf import OnBehalf
from paigeant.context.outputs import Outputs
from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.runtime.nearest import suggestion
from paigeant.wire.budget import Budget
from paigeant.wire.ids import derive_child_id
from paigeant.wire.join import Branch
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.names import check_name
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.times import Times, When
from paigeant.wire.usage import Usage

_ONE_STEP = Usage(steps=1)


@dataclass(frozen=True, slots=True)
class Planning:
    """Collects in the state of a step the steps that it inserts or skips, and the workflows that it begins."""

    state: StepState
    services: Services
    outputs: Outputs
    behalf: OnBehalf

    def insert(self, steps: Sequence[Any]) -> None:
        """Insert steps right after this one, behind those inserted before."""
        if self.state.is_compensating:
            raise ConfigurationError("a compensation cannot insert steps", hint="it can ctx.dispatch() a workflow")
        judged = [self._judged(step) for step in self.specs(steps)]
        self.state.insert(step for step in judged if step is not None)

    def _judged(self, step: ActivitySpec) -> ActivitySpec | None:
        """The step without its condition if that holds already; None if it does not hold."""
        log = self.state.message.routing_slip.log
        if step.when is None or not any(step.when.output in (entry.name, entry.id) for entry in log):
            return step
        name = step.when.output or ""
        return step.judged((name,), self.outputs.of(name))

    def skip(self, steps: Sequence[str]) -> None:
        """Leave out steps ahead, by name or id."""
        slip = self.state.message.routing_slip
        ahead = slip.itinerary[1:] if not slip.is_back else ()
        for name in steps:
            if not any(name in (step.name, step.id) for step in ahead):
                more = suggestion(name, (step.name for step in ahead))
                raise KeyError(f"no step {name!r} ahead; ahead: {[step.name for step in ahead]}{more}")
        self.state.skip(steps)

    def dispatch(
        self,
        steps: Sequence[Any],
        *,
        variables: Mapping[str, Any],
        name: str | None,
        deadline: When | None,
        budget: Budget | None,
        key: str | None,
    ) -> str:
        """Dispatch a workflow and return its id."""
        check_name("the name of a workflow", name)
        check_name("the key of a dispatched workflow", key)
        state, planned = self.state, self.specs(steps)
        slip = RoutingSlip(itinerary=planned, variables=self.services.planning().serialize(variables, planned))
        slip = slip.dispatched_by(state.message.routing_slip, state.inserting)
        slip = slip.within(self._budget_for_child(budget))
        ends_at = Times.of(self.services.clock.now(), deadline=deadline).deadline
        place, ordinal = state.next_child(key)
        return self.begin(place, ordinal, slip, name or state.message.name, ends_at=ends_at)

    def _budget_for_child(self, wanted: Budget | None) -> Budget | None:
        message = self.state.message
        slip = message.charged(_ONE_STEP, *message.set_apart_for(self.state.edits.children)).routing_slip
        return wanted if slip.budget is None else slip.budget.granted(slip.used, wanted)

    def begin(
        self,
        place: str,
        ordinal: int,
        slip: RoutingSlip,
        name: str,
        branch: Branch | None = None,
        ends_at: float | None = None,
    ) -> str:
        """Begin a workflow over this slip and return its id, which derives from the place and the ordinal."""
        message = self.state.message
        if branch is not None:
            slip = slip.begun_by(message.routing_slip)
        slip = slip.from_first_wanted()
        if slip.is_finished():
            raise InvalidArguments(f"{name!r} has no step whose condition holds")
        limits = [limit for limit in (ends_at, message.ends_at) if limit is not None]
        child = PaigeantMessage(
            correlation_id=derive_child_id(message.correlation_id, place, ordinal),
            causation_id=message.id,
            name=name,
            routing_slip=slip,
            parent=message.correlation_id,
            branch=branch,
            deadline=min(limits, default=None),
            obo_token=message.obo_token,
            principal=message.principal,
        )
        self.state.begin([child])
        return child.correlation_id

    def specs(self, steps: Sequence[Any]) -> tuple[ActivitySpec, ...]:
        """The steps as the message carries them, each checked and with its queue.

        Raises:
            ScopesMissing: an activity is known to need a scope that this step cannot pass on.
        """
        planned = self.services.planning().specs(steps)
        self.refuse_scopes(planned)
        return planned

    def refuse_scopes(self, steps: Iterable[ActivitySpec]) -> None:
        """Raise ScopesMissing as :meth:`specs` does, for steps that already have their queues."""
        self.services.planning().refuse_scopes(steps, self.behalf.scopes_to_plan)
