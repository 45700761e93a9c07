"""What a running step knows about itself and its workflow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, get_args

import structlog

from paigeant.errors import ChildFailed, SignalTimeout, Superseded
from paigeant.ids import derive_child_id
from paigeant.interrupts import Park
from paigeant.message import PaigeantMessage
from paigeant.outcome import Edits
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.store import Status, child_key
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

    __slots__ = ("_awaited", "_delivery", "_edits", "_message", "_plan", "_report", "logger", "variables")

    def __init__(
        self,
        message: PaigeantMessage,
        delivery: Delivery,
        report: Report | None = None,
        plan: PlanSteps | None = None,
    ) -> None:
        self._message = message
        self._delivery = delivery
        self._report = report
        self._plan = plan
        self._edits = Edits()
        self._awaited: Counter[str] = Counter()
        self.variables = Variables(message.routing_slip.variables)
        self.logger: Any = structlog.stdlib.get_logger(message.step.name)

    @classmethod
    def current(cls) -> ActivityContext:
        """The context of the step that is running here.

        Raises:
            LookupError: outside a step.
        """
        return _current.get()

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
    def message(self) -> PaigeantMessage:
        """The message that carries the step."""
        return self._message

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and redelivery of this step: what to hand to services that drop repetitions."""
        return f"{self._message.correlation_id}:{self._message.step.id}:{self._message.epoch}"

    @property
    def previous(self) -> Any:
        """The output of the step before this one, as JSON types; None at the start."""
        log = self._message.routing_slip.log
        return log[-1].output if log else None

    def output(self, step: str, type: Any = Any) -> Any:  # noqa: A002 - reads as ctx.output("validate", type=Customer)
        """The output of an earlier step by name or id, as the given type.

        Raises:
            KeyError: when no such step has completed.
        """
        return self._message.routing_slip.output(step, type)

    # --- changing what comes after ---------------------------------------------------------------------------

    @property
    def edits(self) -> Edits:
        """What this step changes in the workflow when it completes."""
        return self._edits

    def insert(self, *steps: Any) -> None:
        """Put steps right after this one, in this order, when it completes; they come behind those inserted before.

        Raises:
            InvalidArguments: something that is no step, or a wrong argument.
        """
        self._edits = replace(self._edits, insert=(*self._edits.insert, *self._planned(steps)))

    def skip(self, *steps: str) -> None:
        """Leave out steps ahead, by name or id, when this one completes.

        Raises:
            KeyError: there is no such step ahead.
        """
        ahead = self._message.routing_slip.itinerary[1:]
        for name in steps:
            if not any(name in (step.name, step.id) for step in ahead):
                raise KeyError(f"no step {name!r} ahead; ahead: {[step.name for step in ahead]}")
        self._edits = replace(self._edits, skip=(*self._edits.skip, *steps))

    def dispatch(self, *steps: Any, variables: Mapping[str, Any] | None = None, name: str | None = None) -> str:
        """Send another workflow on its way, when this step completes or waits for it; its id.

        The id is derived from this step, so however often the step runs, it is one workflow.

        Raises:
            InvalidArguments: no step, something that is none, or a wrong argument.
        """
        message = self._message
        child = PaigeantMessage(
            correlation_id=derive_child_id(message.correlation_id, message.step.id, len(self._edits.children)),
            causation_id=message.id,
            name=name or message.name,
            routing_slip=RoutingSlip(itinerary=self._planned(steps), variables=dict(variables or {})),
            parent=message.correlation_id,
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
            seconds = max(0.0, until - time.time())
        self._await("timer", seconds or 0.0, None)

    def await_signal(self, name: str, *, timeout: float | None = None, schema: Any = Any) -> Any:
        """The value of ``workflow.signal(name, value)`` as ``schema``; the step waits for it as in :meth:`sleep`.

        Raises:
            SignalTimeout: after ``timeout`` seconds.
            pydantic.ValidationError: the value is no ``schema``.
        """
        return revive(self._await(signal_key(name), timeout, {"signal": name}), schema)

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

    def _await(self, key: str, seconds: float | None, detail: Any) -> Any:
        """The value of the nth wait for this key, on the nth call of this run."""
        arrived = self._message.received.get(key, ())
        turn = self._awaited[key]
        self._awaited[key] += 1
        if turn >= len(arrived):
            raise Park(key, seconds, detail)
        if "value" in arrived[turn] or key == "timer":
            return arrived[turn].get("value")
        raise SignalTimeout(f"{key!r} did not come in time")

    async def heartbeat(self, details: Any = None) -> None:
        """Say that the step is alive and, with details, how far it is; ``workflow.events()`` shows them.

        Raises:
            Superseded: the lease is lost and another worker may be running this step: stop.
        """
        if self._delivery.lease.lost:
            raise Superseded()
        if details is not None and self._report is not None:
            await self._report(jsonable(details, "details"))
