"""What a step knows: of itself, of its workflow, of the steps before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from paigeant.clock import Clock, SystemClock
from paigeant.context.variables import Variables
from paigeant.events import Cancellation
from paigeant.message import PaigeantMessage
from paigeant.slip import ActivitySpec, LogEntry
from paigeant.transport import Delivery
from paigeant.values import revive

ReadOutput = Callable[[LogEntry], Any]
"""Reads the output of a step that is not in the message."""

PlanSteps = Callable[[Sequence[Any]], tuple[ActivitySpec, ...]]
"""Makes steps of what developers write."""


class Stopping(Protocol):
    """Whether a running step is to stop: when somebody has cancelled its workflow."""

    cancellation: Cancellation | None


class Facts:
    """The part of a step's context that says how things are."""

    __slots__ = ("_clock", "_delivery", "_message", "_plan", "_read", "_stop", "_unit", "variables")

    def __init__(
        self,
        message: PaigeantMessage,
        delivery: Delivery,
        plan: PlanSteps | None = None,
        read: ReadOutput | None = None,
        clock: Clock | None = None,
        stop: Stopping | None = None,
    ) -> None:
        self._message = message
        self._delivery = delivery
        self._plan = plan
        self._read = read
        self._clock = clock or SystemClock()
        self._stop = stop
        self._unit: str | None = None
        self.variables = Variables(message.routing_slip.variables)

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

        Taking the step back has another one, and so has each tool call of an agent.
        """
        return f"{self._message.correlation_id}:{self._place}:{self._message.epoch}"

    @property
    def is_compensating(self) -> bool:
        """Whether the step is being taken back."""
        return self._message.routing_slip.is_back

    @property
    def _place(self) -> str:
        """The step's id, and another one for taking it back or for a tool call: what derives from it must differ."""
        step = self._message.step.id
        if self._unit is not None:
            return f"{step}:{self._unit}"
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
