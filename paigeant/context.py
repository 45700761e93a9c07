"""What a running step knows about itself and its workflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import structlog

from paigeant.approval import KEY as APPROVAL
from paigeant.approval import Approval
from paigeant.clock import Clock, SystemClock, utc
from paigeant.errors import (
    BranchesFailed,
    ChildFailed,
    ConfigurationError,
    MessageTooLarge,
    SignalTimeout,
    Superseded,
)
from paigeant.ids import derive_child_id
from paigeant.interrupts import Park
from paigeant.join import KEY as JOIN
from paigeant.join import Branch, BranchResult, Join, Policy, why_not
from paigeant.message import PaigeantMessage
from paigeant.outcome import Edits
from paigeant.pulse import Pulse
from paigeant.slip import ActivitySpec, LogEntry, RoutingSlip
from paigeant.stops import Stop
from paigeant.store import Status, child_key
from paigeant.times import Times, When
from paigeant.transport import Delivery
from paigeant.values import jsonable, revive

_current: ContextVar[ActivityContext] = ContextVar("paigeant_context")


class Variables(MutableMapping[str, Any]):
    """The workflow's variables as this step sees them; what it sets is carried to the steps after it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._changed: dict[str, Any] | None = None

    @property
    def changed(self) -> dict[str, Any] | None:
        """All variables, when one was set or deleted; else None."""
        return self._changed

    def _now(self) -> Mapping[str, Any]:
        return self._values if self._changed is None else self._changed

    def _writable(self) -> dict[str, Any]:
        if self._changed is None:
            self._changed = dict(self._values)
        return self._changed

    def __getitem__(self, name: str) -> Any:
        return self._now()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._writable()[name] = jsonable(value, f"variables[{name!r}]")

    def __delitem__(self, name: str) -> None:
        del self._writable()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def typed(self, name: str, type: Any) -> Any:  # noqa: A002 - reads as variables.typed("due", type=datetime)
        """A variable as the given type again."""
        return revive(self[name], type)


Report = Callable[[Any], Awaitable[None]]
"""Records a value a running step reports."""

ReadOutput = Callable[[LogEntry], Any]
"""Reads the output of a step that is not in the message."""

PlanSteps = Callable[[Sequence[Any]], tuple[ActivitySpec, ...]]
"""Makes steps of what developers write."""


def signal_key(name: str) -> str:
    """What a step waits for that waits for this signal."""
    return f"signal:{name}"


def takes_context(annotation: Any) -> bool:
    """Whether a parameter annotated like this is given the context; ``| None`` lets tests call without one."""
    return annotation is ActivityContext or ActivityContext in get_args(annotation)


class ActivityContext:
    """Given to every parameter annotated with it. ``attempt`` counts our retries, ``deliveries`` the broker's."""

    __slots__ = (
        "_awaited",
        "_clock",
        "_delivery",
        "_edits",
        "_message",
        "_plan",
        "_pulse",
        "_read",
        "_report",
        "_stop",
        "reported",
        "variables",
    )

    def __init__(
        self,
        message: PaigeantMessage,
        delivery: Delivery,
        report: Report | None = None,
        plan: PlanSteps | None = None,
        read: ReadOutput | None = None,
        pulse: Pulse | None = None,
        clock: Clock | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._message = message
        self._delivery = delivery
        self._report = report
        self._plan = plan
        self._read = read
        self._pulse = pulse
        self._clock = clock or SystemClock()
        self._stop = stop
        self._edits = Edits()
        self._awaited: Counter[str] = Counter()
        self.reported: Any = None
        self.variables = Variables(message.routing_slip.variables)

    @classmethod
    def current(cls) -> ActivityContext:
        """The context of the step that is running here.

        Raises:
            LookupError: outside a step.
        """
        return _current.get()

    @property
    def logger(self) -> Any:
        """A structlog logger named after the activity."""
        return structlog.stdlib.get_logger(self._message.step.name)

    @property
    def correlation_id(self) -> str:
        """The workflow's id."""
        return self._message.correlation_id

    @property
    def step(self) -> ActivitySpec:
        """The step as planned."""
        return self._message.step

    @property
    def attempt(self) -> int:
        """Which try of this step this is, from 1."""
        return self._message.attempt

    @property
    def deliveries(self) -> int:
        """How often the broker has handed out this very message; more than 1 after a crash."""
        return self._delivery.deliveries

    @property
    def progress(self) -> Any:
        """What an earlier attempt of this step last reported with :meth:`heartbeat`, as JSON types; None at first."""
        return self._message.progress

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled the workflow: clean up and return or raise, for soon this is interrupted.

        A plain function cannot be interrupted, so one that takes long has to look here.
        """
        return self._stop is not None and self._stop.cancellation is not None

    @property
    def message(self) -> PaigeantMessage:
        """The message that carries the step."""
        return self._message

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and redelivery of this step: what to hand to services that drop repetitions.

        Taking the step back has another one.
        """
        return f"{self._message.correlation_id}:{self._place}:{self._message.epoch}"

    @property
    def is_compensating(self) -> bool:
        """Whether the step is being taken back."""
        return self._message.routing_slip.is_back

    @property
    def _place(self) -> str:
        """The step's id, and another one for taking it back: what derives from it must not be the same."""
        step = self._message.step.id
        return f"{step}:back" if self.is_compensating else step

    @property
    def previous(self) -> Any:
        """The output of the step before this one, as JSON types; None at the start, and in a compensation."""
        slip = self._message.routing_slip
        return self._output(slip.log[-1]) if slip.log and not slip.is_back else None

    def output(self, step: str, type: Any = Any) -> Any:  # noqa: A002 - reads as ctx.output("validate", type=Customer)
        """The output of an earlier step by name or id, as the given type.

        Large outputs, and those of steps long past, are read from the store here, for which this blocks.

        Raises:
            KeyError: when no such step has completed.
            StoreError: the store cannot be read.
        """
        return revive(self._output(self._message.routing_slip.entry(step)), type)

    def _output(self, entry: LogEntry) -> Any:
        if not entry.aside:
            return entry.output
        if self._read is None:
            raise LookupError(f"the output of {entry.name!r} is in the store, which only a running step reaches")
        return self._read(entry)

    # --- changing what comes after ---------------------------------------------------------------------------

    @property
    def edits(self) -> Edits:
        """What this step changes in the workflow when it completes."""
        return self._edits

    def insert(self, *steps: Any) -> None:
        """Put steps right after this one, in this order, when it completes; they come behind those inserted before.

        Raises:
            InvalidArguments: something that is no step, or a wrong argument.
            ConfigurationError: the step is being taken back: nothing comes after it.
        """
        if self.is_compensating:
            raise ConfigurationError("a compensation cannot insert steps", hint="it can ctx.dispatch() a workflow")
        self._edits = replace(self._edits, insert=(*self._edits.insert, *self._planned(steps)))

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
        return self._begin(self._place, len(self._edits.children), slip, name or self._message.name, ends_at=ends_at)

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

    # --- waiting ---------------------------------------------------------------------------------------------

    def sleep(self, seconds: float | None = None, *, until: float | None = None) -> None:
        """Wait this long, or until this time (epoch seconds), without holding a process or a message.

        This and its siblings do not block: they raise, and when the wait is over the activity runs from its beginning
        and passes here. What it did before must bear repetition, or be a step of its own.
        """
        if until is not None:
            seconds = max(0.0, until - self._clock.now())
        self._await("timer", seconds or 0.0, None)

    def await_signal(self, name: str, *, timeout: float | None = None, schema: Any = Any) -> Any:
        """The value of ``workflow.signal(name, value)`` as ``schema``; the step waits for it as in :meth:`sleep`.

        Raises:
            SignalTimeout: after ``timeout`` seconds.
            pydantic.ValidationError: the value is no ``schema``.
        """
        return revive(self._await(signal_key(name), timeout, {"signal": name}), schema)

    def await_approval(self, asks: str, *, details: Any = None, timeout: float | None = None) -> Approval:
        """What somebody says to this question: ``paigeant approve`` or ``deny``; waits for it as :meth:`sleep` does.

        ``details`` (anything that JSON can hold) is shown with the question: arguments to be approved, for example.

        Raises:
            SignalTimeout: after ``timeout`` seconds.
        """
        key = f"{APPROVAL}{self._place}:{self._awaited[APPROVAL]}"  # of its own: nobody decides on what comes later
        self._awaited[APPROVAL] += 1
        return Approval(**self._await(key, timeout, {"asks": asks, "details": jsonable(details, "details")}))

    def wait_for(self, workflow: str, *, timeout: float | None = None, type: Any = Any) -> Any:  # noqa: A002 - as output()
        """The output of a workflow that this step dispatched, as ``type``; the step waits for it as in :meth:`sleep`.

        Raises:
            ChildFailed: the workflow failed or was cancelled.
            SignalTimeout: after ``timeout`` seconds.
        """
        end = self._await(child_key(workflow), timeout, {"workflow": workflow})
        if end["status"] != Status.COMPLETED.value:
            error = end["error"]
            why = f": {error['type']}: {error['message']}" if error else ""
            raise ChildFailed(f"workflow {workflow}: {end['status']}{why}", hint=f"see: paigeant workflow {workflow}")
        return revive(end["output"], type)

    def scatter(self, *branches: Any, policy: Policy = "all", deadline: float | None = None) -> list[BranchResult[Any]]:
        """Run these branches side by side, as :func:`paigeant.scatter` does, and wait for them as in :meth:`sleep`.

        Raises:
            InvalidArguments: something that is no step, or a policy that these branches cannot meet.
            BranchesFailed: fewer completed than the policy asks for, in ``deadline`` seconds.
        """
        return self.gather([self._as_slip(one) for one in branches], policy=policy, deadline=deadline)

    def _as_slip(self, branch: Any) -> RoutingSlip:
        if isinstance(branch, RoutingSlip):
            return branch.model_copy(update={"itinerary": self._planned(branch.itinerary)})
        return RoutingSlip(itinerary=self._planned([branch]))

    def gather(
        self,
        branches: Sequence[RoutingSlip],
        *,
        items: Sequence[Any] | None = None,
        policy: Policy = "all",
        deadline: float | None = None,
    ) -> list[BranchResult[Any]]:
        """:meth:`scatter` over slips that are addressed already.

        ``items`` are the outputs that the first steps of the branches find before them; default: what this step found.
        """
        if not branches and policy in ("all", "settled"):
            return []
        join = Join.of(len(branches), policy)
        key = f"{JOIN}{self._place}:{self._message.epoch}:{self._awaited[JOIN]}"
        self._awaited[JOIN] += 1
        if key not in self._message.received:
            for index, slip in enumerate(branches):
                self._branch(key, index, slip, items)
            raise Park(key, deadline, {"branches": join.total, "needed": join.needed}, join)
        results = [BranchResult[Any](**one) for one in self._await(key, None, None)]
        if not join.is_reached(sum(one.is_completed for one in results)):
            raise BranchesFailed(why_not(results, join), hint=f"see: paigeant workflow {self.correlation_id}")
        return results

    def _branch(self, key: str, index: int, slip: RoutingSlip, items: Sequence[Any] | None) -> None:
        log = self._message.routing_slip.log[-1:] if items is None else (self._as_if_completed(items[index]),)
        slip = slip.behind(log, dict(self.variables))
        self._begin(key, index, slip, f"{self._message.name}[{index}]", Branch(join=key, index=index))

    def _as_if_completed(self, output: Any) -> LogEntry:
        now = utc(self._clock.now())
        return LogEntry(id=self.step.id, name=self.step.name, output=output, started_at=now, finished_at=now)

    def _await(self, key: str, seconds: float | None, detail: Any) -> Any:
        """The value of the nth wait for this key, on the nth call of this run."""
        arrived = self._message.received.get(key, ())
        turn = self._awaited[key]
        self._awaited[key] += 1
        if turn >= len(arrived):
            raise Park(key, seconds, detail)
        if "error" in arrived[turn]:
            raise MessageTooLarge(arrived[turn]["error"])
        if "value" in arrived[turn] or key == "timer":
            return arrived[turn].get("value")
        raise SignalTimeout(f"{key!r} did not come in time")

    async def heartbeat(self, details: Any = None) -> None:
        """Say that the step is alive and, with details, how far it is.

        ``workflow.events()`` shows the details, and the next attempt has the last of them as :attr:`progress`.

        Raises:
            Superseded: the lease is lost and another worker may be running this step: stop.
            AttemptEnded: the attempt was ended from outside: stop.
        """
        if self._delivery.lease.lost:
            raise Superseded()
        if self._pulse is not None:
            self._pulse.beat()
        if details is not None:
            self.reported = jsonable(details, "details")
            if self._report is not None:
                await self._report(self.reported)

    def heartbeat_sync(self, details: Any = None) -> None:
        """:meth:`heartbeat` for plain functions, which run in a thread: nothing else can end one that hangs."""
        if self._pulse is not None:
            self._pulse.from_thread(partial(self.heartbeat, details))
