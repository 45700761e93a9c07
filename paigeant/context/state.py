"""The mutable state of one running step, and the names that derive from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count as count_from
from typing import Any

from paigeant.context.services import Plans
from paigeant.context.taken import Taken
from paigeant.context.variables import Variables
from paigeant.decisions.children import is_old_failure
from paigeant.decisions.outcome import Edits
from paigeant.errors import InvalidArguments
from paigeant.transport import Delivery
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.ids import derive_child_id, shortened
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.message import SLEEP, PaigeantMessage
from paigeant.wire.slip import ActivitySpec, count
from paigeant.wire.usage import NOTHING, Usage

_KEYED = "keyed"
"""The name in ``awaited`` under which a run counts the workflows that it dispatched with a key."""

_COUNTED_PER_UNIT = (JOIN, _KEYED)
"""Names in ``awaited`` that each tool call counts from zero, because its place differs from that of the step."""

_LONGEST_STEP = 120
"""Characters of a step's id, or of a tool call's, in names that derive from it; a longer one ends in a digest."""


@dataclass(slots=True)
class StepState:
    """The changes, counts and arrivals of one running step so far.

    A tool call of an agent works on a :meth:`fork` with the tool call's ``unit``. The fork reads the state of the step
    and collects its own changes. :meth:`merge` adds them to the step when the call returns; when the call waits
    instead, :meth:`merge_children` adds the workflows that it dispatched, and the call is repeated later.

    ``awaited`` counts questions, scatters and keyed workflows by name. ``taken`` contains the arrivals that the run has
    used; all forks share it. ``took`` contains the arrivals that this state alone has used. ``reported`` is the last
    progress that the step reported, and ``used`` what its model requests and tool calls have used.
    """

    message: PaigeantMessage
    delivery: Delivery
    variables: Variables
    unit: str | None = None
    edits: Edits = field(default_factory=Edits)
    awaited: Counter[str] = field(default_factory=Counter)
    taken: Taken = field(default_factory=Taken)
    took: dict[str, list[int]] = field(default_factory=dict)
    reported: Any = None
    used: Usage = NOTHING
    inserted_before: int = 0
    awaited_before: Counter[str] = field(default_factory=Counter)
    parent: StepState | None = None

    @classmethod
    def of(cls, message: PaigeantMessage, delivery: Delivery, plans: Plans | None = None) -> StepState:
        """The state of a step that starts now. ``plans`` writes the variables that the step sets."""
        slip = message.routing_slip
        write = partial(_variable, plans, () if slip.is_back else slip.itinerary[1:]) if plans is not None else None
        return cls(message, delivery, Variables(slip.variables, write))

    # --- names -----------------------------------------------------------------------------------------------

    @property
    def is_compensating(self) -> bool:
        """Whether the step is being compensated."""
        return self.message.routing_slip.is_back

    @property
    def place(self) -> str:
        """The step's id. Its compensation and each of its tool calls have a place of their own."""
        step = shortened(self.message.step.id, _LONGEST_STEP)
        if self.unit is not None:
            return f"{step}:{shortened(self.unit, _LONGEST_STEP)}"
        return f"{step}:back" if self.is_compensating else step

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and redelivery of this place, and another one after a redrive."""
        return f"{self.message.correlation_id}:{self.place}:{self.message.epoch}"

    @property
    def sleep_key(self) -> str:
        """The key of a timer of this place."""
        return SLEEP if self.unit is None else f"{SLEEP}:{self.place}"

    def approval_key(self, which: str) -> str:
        """The key of the question that ``which`` names among the questions of this place."""
        return f"{APPROVAL}{self.place}:{which}"

    def nth_question(self, content: str) -> int:
        """Count a question with this content: how many equal ones the run asked before."""
        return self._counted(f"{APPROVAL}{content}")

    def nth_scatter(self) -> int:
        """Count a scatter: how many this place began before."""
        return self._counted(JOIN)

    def _counted(self, name: str) -> int:
        before = self.awaited[name]
        self.awaited[name] += 1
        return before

    def next_child(self, key: str | None) -> tuple[str, int]:
        """The place and number from which the id of the next workflow derives that this step dispatches.

        Raises:
            InvalidArguments: the run has used this key, or it is no text.
        """
        if key is None:
            ordinal = len(self.edits.children) - self.awaited[_KEYED]
            return self._place_of_child(self.place, ordinal), ordinal
        if not key or not isinstance(key, str):
            raise InvalidArguments(f"key: a text that is not empty, not {key!r}")
        place = f"{self.place}#{key}"
        if self.awaited[place]:
            raise InvalidArguments(f"key: this step has dispatched a workflow with the key {key!r} already")
        self.awaited.update((_KEYED, place))
        return self._place_of_child(place, 0), 0

    def _place_of_child(self, place: str, ordinal: int) -> str:
        """The place itself, in later attempts too, unless the child that was begun there has failed."""
        message = self.message
        places = (f"{place}@{tried}" if tried else place for tried in count_from(0))
        ids = ((one, derive_child_id(message.correlation_id, one, ordinal)) for one in places)
        return next(one for one, child in ids if not is_old_failure(message.received, child))

    # --- changes ---------------------------------------------------------------------------------------------

    @property
    def inserting(self) -> int:
        """How many steps the run inserts or dispatches so far; a fork includes those of the calls before it."""
        return self.inserted_before + count(self.edits.insert) + count(self.edits.dispatched)

    def insert(self, steps: Iterable[ActivitySpec]) -> None:
        """Add these steps after the steps inserted before."""
        self.edits = replace(self.edits, insert=(*self.edits.insert, *steps))

    def skip(self, steps: Iterable[str]) -> None:
        """Leave out the steps ahead with these names or ids."""
        self.edits = replace(self.edits, skip=(*self.edits.skip, *steps))

    def begin(self, children: Iterable[PaigeantMessage]) -> None:
        """Add workflows that begin with the outcome of this run."""
        self.edits = replace(self.edits, children=(*self.edits.children, *children))

    def take(self, key: str) -> int:
        """The number of the first arrival for this key that no other part of the run has used; it is used now."""
        number = self.taken.take(key)
        self.took.setdefault(key, []).append(number)
        return number

    def report(self, details: Any) -> None:
        """Keep the progress for the next attempt. A tool call reports for its step."""
        self.reported = details
        if self.parent is not None:
            self.parent.report(details)

    # --- forks -----------------------------------------------------------------------------------------------

    def fork(self, unit: str) -> StepState:
        """A state for the tool call ``unit``: it starts from this state and collects its own changes."""
        awaited = Counter({name: times for name, times in self.awaited.items() if name not in _COUNTED_PER_UNIT})
        return StepState(
            self.message,
            self.delivery,
            self.variables.apart(),
            unit,
            awaited=awaited,
            taken=self.taken,
            reported=self.reported,
            used=self.used,
            inserted_before=self.inserting,
            awaited_before=Counter(awaited),
            parent=self,
        )

    def effects(self) -> dict[str, Any]:
        """All changes of this fork as JSON types. Journals contain them, so the names must stay readable."""
        edits, (changed, deleted) = self.edits, self.variables.differences()
        found: dict[str, Any] = {
            "insert": [step.to_dict() for step in edits.insert],
            "skip": list(edits.skip),
            "children": [child.to_dict() for child in edits.children],
            "set": changed,
            "delete": deleted,
            "awaited": {name: times for name, times in (self.awaited - self.awaited_before).items() if name != JOIN},
            **self.arrivals(),
        }
        return {name: value for name, value in found.items() if value}

    def arrivals(self) -> dict[str, Any]:
        """The one effect that a refused tool call has too: the arrivals that it used stay used."""
        return {"took": {key: list(numbers) for key, numbers in self.took.items()}} if self.took else {}

    def merge(self, effects: Mapping[str, Any]) -> None:
        """Add the :meth:`effects` of a fork, from this run or from the journal of an earlier one."""
        self.insert(map(ActivitySpec.from_dict, effects.get("insert", ())))
        self.skip(effects.get("skip", ()))
        self.begin(map(PaigeantMessage.from_dict, effects.get("children", ())))
        self.variables.update(effects.get("set", {}))
        for name in effects.get("delete", ()):
            self.variables.pop(name, None)
        self.awaited.update(effects.get("awaited", {}))
        if "took" not in effects:  # earlier releases counted the arrivals in "awaited" alone
            for key, times in effects.get("awaited", {}).items():
                for _ in range(times):
                    self.taken.take(key)

    def merge_children(self, fork: StepState) -> None:
        """Add the workflows of a tool call that waits: they must run while it waits. Its other changes are repeated."""
        self.begin(fork.edits.children)

    def note_taken(self, effects: Mapping[str, Any]) -> None:
        """Mark the arrivals that a recorded tool call used, so that no other part of the run uses them again."""
        for key, numbers in effects.get("took", {}).items():
            self.taken.note(key, numbers)


def _variable(plans: Plans, ahead: Sequence[ActivitySpec], name: str, value: Any) -> Any:
    """A variable that a step sets, as JSON types that the steps ahead can read."""
    return plans.serialize({name: value}, ahead)[name]
