"""What a running step knows about itself and its workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, get_args

import structlog

from paigeant.errors import Superseded
from paigeant.message import PaigeantMessage
from paigeant.slip import ActivitySpec
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


def takes_context(annotation: Any) -> bool:
    """Whether a parameter annotated like this is given the context; ``| None`` lets tests call without one."""
    return annotation is ActivityContext or ActivityContext in get_args(annotation)


class ActivityContext:
    """Given to every parameter annotated with it. ``attempt`` counts our retries, ``deliveries`` the broker's."""

    __slots__ = ("_delivery", "_message", "_report", "logger", "variables")

    def __init__(self, message: PaigeantMessage, delivery: Delivery, report: Report | None = None) -> None:
        self._message = message
        self._delivery = delivery
        self._report = report
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

    async def heartbeat(self, details: Any = None) -> None:
        """Say that the step is alive and, with details, how far it is; ``workflow.events()`` shows them.

        Raises:
            Superseded: the lease is lost and another worker may be running this step: stop.
        """
        if self._delivery.lease.lost:
            raise Superseded()
        if details is not None and self._report is not None:
            await self._report(jsonable(details, "details"))
