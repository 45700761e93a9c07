"""What a running step is given: what it knows, what it can change and wait for, and its signs of life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, get_args

from paigeant.clock import Clock
from paigeant.context.facts import PlanSteps, ReadOutput, Stopping
from paigeant.context.waits import Waits
from paigeant.errors import ConfigurationError, Superseded
from paigeant.message import PaigeantMessage
from paigeant.outcome import Edits
from paigeant.pulse import Pulse
from paigeant.slip import RoutingSlip
from paigeant.store import Store
from paigeant.transport import Delivery
from paigeant.usage import NOTHING
from paigeant.values import jsonable

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

    __slots__ = ("_claims", "_display", "_pulse", "_store", "_worker", "reported", "used")

    def __init__(
        self,
        message: PaigeantMessage,
        delivery: Delivery,
        display: Display | None = None,
        plan: PlanSteps | None = None,
        read: ReadOutput | None = None,
        pulse: Pulse | None = None,
        clock: Clock | None = None,
        stop: Stopping | None = None,
        store: Store | None = None,
        worker: str = "",
        rests: Mapping[str, RoutingSlip] | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, delivery, plan, read, clock, stop)
        self._edits = Edits()
        self._inserted_before = 0
        self._awaited = Counter()
        self._rests = rests or {}
        self._display = display
        self._pulse = pulse
        self._store = store
        self._worker = worker
        self._claims = claims
        self.reported: Any = None
        self.used = NOTHING

    @classmethod
    def current(cls) -> ActivityContext:
        """The context of the step that is running here.

        Raises:
            LookupError: outside a step.
        """
        return _current.get()

    @property
    def user_claims(self) -> Mapping[str, Any] | None:
        """What the token says of the user on whose behalf the workflow runs, and this worker has checked; or None."""
        return self._claims

    @property
    def principal(self) -> str | None:
        """The user on whose behalf the workflow runs: the subject of the token; None if on nobody's."""
        return None if self._claims is None else str(self._claims["sub"])

    def assume_web_identity(
        self,
        role_arn: str,
        *,
        session_name: str | None = None,
        duration: int = 3600,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> Any:
        """A ``boto3.Session`` that may do what this AWS role may, for the user on whose behalf the workflow runs.

        AWS is given the workflow's token. ``session_name``, by default the user, is what its logs show; ``duration`` is
        seconds; ``endpoint_url`` is that of another STS. Blocks: async code calls it with ``asyncio.to_thread``. Needs
        the extra ``aws``.

        Raises:
            ConfigurationError: the workflow runs on nobody's behalf, or boto3 is not installed.
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: AWS says no, or nothing.
        """
        from paigeant.security.web_identity import assume_web_identity

        token = self._message.obo_token
        if token is None or self.principal is None:
            raise ConfigurationError(
                "the workflow runs on nobody's behalf", hint="dispatch it with the user's token: obo_token=..."
            )
        name = session_name or self.principal
        return assume_web_identity(
            token, role_arn, session_name=name, duration=duration, region=region, endpoint_url=endpoint_url
        )

    @classmethod
    def running(cls) -> ActivityContext | None:
        """:meth:`current`, or None outside a step."""
        return _current.get(None)

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
