"""The routing slip: where a workflow goes, where it has been and what it carries.

The pattern is Hohpe and Woolf's *Routing Slip* (Enterprise Integration Patterns, 2003); itinerary, log and variables
are the words of MassTransit Courier. Slips are frozen: every change is a new slip.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypedDict, overload

from pydantic import AliasChoices, Field, ValidationError, model_validator
from typing_extensions import TypeVar, Unpack

from paigeant.errors import InvalidArguments
from paigeant.runtime.nearest import did_you_mean
from paigeant.wire.budget import Budget
from paigeant.wire.claim_check import Holder
from paigeant.wire.condition import Condition
from paigeant.wire.grant import Grant
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.log import Fault, LogEntry, Undo
from paigeant.wire.model import Label
from paigeant.wire.retry import RetryPolicy
from paigeant.wire.times import LONGEST
from paigeant.wire.typed_values import revive
from paigeant.wire.usage import NOTHING, Usage
from paigeant.wire.values import Json, JsonObject

Output = TypeVar("Output", default=Any, covariant=True)
"""The type of a step's output. Only type checkers read it."""


class Heading(StrEnum):
    """Which way a slip travels: towards its end, or back over completed steps to compensate them."""

    FORWARD = "forward"
    BACK = "back"


class ActivitySpec(Holder, Generic[Output]):
    """One step: a planned run of an activity.

    ``id`` is unique within the slip and given when the slip is built; ``queue`` is filled in at dispatch. ``timeout``
    is seconds per attempt, ``start_timeout`` seconds from when the step is due until a worker starts it. A scatter runs
    its ``branches`` side by side. A step that another one inserted is one deeper than that. ``agent_name=`` is accepted
    for ``name=``. One with a condition ``when`` is run if that holds. The steps ``otherwise`` run instead of a step
    that has failed for good. To type checkers ``ActivitySpec[int]`` is a step
    whose output is an int; a running program ignores the type argument.
    """

    FIELDS: ClassVar = ("prompt", "deps")
    TABLES: ClassVar = ("arguments",)

    name: Annotated[Label, Field(min_length=1, validation_alias=AliasChoices("name", "agent_name"))]
    id: Label = ""
    queue: Label | None = None
    arguments: JsonObject = Field(default_factory=dict)
    prompt: str | None = None
    deps: Json = None
    timeout: Annotated[float, Field(gt=0, le=LONGEST)] | None = None
    start_timeout: Annotated[float, Field(gt=0, le=LONGEST)] | None = None
    retry: RetryPolicy | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    branches: tuple[RoutingSlip, ...] = ()
    depth: Annotated[int, Field(ge=0)] = 0
    when: Condition | None = None
    otherwise: tuple[ActivitySpec, ...] = ()

    if not TYPE_CHECKING:

        def __class_getitem__(cls, output: Any) -> type[ActivitySpec]:
            """The class itself: pydantic would make another class, whose instances are no steps here."""
            return cls

    def judged(self, names: Collection[str], output: Any) -> Self | None:
        """The step now that a step of these names gave this; None if it is not to be run."""
        step = self
        if self.otherwise:
            judged = (one.judged(names, output) for one in self.otherwise)
            step = self.model_copy(update={"otherwise": tuple(one for one in judged if one is not None)})
        if self.when is None or self.when.output not in names:
            return step
        return step.model_copy(update={"when": None}) if self.when.holds(output) else None

    def is_wanted(self, variables: Mapping[str, Any]) -> bool:
        """Whether it is run now that its turn has come. An output that is still awaited will not come."""
        if self.when is None:
            return True
        return self.when.holds(None if self.when.variable is None else variables.get(self.when.variable))

    @property
    def activities(self) -> tuple[str, ...]:
        """The activities of this step and of the steps inside it, those that may run instead of it included."""
        inside = (name for slip in self.branches for step in slip.itinerary for name in step.activities)
        instead = (name for step in self.otherwise for name in step.activities)
        return (self.name, *inside, *instead)

    def deep(self, depth: int) -> Self:
        """The step, and those inside it, as deep as this."""
        branches = tuple(slip.deep(depth) for slip in self.branches)
        otherwise = tuple(step.deep(depth) for step in self.otherwise)
        return self.model_copy(update={"depth": depth, "branches": branches, "otherwise": otherwise})

    @overload
    def options(self, **changes: Unpack[StepOptions]) -> Self: ...
    @overload
    def options(
        self, *, when: Condition | str | None, otherwise: Any = ..., **changes: Unpack[StepOptions]
    ) -> ActivitySpec[Any]: ...
    @overload
    def options(self, *, otherwise: Any, **changes: Unpack[StepOptions]) -> ActivitySpec[Any]: ...

    def options(self, **changes: Any) -> Any:
        """The step with other options than its activity has: ``timeout``, ``start_timeout``, ``retry``, ``queue``,
        ``priority``, ``when`` or ``otherwise``.

        ``otherwise`` is an activity, a step, a name, or a list of these.

        Raises:
            InvalidArguments: there is no such option, or a value is wrong for it.
        """
        for name in changes:
            if name not in OPTIONS:
                hint = did_you_mean(name, OPTIONS, f"it has: {', '.join(sorted(OPTIONS))}")
                raise InvalidArguments(f"a step has no option {name!r}", hint=hint)
        if "otherwise" in changes:
            changes["otherwise"] = tuple(_planned(changes["otherwise"]))
        try:
            return self.model_validate({**dict(self), **changes})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidArguments(f"step {self.name!r}, option {where}: {first['msg']}") from error


class StepOptions(TypedDict, total=False):
    """The options that leave the type of the workflow's result as it is: all but ``when`` and ``otherwise``."""

    timeout: float | None
    start_timeout: float | None
    retry: RetryPolicy | None
    queue: str | None
    priority: int


OPTIONS = frozenset({"timeout", "start_timeout", "retry", "queue", "priority", "when", "otherwise"})
"""What :meth:`ActivitySpec.options` changes."""


def _planned(given: Any) -> Iterator[ActivitySpec]:
    """What developers write as ``otherwise``, a step each."""
    match given:
        case ActivitySpec():
            yield given
        case str():
            yield ActivitySpec(name=given)
        case list() | tuple():
            for one in given:
                yield from _planned(one)
        case _ if not isinstance(given, type) and callable(step := getattr(given, "step", None)):  # an activity
            yield step()
        case _:
            raise InvalidArguments(
                f"otherwise: {reprlib.repr(given)} is not a step",
                hint="pass an activity, activity.step(...), an activity's name, or a list of these",
            )


def compensation_of(entry: LogEntry, undo: Undo) -> ActivitySpec:
    """The step that takes a completed step back, as its log entry describes it."""
    return ActivitySpec(id=entry.id, name=entry.name, queue=undo.queue, arguments=undo.arguments, kept=undo.kept)


def _numbered(steps: tuple[ActivitySpec, ...], taken: set[str]) -> tuple[ActivitySpec, ...]:
    """The steps, each with an id: its ordinal, or the next free one."""
    numbered: list[ActivitySpec] = []
    ordinal = len(taken)
    for step in steps:
        if not step.id:
            ordinal += 1
            while str(ordinal) in taken:
                ordinal += 1
            step = step.model_copy(update={"id": str(ordinal)})
        taken.add(step.id)
        numbered.append(step)
    return tuple(numbered)


def _repeats(ids: list[str]) -> bool:
    return len(set(ids)) != len(ids)


def count(steps: Iterable[ActivitySpec]) -> int:
    """How many steps these are, with those inside them."""
    return sum(len(step.activities) for step in steps)


class RoutingSlip(Holder):
    """An itinerary (steps ahead, the current one first), a log (steps done) and the workflow's variables.

    Of a slip that heads back, the itinerary is the steps to take back, and the log what still stands. ``used`` is what
    completed steps and branches have used of the ``budget``, ``inserted`` how many steps each activity inserted, of
    those that ``grant`` allows. ``registered`` are steps that agents may insert by name, with their prompts and deps.
    ``failed`` are the steps that failed and were replaced by their ``otherwise``.
    """

    TABLES: ClassVar = ("variables",)

    itinerary: tuple[ActivitySpec, ...] = ()
    log: tuple[LogEntry, ...] = ()
    variables: JsonObject = Field(default_factory=dict)
    heading: Heading = Heading.FORWARD
    fault: Fault | None = None
    budget: Budget | None = None
    used: Usage = NOTHING
    grant: Grant = Grant()
    inserted: dict[Label, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    registered: tuple[ActivitySpec, ...] = ()
    failed: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _with_ids(self) -> Self:
        if self.is_back and self.fault is None:
            raise ValueError("the slip heads back, and no fault says why")
        done, ahead = [entry.id for entry in self.log], [step.id for step in self.itinerary if step.id]
        if (_repeats(done) or _repeats(ahead)) if self.is_back else _repeats(done + ahead):
            raise ValueError("two steps of the slip have the same id")
        if len(ahead) < len(self.itinerary):
            # Frozen for everyone else: this runs before the slip is handed out.
            self.__dict__["itinerary"] = _numbered(self.itinerary, {*done, *ahead})
        return self

    @property
    def is_back(self) -> bool:
        """Whether it travels back over completed steps."""
        return self.heading is Heading.BACK

    def next_step(self) -> ActivitySpec | None:
        """The current step, or None at the end."""
        return self.itinerary[0] if self.itinerary else None

    def is_finished(self) -> bool:
        """Whether no step is left."""
        return not self.itinerary

    def completed(
        self,
        entry: LogEntry,
        variables: dict[str, Any] | None = None,
        *,
        insert: tuple[ActivitySpec, ...] = (),
        skip: Collection[str] = (),
        dispatched: int = 0,
    ) -> RoutingSlip:
        """The slip after its current step completed, inserted steps first and those of these names or ids left out.

        ``dispatched`` is how many steps the workflows have that it dispatched; they count as inserted.
        """
        current, ahead = self.itinerary[0], self.itinerary[1:]
        changes: dict[str, Any] = {"log": (*self.log, entry)}
        if skip:
            ahead = tuple(step for step in ahead if step.name not in skip and step.id not in skip)
        if insert:
            ahead = (*(step.deep(current.depth + 1) for step in _numbered(insert, self._taken)), *ahead)
        if insert or dispatched:
            changes["inserted"] = self.with_inserted(current, count(insert) + dispatched)
        judged = (step.judged((entry.name, entry.id), entry.output) for step in ahead)
        changes["itinerary"] = tuple(step for step in judged if step is not None)
        return self.model_copy(update=changes | self._carrying(variables)).from_first_wanted()

    @property
    def _taken(self) -> set[str]:
        """The ids that a new step must not get."""
        return (
            {entry.id for entry in self.log} | {step.id for step in self.itinerary} | {one.step for one in self.failed}
        )

    def instead(self, fault: Fault) -> Self | None:
        """The slip after its current step failed: the steps of its ``otherwise`` take its place.

        None if it has none, or if the condition of none of them holds.
        """
        current, *ahead = self.itinerary
        steps = tuple(step.model_copy(update={"id": ""}) for step in current.otherwise)
        chosen = _numbered(steps, self._taken)
        changes = {"itinerary": (*chosen, *ahead), "failed": (*self.failed, fault)}
        slip = self.model_copy(update=changes).from_first_wanted()
        first = slip.next_step()
        return slip if first is not None and first.id in {step.id for step in chosen} else None

    def from_first_wanted(self) -> Self:
        """The slip without the steps at its head whose conditions do not hold."""
        first = next(
            (n for n, step in enumerate(self.itinerary) if step.is_wanted(self.variables)), len(self.itinerary)
        )
        return self if first == 0 else self.model_copy(update={"itinerary": self.itinerary[first:]})

    def within(self, budget: Budget | None) -> RoutingSlip:
        """The slip with this budget; None: with the one it has."""
        return self if budget is None else self.model_copy(update={"budget": budget})

    def using(self, *used: Usage) -> RoutingSlip:
        """The slip after so much more was used."""
        total = self.used.plus(*used)
        return self if total is self.used else self.model_copy(update={"used": total})

    def _carrying(self, variables: dict[str, Any] | None) -> dict[str, Any]:
        """The changes that make these the variables; None: they stay."""
        if variables is None:
            return {}
        return {"variables": variables, "kept": self.kept_of("variables", variables)}

    def refuses(self, insert: Sequence[ActivitySpec], skip: Collection[str], *, ends: bool) -> str | None:
        """Why the current step may not change the itinerary like this, by the slip's grant; None if it may."""
        if not (insert or skip or ends):
            return None
        current, activities = self.itinerary[0], [name for step in insert for name in step.activities]
        if (refusal := self.grant.refuses_editor(current.name)) is not None or not insert:
            return refusal
        return self.grant.refuses_steps(current.name, activities, current.depth + 1, self.inserted)

    def refuses_dispatch(self, steps: Sequence[ActivitySpec], inserted: int = 0) -> str | None:
        """Why the current step, which inserts so many, may not dispatch these steps as workflows; None if it may.

        They count as inserted ones; whether the step may change its own itinerary does not matter.
        """
        if not steps:
            return None
        current = self.itinerary[0]
        activities = [name for step in steps for name in step.activities]
        before = self.with_inserted(current, inserted)
        return self.grant.refuses_steps(current.name, activities, current.depth + 1, before)

    @property
    def insertions_left(self) -> int:
        """How many steps the current step may insert."""
        return self.grant.left(self.itinerary[0].name, self.itinerary[0].depth + 1, self.inserted)

    def deep(self, depth: int) -> Self:
        """The slip with its steps as deep as this."""
        return self.model_copy(update={"itinerary": tuple(step.deep(depth) for step in self.itinerary)})

    def granting(self, grant: Grant | None) -> Self:
        """The slip with this grant, if one is given."""
        return self if grant is None else self.model_copy(update={"grant": grant})

    def begun_by(self, other: RoutingSlip) -> Self:
        """The slip of a branch that the current step of another slip begins: no more is granted to it than to that."""
        changes = {"grant": other.grant, "inserted": other.inserted, "registered": other.registered}
        return self.deep(other.itinerary[0].depth).model_copy(update=changes)

    def dispatched_by(self, other: RoutingSlip, before: int) -> Self:
        """The slip of a workflow that the current step of another slip dispatches: its steps count as inserted ones.

        ``before`` is how many steps that step has inserted and dispatched so far.
        """
        current = other.itinerary[0]
        inserted = other.with_inserted(current, before + count(self.itinerary))
        changes = {"grant": other.grant, "inserted": inserted, "registered": other.registered}
        return self.deep(current.depth + 1).model_copy(update=changes)

    def with_inserted(self, step: ActivitySpec, more: int) -> dict[str, int]:
        """How many steps each activity has inserted, once this step has inserted so many more."""
        if not more:
            return self.inserted
        return self.inserted | {step.name: self.inserted.get(step.name, 0) + more}

    def behind(self, log: tuple[LogEntry, ...], before: RoutingSlip, variables: dict[str, Any]) -> RoutingSlip:
        """A slip with these steps after what others did in the slip ``before``, of which these are the variables now.

        Steps whose ids are in the log get other ones.
        """
        taken = {entry.id for entry in log}
        steps = tuple(step.model_copy(update={"id": ""}) if step.id in taken else step for step in self.itinerary)
        log = tuple(entry.model_copy(update={"undo": None}) for entry in log)
        kept = before.kept_of("variables", variables)
        there = {name: value for name, value in variables.items() if f"variables.{name}" not in kept}
        kept = {path: one for path, one in kept.items() if path.partition(".")[2] not in self.variables}
        return RoutingSlip(
            itinerary=steps,
            log=log,
            variables={**there, **self.variables},
            kept={**kept, **self.kept},
            budget=self.budget,
        )

    # --- heading back ----------------------------------------------------------------------------------------

    def turned(self, fault: Fault) -> RoutingSlip:
        """The slip on its way back: over the steps that can be taken back, the last completed one first."""
        back = tuple(compensation_of(entry, entry.undo) for entry in reversed(self.log) if entry.undo is not None)
        log = tuple(entry.model_copy(update={"undo": None}) for entry in self.log)
        return self.model_copy(update={"itinerary": back, "log": log, "heading": Heading.BACK, "fault": fault})

    def taken_back(self, variables: dict[str, Any] | None = None) -> RoutingSlip:
        """The slip after its current step was taken back."""
        current, *ahead = self.itinerary
        log = tuple(entry for entry in self.log if entry.id != current.id)
        return self.model_copy(update={"itinerary": tuple(ahead), "log": log, **self._carrying(variables)})

    def without_current(self) -> RoutingSlip:
        """The slip after its current step could not be taken back."""
        assert self.fault is not None
        current, *ahead = self.itinerary
        fault = self.fault.model_copy(update={"left": (*self.fault.left, current.id)})
        return self.model_copy(update={"itinerary": tuple(ahead), "fault": fault})

    # --- reading and moving by hand --------------------------------------------------------------------------

    def compacted(self, keep: int) -> RoutingSlip:
        """The slip with all but the latest ``keep`` entries of the log brief; what they gave is in the store."""
        old = len(self.log) - keep
        if old <= 0 or all(entry.is_brief for entry in self.log[:old]):
            return self
        log = (*(entry.briefly() for entry in self.log[:old]), *self.log[old:])
        return self.model_copy(update={"log": log})

    @property
    def previous(self) -> LogEntry | None:
        """The latest completed step of this workflow itself: entries of branches, which may follow it, do not count."""
        return next((entry for entry in reversed(self.log) if not entry.id.startswith(JOIN)), None)

    @property
    def aside(self) -> LogEntry | None:
        """The latest completed step, if its output, which the next one may need, is in the store."""
        latest = self.previous
        return latest if latest is not None and latest.aside and not self.is_back else None

    def with_previous(self, output: Any) -> RoutingSlip:
        """The slip with this output of its latest completed step."""
        latest = self.previous
        log = (one.model_copy(update={"output": output, "aside": False}) if one is latest else one for one in self.log)
        return self.model_copy(update={"log": tuple(log)})

    def mark_complete(self, step: str | ActivitySpec, output: Any = None) -> RoutingSlip:
        """The slip with the current step moved to the log, for handlers that move slips by hand.

        Raises:
            ValueError: when ``step`` is not the current step.
        """
        from paigeant.runtime.clock import SystemClock, utc

        current = self.next_step()
        name = step if isinstance(step, str) else step.name
        if current is None or name not in (current.name, current.id):
            expected = f"the current step is {current.name!r}" if current else "the slip is finished"
            raise ValueError(f"cannot complete {name!r}: {expected}")
        now = utc(SystemClock().now())
        entry = LogEntry(id=current.id, name=current.name, output=output, started_at=now, finished_at=now)
        return self.completed(entry)

    def output(self, step: str, type: Any = Any) -> Any:  # noqa: A002 - reads as slip.output("validate", type=Customer)
        """The output of a completed step by name or id, the latest of that name, as ``type``.

        Raises:
            KeyError: no such step has completed, or its output is in the store.
        """
        entry = self.entry(step)
        if entry.aside:
            raise KeyError(f"the output of {step!r} is in the store; ctx.output({step!r}) reads it")
        return revive(entry.output, type)

    def entry(self, step: str) -> LogEntry:
        """A completed step by name or id, the latest of that name.

        Raises:
            KeyError: no such step has completed.
        """
        for entry in reversed(self.log):
            if step in (entry.name, entry.id):
                return entry
        raise KeyError(f"no completed step {step!r}; completed: {[entry.name for entry in self.log]}")
