"""What a running step is given: what it knows, what it can change and wait for, and its signs of life."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, get_args

from paigeant.clock import Clock
from paigeant.errors import Superseded
from paigeant.facts import PlanSteps, ReadOutput
from paigeant.message import PaigeantMessage
from paigeant.outcome import Edits
from paigeant.pulse import Pulse
from paigeant.stops import Stop
from paigeant.store import Store
from paigeant.transport import Delivery
from paigeant.usage import NOTHING
from paigeant.values import jsonable
from paigeant.waits import Waits

_current: ContextVar[ActivityContext] = ContextVar("paigeant_context")


class Display(Protocol):
    """Where a running step shows values; none of it fails, or waits for a store that hangs."""

    async def report(self, details: Any) -> None:
        """How far it is, in JSON types; written down when it returns."""
        ...

    def emit(self, value: Any) -> None:
        """A value."""
        ...

    def stream(self, value: Any) -> None:
        """An event of an agent, in JSON types."""
        ...


def takes_context(annotation: Any) -> bool:
    """Whether a parameter annotated like this is given the context; ``| None`` lets tests call without one."""
    return annotation is ActivityContext or ActivityContext in get_args(annotation)


class ActivityContext(Waits):
    """Given to every parameter annotated with it. ``attempt`` counts our retries, ``deliveries`` the broker's."""

    __slots__ = ("_display", "_pulse", "_store", "_worker", "reported", "used")

    def __init__(
        self,
        message: PaigeantMessage,
        delivery: Delivery,
        display: Display | None = None,
        plan: PlanSteps | None = None,
        read: ReadOutput | None = None,
        pulse: Pulse | None = None,
        clock: Clock | None = None,
        stop: Stop | None = None,
        store: Store | None = None,
        worker: str = "",
    ) -> None:
        super().__init__(message, delivery, plan, read, clock, stop)
        self._edits = Edits()
        self._inserted_before = 0
        self._awaited = Counter()
        self._display = display
        self._pulse = pulse
        self._store = store
        self._worker = worker
        self.reported: Any = None
        self.used = NOTHING

    @classmethod
    def current(cls) -> ActivityContext:
        """The context of the step that is running here.

        Raises:
            LookupError: outside a step.
        """
        return _current.get()

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
            if self._display is not None:
                await self._display.report(self.reported)

    def emit(self, value: Any) -> None:
        """Show a value to whoever reads ``workflow.events()``, at once; it is not part of the output.

        Works in async and in plain functions, and does not wait. What cannot be written as JSON, is too large or comes
        faster than the store takes it is left out.
        """
        if self._display is not None:
            self._display.emit(value)

    def stream(self, event: Any) -> None:
        """Show an event of an agent, as JSON types, as :meth:`emit` does; activities of agents do this themselves."""
        if self._display is not None:
            self._display.stream(event)

    def heartbeat_sync(self, details: Any = None) -> None:
        """:meth:`heartbeat` for plain functions, which run in a thread: nothing else can end one that hangs."""
        if self._pulse is not None:
            self._pulse.from_thread(partial(self.heartbeat, details))
