"""The catalog of an App's activities: converts what developers write to the steps of a routing slip."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import TypeVar

from paigeant.activity import Activity
from paigeant.activity.builtin import approval_step, end_step, flat, named_step, signal_step, sleep_step
from paigeant.activity.scatter import map_step, scatter_step
from paigeant.dispatch.packing import queue_name
from paigeant.errors import ConfigurationError, InvalidArguments, ScopesMissing, StoreRequired
from paigeant.transport import Features
from paigeant.wire.names import check_log, check_step
from paigeant.wire.retry import RetryPolicy
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.typed_values import Form, serialize_for
from paigeant.wire.user_token import listed
from paigeant.wire.values import jsonable_each

BUILT_IN: Mapping[str, Activity[..., Any]] = {
    one.name: one for one in (sleep_step, signal_step, approval_step, scatter_step, map_step, end_step)
}
"""Activities that every worker serves."""

_LIKE_A_NAME = re.compile(r"(?!.*://)[\w.:/@#+-]{1,255}")
"""Pattern for the name of an activity of another service. For any other name, write ``ActivitySpec(name=...)``."""

Step = Activity[..., Any] | ActivitySpec | str
"""An element of an itinerary: an activity, a step, or the name of an activity of another service."""

Steps = Step | RoutingSlip | Iterable[Step]
"""The type of one argument of ``app.dispatch``."""

MYPY = False
"""True for mypy, false for Python and other type checkers."""

D = TypeVar("D", default=Any)
"""The output type of the last step; Any where it is unknown."""

if TYPE_CHECKING:
    Last = Activity[..., Any, D] | ActivitySpec[D] | str | RoutingSlip | Iterable[Step]
    """The type of the last argument of ``app.dispatch``, from which type checkers infer the type of the result."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The activities of one App, and the queues that serve them."""

    activities: Mapping[str, Activity[..., Any]]
    prefix: str

    def find(self, name: str) -> Activity[..., Any] | None:
        """Return the activity of this name, of this App or built in; None if there is none."""
        return self.activities.get(name) or BUILT_IN.get(name)

    def queue_of(self, activity: Activity[..., Any]) -> str:
        """Return the full name of the queue of an activity."""
        return queue_name(self.prefix, activity.queue or activity.name)

    def policy_of(self, step: ActivitySpec) -> RetryPolicy:
        """Return the retry policy of the step, as far as it is known here."""
        known = self.find(step.name)
        return step.retry or (known.retry if known else RetryPolicy())

    def slip(self, steps: Sequence[Any], variables: Mapping[str, Any]) -> RoutingSlip:
        """Return a slip over these steps, with their queues, checked as far as possible here.

        Raises:
            InvalidArguments: there is no step, a value is not a step, an argument is wrong or missing, or a name
                contains a character that nobody sees.
        """
        if len(steps) == 1 and isinstance(steps[0], RoutingSlip):
            serialized = self.serialize(variables, steps[0].itinerary)
            check_log(steps[0])
            slip = steps[0].model_copy(update={"variables": {**steps[0].variables, **serialized}})
            slip = slip.model_copy(update={"itinerary": tuple(self._addressed(step) for step in slip.itinerary)})
        else:
            ahead = self.specs(steps)
            slip = RoutingSlip(itinerary=ahead, variables=self.serialize(variables, ahead))
        planned, slip = bool(slip.itinerary), slip.from_first_wanted()
        if planned and slip.is_finished():
            raise InvalidArguments(
                "there is no step whose condition holds", hint="a condition is on a variable given here"
            )
        if slip.is_finished():
            raise InvalidArguments("there is no step to dispatch", hint="app.dispatch(first_activity, second_activity)")
        if not slip.log:
            self._check_first(slip.itinerary[0], slip.variables)
        self._refuse_split_conversations(slip.itinerary)
        return slip

    def _refuse_split_conversations(self, steps: Sequence[ActivitySpec]) -> None:
        """Raise an error if a step after branches continues a conversation of them: it would not see their messages."""
        for at, step in enumerate(steps):
            inside = {name for slip in step.branches for name in self._conversations(slip.itinerary)}
            for name in sorted(inside & set(self._conversations(steps[at + 1 :]))):
                raise InvalidArguments(
                    f"the conversation {name!r} goes on behind branches that use it, and what they say stays in them",
                    hint="give the conversations in branches other names, and pass on the results of the branches",
                )
            for slip in step.branches:
                self._refuse_split_conversations(slip.itinerary)

    def _conversations(self, steps: Iterable[ActivitySpec]) -> Iterator[str]:
        """Yield the conversations that the steps, and those in their branches, take part in."""
        for step in steps:
            known = self.find(step.name)
            if known is not None and (name := known.conversation_of(step)) is not None:
                yield name
            for slip in step.branches:
                yield from self._conversations(slip.itinerary)
            yield from self._conversations(step.otherwise)

    def refuse_what_is_stored(self, slip: RoutingSlip, idempotency_key: str | None) -> None:
        """Check the slip for an App without a store.

        Raises:
            StoreRequired: the workflow needs a store.
        """
        for what in self._stored(slip, idempotency_key):
            raise StoreRequired(
                f"{what}, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )

    def _stored(self, slip: RoutingSlip, idempotency_key: str | None) -> Iterator[str]:
        if idempotency_key is not None:
            yield f"idempotency key {idempotency_key!r} needs a store"
        for step in _all(slip.itinerary):
            if step.name in BUILT_IN and step.name != end_step.name:
                yield f"a step {step.name!r} waits in a store"
            elif (known := self.find(step.name)) is not None and known.limits:
                yield f"the {known.limits[0].what} of step {step.name!r} needs a store"
            elif self.policy_of(step).exhausted == "park":
                yield f"step {step.name!r} waits in a store when its attempts are used up"

    def serialize(self, variables: Mapping[str, Any], steps: Iterable[ActivitySpec]) -> dict[str, Any]:
        """Return variables as JSON types, in the form in which steps that have such a parameter read them.

        Raises:
            NotSerializable: a part of a variable has no JSON form, or would change; the error names it.
        """
        steps = tuple(steps)
        return {
            name: serialize_for(self._readers(name, steps), value, f"variables[{name!r}]")
            for name, value in variables.items()
        }

    def _readers(self, name: str, steps: Iterable[ActivitySpec]) -> Iterator[Form]:
        """Yield the form in which each known step reads a variable that is its parameter."""
        for step in steps:
            known = self.find(step.name)
            if known is not None and name not in step.arguments and name not in known.step_only:
                parameter = known.signature.open.get(name)
                if parameter is not None:
                    yield parameter.form
            for slip in step.branches:
                yield from self._readers(name, slip.itinerary)
            yield from self._readers(name, step.otherwise)

    def serialize_arguments(self, step: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments for a step of this name as JSON types, checked as far as possible here.

        Raises:
            InvalidArguments, NotSerializable: as :meth:`Activity.step` does.
        """
        known = self.find(step)
        return jsonable_each(arguments, "argument") if known is None else known.serialize(arguments)

    def specs(self, steps: Iterable[Any]) -> tuple[ActivitySpec, ...]:
        """Return the steps, each with its queue, so that no worker needs to know the queues of other services."""
        return tuple(self._addressed(step) for step in flat(steps, self._named))

    def _named(self, name: str) -> ActivitySpec:
        """Return a step of the activity of this name. The activity may belong to another service.

        Raises:
            InvalidArguments: the text does not look like a name; most often it is the return value of an activity.
        """
        if self.find(name) is None and not _LIKE_A_NAME.fullmatch(name):
            raise InvalidArguments(
                f"{reprlib.repr(name)} cannot be the name of an activity",
                hint="to plan a step write activity.step(...), as activity(...) runs it at once",
            )
        return named_step(name)

    def _addressed(self, step: ActivitySpec) -> ActivitySpec:
        check_step(step)
        known = self.find(step.name)
        if known is not None:
            given = step.arguments if step.deps is None else {"deps": step.deps, **step.arguments}
            known.refuse_unknown(given)
            known.refuse_wrong(given)
        queue = step.queue or (self.queue_of(known) if known else queue_name(self.prefix, step.name))
        patience = step.start_timeout or (known.start_timeout if known else None)
        branches = tuple(self._branch(slip) for slip in step.branches)
        otherwise = self.specs(step.otherwise)
        changes = {"queue": queue, "start_timeout": patience, "branches": branches, "otherwise": otherwise}
        return step.model_copy(update=changes)

    def refuse_scopes(self, steps: Iterable[ActivitySpec], scopes: Collection[str]) -> None:
        """Check the steps, and those in their branches, for a user with these scopes.

        Raises:
            ScopesMissing: an activity that is known here needs another scope.
        """
        for step in steps:
            known = self.find(step.name)
            if known is not None and (missing := known.scopes.difference(scopes)):
                raise ScopesMissing(
                    f"{step.name!r} needs {listed(missing)}, and here it would have {listed(scopes)}",
                    hint="pass obo_token=...; an agent passes on only scopes that its activity declares",
                )
            for slip in step.branches:
                self.refuse_scopes(slip.itinerary, scopes)
            self.refuse_scopes(step.otherwise, scopes)

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


def _all(steps: Iterable[ActivitySpec]) -> Iterator[ActivitySpec]:
    """Yield the steps, each with the steps that run instead of it if it fails."""
    for step in steps:
        yield step
        yield from _all(step.otherwise)


def refuse_priority(slip: RoutingSlip, features: Features) -> None:
    """Raise an error rather than ignore a step's priority silently.

    Raises:
        ConfigurationError: the broker ignores priorities.
    """
    urgent = next((step for step in _all(slip.itinerary) if step.priority), None)
    if urgent is not None and features.disregards_priority:
        raise ConfigurationError(
            f"step {urgent.name!r} has priority {urgent.priority}, and this broker delivers in order of arrival",
            hint="leave the priority out, or use a database or Redis as the broker",
        )
