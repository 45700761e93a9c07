"""What a step changes in what comes after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count as count_from
from typing import Any

from paigeant.children import is_old_failure
from paigeant.context.facts import Facts
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.ids import derive_child_id
from paigeant.join import Branch
from paigeant.message import PaigeantMessage
from paigeant.outcome import Edits
from paigeant.slip import ActivitySpec, RoutingSlip, count
from paigeant.times import Times, When


class Changes(Facts):
    """The part of a step's context that plans steps and begins workflows. All of it is done when the step completes."""

    __slots__ = ("_edits", "_inserted_before")
    _edits: Edits
    _inserted_before: int

    @property
    def edits(self) -> Edits:
        """What this step changes in the workflow when it completes."""
        return self._edits

    @property
    def inserting(self) -> int:
        """How many steps it inserts so far: in an agent's tool call, with those of the calls before."""
        return self._inserted_before + count(self._edits.insert)

    def insert(self, *steps: Any) -> None:
        """Put steps right after this one, in this order, when it completes; they come behind those inserted before.

        Raises:
            InvalidArguments: something that is no step, or a wrong argument.
            ConfigurationError: the step is being taken back: nothing comes after it.
        """
        if self.is_compensating:
            raise ConfigurationError("a compensation cannot insert steps", hint="it can ctx.dispatch() a workflow")
        planned = [self._judged(step) for step in self._planned(steps)]
        wanted = (step for step in planned if step is not None)
        self._edits = replace(self._edits, insert=(*self._edits.insert, *wanted))

    def _judged(self, step: ActivitySpec) -> ActivitySpec | None:
        """A condition on what has come already is decided now."""
        log = self._message.routing_slip.log
        if step.when is None or not any(step.when.output in (entry.name, entry.id) for entry in log):
            return step
        name = step.when.output or ""
        return step.judged((name,), self.output(name))

    def skip(self, *steps: str) -> None:
        """Leave out steps ahead, by name or id, when this one completes.

        Raises:
            KeyError: there is no such step ahead.
        """
        slip = self._message.routing_slip
        ahead = slip.itinerary[1:] if not slip.is_back else ()
        for name in steps:
            if not any(name in (step.name, step.id) for step in ahead):
                raise KeyError(f"no step {name!r} ahead; ahead: {[step.name for step in ahead]}")
        self._edits = replace(self._edits, skip=(*self._edits.skip, *steps))

    def dispatch(
        self,
        *steps: Any,
        variables: Mapping[str, Any] | None = None,
        name: str | None = None,
        deadline: When | None = None,
    ) -> str:
        """Send another workflow on its way, when this step completes or waits for it; its id.

        The id is derived from this step, so however often the step runs, it is one workflow. Its deadline is that of
        this one, or an earlier one: a time, or seconds from now.

        Raises:
            InvalidArguments: no step, something that is none, or a wrong argument.
        """
        slip = RoutingSlip(itinerary=self._planned(steps), variables=dict(variables or {}))
        ends_at = Times.of(self._clock.now(), deadline=deadline).deadline
        ordinal = len(self._edits.children)
        place = self._place_of_child(ordinal)
        return self._begin(place, ordinal, slip, name or self._message.name, ends_at=ends_at)

    def _place_of_child(self, ordinal: int) -> str:
        """What the id of the nth child derives from: in a later attempt the same, unless that child has failed."""
        message, place = self._message, self._place
        places = (f"{place}@{tried}" if tried else place for tried in count_from(0))
        ids = ((one, derive_child_id(message.correlation_id, one, ordinal)) for one in places)
        return next(one for one, child in ids if not is_old_failure(message.received, child))

    def _begin(
        self,
        place: str,
        ordinal: int,
        slip: RoutingSlip,
        name: str,
        branch: Branch | None = None,
        ends_at: float | None = None,
    ) -> str:
        message = self._message
        slip = slip.begun_by(message.routing_slip).from_first_wanted()
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
        self._edits = replace(self._edits, children=(*self._edits.children, child))
        return child.correlation_id

    def _planned(self, steps: Sequence[Any]) -> tuple[ActivitySpec, ...]:
        if self._plan is None:
            raise LookupError("steps can be planned in a running step only")
        return self._plan(steps)
