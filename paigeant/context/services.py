"""The parts of a worker that a running step can use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paigeant.context.pulse import Pulse
from paigeant.events import Cancellation
from paigeant.records.journal import Turn, Unit
from paigeant.runtime.clock import Clock, SystemClock
from paigeant.store import Store
from paigeant.wire.limits import VALUE
from paigeant.wire.log import LogEntry
from paigeant.wire.slip import ActivitySpec, RoutingSlip

ReadOutput = Callable[[LogEntry], Any]
"""Reads from the store the output of a step that the message does not contain."""


class Display(Protocol):
    """Shows values of a running step. No method raises, and none waits for a store that hangs."""

    async def report(self, details: Any) -> None:
        """Record the step's progress, given as JSON types. The record exists when this returns."""
        ...

    def emit(self, value: Any) -> None:
        """Show a value."""
        ...

    def stream(self, value: Any) -> None:
        """Show an event of an agent, given as JSON types."""
        ...


class Plans(Protocol):
    """Turns the steps and variables that developers write into their wire form."""

    def specs(self, steps: Iterable[Any]) -> tuple[ActivitySpec, ...]:
        """Check the steps and add the queue that each one goes to."""
        ...

    def refuse_scopes(self, steps: Iterable[ActivitySpec], scopes: Collection[str]) -> None:
        """Raise ScopesMissing if an activity of these steps is known to need other scopes."""
        ...

    def serialize(self, variables: Mapping[str, Any], steps: Iterable[ActivitySpec]) -> dict[str, Any]:
        """Return the variables as JSON types, so that these steps read the same values."""
        ...


class Vouching(Protocol):
    """Signs and checks the units in the journal of a running step."""

    def signed(self, turn: Turn, unit: Unit) -> Unit:
        """Return the unit with its proof."""
        ...

    def believed(self, turn: Turn, units: Iterable[Unit]) -> Sequence[Unit]:
        """Return those of these units that are proved, and record that the others are not."""
        ...


class Stopping(Protocol):
    """Reports whether a running step must stop because somebody cancelled its workflow."""

    cancellation: Cancellation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services of a worker for a running step. A test sets the services that its step uses.

    ``rests`` are the remaining steps of branches that an earlier attempt began and that did not complete, by the id of
    the branch. ``claims`` are the verified claims of the user's token; None if the workflow acts for no user.
    ``value_limit`` is the maximum size of a value in bytes.
    ``declared`` are the scopes that the running activity declares, and ``is_agent`` says whether a model runs in it.
    """

    display: Display | None = None
    plans: Plans | None = None
    read: ReadOutput | None = None
    pulse: Pulse | None = None
    clock: Clock = field(default_factory=SystemClock)
    stop: Stopping | None = None
    vouching: Vouching | None = None
    store: Store | None = None
    worker: str = ""
    rests: Mapping[str, RoutingSlip] = field(default_factory=dict)
    claims: Mapping[str, Any] | None = None
    value_limit: int = VALUE
    declared: frozenset[str] = frozenset()
    is_agent: bool = False

    def planning(self) -> Plans:
        """Return ``plans``.

        Raises:
            LookupError: no worker runs the step.
        """
        if self.plans is None:
            raise LookupError("steps can be planned in a running step only")
        return self.plans
