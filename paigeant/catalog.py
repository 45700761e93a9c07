"""What an App knows of activities: from what developers write to the steps of a routing slip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paigeant.activity import Activity
from paigeant.dispatch import queue_name
from paigeant.errors import ConfigurationError, InvalidArguments, StoreRequired
from paigeant.retry import RetryPolicy
from paigeant.scattering import map_step, scatter_step
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.steps import approval_step, flat, signal_step, sleep_step
from paigeant.transport import Features

BUILT_IN: Mapping[str, Activity[..., Any]] = {
    one.name: one for one in (sleep_step, signal_step, approval_step, scatter_step, map_step)
}
"""What every worker runs."""

Step = Activity[..., Any] | ActivitySpec | str
"""What an itinerary can be written with: an activity, a step, or the name of an activity that lives elsewhere."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The activities of one App, and where they are served."""

    activities: Mapping[str, Activity[..., Any]]
    prefix: str

    def find(self, name: str) -> Activity[..., Any] | None:
        """The activity of this name, of this App's or one that every worker runs."""
        return self.activities.get(name) or BUILT_IN.get(name)

    def queue_of(self, activity: Activity[..., Any]) -> str:
        """The full name of the queue an activity is served from."""
        return queue_name(self.prefix, activity.queue or activity.name)

    def policy_of(self, step: ActivitySpec) -> RetryPolicy:
        """When the step is tried again, as far as can be known here."""
        known = self.find(step.name)
        return step.retry or (known.retry if known else RetryPolicy())

    def slip(self, steps: Sequence[Any], variables: Mapping[str, Any]) -> RoutingSlip:
        """A slip over these steps, addressed and checked as far as can be known here.

        Raises:
            InvalidArguments: no step, something that is none, or a wrong or missing argument.
        """
        if len(steps) == 1 and isinstance(steps[0], RoutingSlip):
            slip = steps[0].model_copy(update={"variables": {**steps[0].variables, **_written(variables)}})
            slip = slip.model_copy(update={"itinerary": tuple(self._addressed(step) for step in slip.itinerary)})
        else:
            slip = RoutingSlip(itinerary=self.specs(steps), variables=dict(variables))
        planned, slip = bool(slip.itinerary), slip.from_first_wanted()
        if planned and slip.is_finished():
            raise InvalidArguments(
                "there is no step whose condition holds", hint="a condition is on a variable given here"
            )
        if slip.is_finished():
            raise InvalidArguments("there is no step to dispatch", hint="app.dispatch(first_activity, second_activity)")
        if not slip.log:
            self._check_first(slip.itinerary[0], slip.variables)
        return slip

    def refuse_what_is_stored(self, slip: RoutingSlip, idempotency_key: str | None) -> None:
        """For who has no store.

        Raises:
            StoreRequired: the workflow needs one.
        """
        for what in self._stored(slip, idempotency_key):
            raise StoreRequired(
                f"{what}, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )

    def _stored(self, slip: RoutingSlip, idempotency_key: str | None) -> Iterator[str]:
        if idempotency_key is not None:
            yield f"what idempotency key {idempotency_key!r} stands for is kept in a store"
        for step in slip.itinerary:
            if step.name in BUILT_IN:
                yield f"a step {step.name!r} waits in a store"
            elif (known := self.find(step.name)) is not None and known.limits:
                yield f"the {known.limits[0].what} of step {step.name!r} is kept in a store"
            elif self.policy_of(step).exhausted == "park":
                yield f"step {step.name!r} waits in a store when its attempts are used up"

    def specs(self, steps: Iterable[Any]) -> tuple[ActivitySpec, ...]:
        """The steps, each with its queue, so that no worker needs to know where another one listens."""
        return tuple(self._addressed(step) for step in flat(steps))

    def _addressed(self, step: ActivitySpec) -> ActivitySpec:
        known = self.find(step.name)
        if known is not None:
            given = step.arguments if step.deps is None else {"deps": step.deps, **step.arguments}
            known.refuse_unknown(given)
            known.refuse_wrong(given)
        queue = step.queue or (self.queue_of(known) if known else queue_name(self.prefix, step.name))
        patience = step.start_timeout or (known.start_timeout if known else None)
        branches = tuple(self._branch(slip) for slip in step.branches)
        return step.model_copy(update={"queue": queue, "start_timeout": patience, "branches": branches})

    def _branch(self, slip: RoutingSlip) -> RoutingSlip:
        return slip.model_copy(update={"itinerary": self.specs(slip.itinerary)})

    def _check_first(self, step: ActivitySpec, variables: Mapping[str, Any]) -> None:
        known = self.find(step.name)
        if known is None:
            return
        known.refuse_wrong({name: value for name, value in variables.items() if name not in step.arguments})
        given = {**step.arguments, **({"prompt": step.prompt} if step.prompt is not None else {})}
        if unfilled := known.unfilled(given, variables):
            raise InvalidArguments(
                f"activity {step.name!r} needs {unfilled[0]!r}, and nothing comes before it",
                hint=f"pass {step.name}.step({unfilled[0]}=...) or variables={{{unfilled[0]!r}: ...}}",
            )


def _written(variables: Mapping[str, Any]) -> dict[str, Any]:
    return RoutingSlip(variables=dict(variables)).variables


def refuse_priority(slip: RoutingSlip, features: Features) -> None:
    """A step that is to go first must not silently wait its turn.

    Raises:
        ConfigurationError: the broker takes no heed of priorities.
    """
    urgent = next((step for step in slip.itinerary if step.priority), None)
    if urgent is not None and features.disregards_priority:
        raise ConfigurationError(
            f"step {urgent.name!r} has priority {urgent.priority}, and this broker hands out what came first",
            hint="leave the priority out, or use a database or Redis as the broker",
        )
