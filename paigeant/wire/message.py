"""The message: the envelope in which a routing slip travels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from paigeant.wire.arrivals import CHILD, Received
from paigeant.wire.ids import derive_message_id, new_correlation_id, shortened
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.join import Branch
from paigeant.wire.log import LogEntry
from paigeant.wire.model import Label, WireModel
from paigeant.wire.proof import Chain
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.usage import NOTHING, Usage
from paigeant.wire.values import Json, jsonable_each

SPEC_VERSION = "1.4"
"""The wire format this release writes. A change of the first number is one an older worker must refuse."""


DEADLINE = "deadline"
"""What a step has received that waited until its workflow's deadline came."""

SLEEP = "timer"
"""What a step waits for that waits for a time."""

Moment = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Epoch seconds."""

REQUIRED = frozenset({"correlation_id", "routing_slip", "spec_version"})
"""What every message on the wire says, although those who build one by hand need not."""


def child_key(correlation_id: str) -> str:
    """What a step waits for that waits for this workflow, which it dispatched."""
    return f"{CHILD}{correlation_id}"


def is_sleep(key: str) -> bool:
    """Whether who waits for this waits for a time: a step, or one tool call of its agent."""
    return key == SLEEP or key.startswith(f"{SLEEP}:")


class PaigeantMessage(WireModel):
    """One attempt of one step on its way to a worker.

    ``id`` is derived from (correlation id, step id, heading, attempt, epoch), so the same step sent twice is one
    message. ``epoch`` counts redrives by an operator. ``trace_context`` is W3C trace context. ``obo_token`` is that of
    the user on whose behalf the workflow runs; the two fields after it are reserved.

    ``attempt`` counts every start of the step, ``uncounted`` those among them that its retry policy does not count.
    ``progress`` is what an earlier attempt last reported of itself. ``resumes`` counts how often the step was parked
    and went on, and ``received`` lists what it waited for, by key.
    ``parent`` is the workflow that dispatched this one, and ``branch`` its place in a scatter of that.

    From ``deadline`` on no step of the workflow is started, and this one must be started by ``start_by``.
    """

    model_config = ConfigDict(json_schema_extra={"required": list[Any](sorted(REQUIRED))})

    spec_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = ""
    id: str = ""
    correlation_id: Annotated[Label, Field(min_length=1)] = ""
    causation_id: Label | None = None
    name: Label = ""
    attempt: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    uncounted: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    progress: Json = None
    epoch: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    resumes: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    received: Received = Field(default_factory=dict)
    deadline: Moment | None = None
    start_by: Moment | None = None
    parent: Label | None = None
    branch: Branch | None = None
    routing_slip: RoutingSlip
    trace_context: dict[str, str] = Field(default_factory=dict)

    obo_token: str | None = Field(None, repr=False)
    principal: dict[str, Any] | None = None
    signature: str | None = None

    _chain: Chain | None = PrivateAttr(None)

    def __init__(self, *, payload: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Build a message by hand. The ``payload`` is added to the variables of the slip.

        Raises:
            NotSerializable: a value of the payload cannot be written as JSON.
            pydantic.ValidationError: a field is wrong.
        """
        slip = fields.get("routing_slip")
        if payload is not None and isinstance(slip, RoutingSlip):
            fields["routing_slip"] = slip.changed("variables", jsonable_each(payload, "payload"))
        elif payload is not None and isinstance(slip, Mapping):
            fields["routing_slip"] = {**slip, "variables": {**slip.get("variables", {}), **payload}}
        super().__init__(**fields)

    # Or pydantic would read messages off the wire with it, and forget where they come from.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _derived(self) -> Self:
        if not self.routing_slip.itinerary:
            raise ValueError("the routing slip is empty: a message always has a current step")
        # Frozen for everyone else: this runs before the message is handed out.
        self.__dict__["correlation_id"] = self.correlation_id or new_correlation_id()
        derived = self._derive(self.routing_slip, self.attempt, self.resumes)
        if self.id not in ("", derived):
            raise ValueError("the id does not belong to this step and attempt")
        self.__dict__["id"] = derived
        self.__dict__["spec_version"] = self.spec_version or SPEC_VERSION
        return self

    @property
    def chain(self) -> Chain | None:
        """The verified statements that the message came with, or those of the message before it; they do not travel."""
        return self._chain

    def coming_with(self, chain: Chain) -> Self:
        """The message with the verified statements that it came with."""
        copied = self.model_copy()
        object.__setattr__(copied, "__pydantic_private__", {"_chain": chain})
        return copied

    @property
    def step(self) -> ActivitySpec:
        """The current step."""
        return self.routing_slip.itinerary[0]

    @property
    def payload(self) -> dict[str, Any]:
        """The workflow's variables."""
        return self.routing_slip.variables

    @property
    def tries(self) -> int:
        """How many starts of the step count for its retry policy, this one included."""
        return max(self.attempt - self.uncounted, 1)

    @property
    def ends_at(self) -> float | None:
        """When the workflow's time is up; None without a deadline, and on the way back."""
        return None if self.routing_slip.is_back else self.deadline

    def is_over(self, now: float) -> bool:
        """Whether the workflow's time is up."""
        return self.ends_at is not None and (now >= self.ends_at or DEADLINE in self.received)

    def due(self, at: float) -> PaigeantMessage:
        """The message as it is sent, to be run from ``at`` on: from then on its step may wait ``start_timeout``."""
        patience = self.step.start_timeout
        if patience is None or self.routing_slip.is_back:
            return self
        return self.model_copy(update={"start_by": at + patience})

    def _derive(self, slip: RoutingSlip, attempt: int, resumes: int) -> str:
        step = slip.itinerary[0].id
        return derive_message_id(self.correlation_id, step, slip.heading, attempt, self.epoch, resumes)

    def next(self, slip: RoutingSlip) -> PaigeantMessage:
        """The message that follows this one: same workflow, next step."""
        return self._following(routing_slip=slip, attempt=1, uncounted=0, progress=None, resumes=0, received={})

    def compacted(self, keep: int) -> PaigeantMessage:
        """The same message with a shorter log: see :meth:`RoutingSlip.compacted`."""
        slip = self.routing_slip.compacted(keep)
        return self if slip is self.routing_slip else self.model_copy(update={"routing_slip": slip})

    def again(self, *, counted: bool = True, progress: Any = None, used: Usage = NOTHING) -> PaigeantMessage:
        """The next attempt of the same step, for which this one counts or does not; ``used`` is what it used."""
        uncounted, slip = self.uncounted + (not counted), self.routing_slip.using(used)
        changes = {"attempt": self.attempt + 1, "uncounted": uncounted, "progress": self._latest(progress)}
        return self._following(**changes, routing_slip=slip)

    def afresh(self, *, progress: Any = None) -> PaigeantMessage:
        """The next attempt of the same step, as if it were the first."""
        return self._following(attempt=self.attempt + 1, uncounted=self.attempt, progress=self._latest(progress))

    def resumed(self, *, progress: Any = None) -> PaigeantMessage:
        """The same attempt of the same step, after what it waits for has come; see :meth:`receiving`."""
        return self._following(resumes=self.resumes + 1, progress=self._latest(progress))

    def redriven(self, slip: RoutingSlip, received: dict[str, Any]) -> PaigeantMessage:
        """The current step of this slip from its first attempt, under the next epoch, knowing this already."""
        epoch = self.epoch + 1
        return self._following(routing_slip=slip, epoch=epoch, attempt=1, uncounted=0, resumes=0, received=received)

    def _latest(self, progress: Any) -> Any:
        return self.progress if progress is None else progress

    def gathered(self) -> RoutingSlip:
        """The slip, its log with what branches of the current step did that can be taken back, as it was completed."""
        slip, entries = self.routing_slip, list[LogEntry]()
        for key, arrived in self.received.items():  # one join after the other
            if key.startswith(JOIN) and not slip.is_back:
                done = list[tuple[float, LogEntry]]()
                for index, branch in enumerate(arrived[0].get("value") or ()):
                    done += _in_time([_of_branch(f"{key}:{index}", data) for data in branch.get("standing", ())])
                entries += [entry for _, entry in sorted(done, key=itemgetter(0))]
        return slip.model_copy(update={"log": (*slip.log, *entries)}) if entries else slip

    def set_apart_for(self, children: Iterable[PaigeantMessage]) -> list[Usage]:
        """What of the budget is set apart for those of these workflows whose end the step does not know."""
        unheard = [one for one in children if one.branch is None and child_key(one.correlation_id) not in self.received]
        return [one.routing_slip.budget.as_usage() for one in unheard if one.routing_slip.budget is not None]

    def charged(self, *used: Usage) -> PaigeantMessage:
        """The message whose step is over, having used this and what its branches and awaited children used."""
        slip = self.routing_slip.using(*used, *self._used_by_branches(), *self._used_by_children())
        return self if slip is self.routing_slip else self.model_copy(update={"routing_slip": slip})

    def _used_by_branches(self) -> Iterator[Usage]:
        for key, arrived in self.received.items():
            if key.startswith(JOIN):
                for branch in arrived[0].get("value") or ():
                    yield Usage.from_dict(branch.get("used", {}))

    def _used_by_children(self) -> Iterator[Usage]:
        for key, arrived in self.received.items():
            if key.startswith(CHILD):
                for answer in arrived:
                    yield Usage.from_dict((answer.get("value") or {}).get("used") or {})

    def receiving(self, key: str, value: Any) -> PaigeantMessage:
        """The message with what its step waited for, after what came for the same key before; the id stays."""
        arrived = [*self.received.get(key, ()), value]
        return self.model_copy(update={"received": {**self.received, key: arrived}})

    def without_latest(self, key: str) -> PaigeantMessage:
        """The message without the latest of what came for this key."""
        arrived = {**self.received, key: self.received[key][:-1]}
        return self.model_copy(update={"received": {name: some for name, some in arrived.items() if some}})

    def _following(self, **changes: Any) -> PaigeantMessage:
        after = self.model_copy(update={"causation_id": self.id, "start_by": None} | changes)
        after.__dict__["id"] = after._derive(after.routing_slip, after.attempt, after.resumes)
        return after


def _in_time(entries: Iterable[LogEntry]) -> Iterator[tuple[float, LogEntry]]:
    """Each with when it was completed, and never before the one before it: clocks of workers differ."""
    latest = 0.0
    for entry in entries:
        latest = max(latest, entry.finished_at.timestamp() if entry.finished_at else latest)
        yield latest, entry


def _of_branch(place: str, data: dict[str, Any]) -> LogEntry:
    entry = LogEntry.from_dict(data)
    return entry.model_copy(update={"id": shortened(f"{place}:{entry.id}")})
