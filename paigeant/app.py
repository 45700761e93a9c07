"""The App: activities, where messages go and where history is kept."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakSet

from fast_depends import Provider
from pydantic import ValidationError

from paigeant.activity import Activity, caller_namespace, problem
from paigeant.catalog import Catalog, Step
from paigeant.clock import Clock, SystemClock
from paigeant.code_version import files_of
from paigeant.config import load_settings
from paigeant.depends import overridden
from paigeant.dispatch import Dispatcher, Observer
from paigeant.errors import ConfigurationError, DuplicateActivity, InvalidArguments, StoreRequired
from paigeant.ids import new_correlation_id
from paigeant.logs import hand_over
from paigeant.message import PaigeantMessage
from paigeant.retry import RetryPolicy
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.steps import BUILT_IN, CONTROL
from paigeant.store import Store
from paigeant.stores import open_store, store_url
from paigeant.timers import Timers
from paigeant.transport import BaseTransport
from paigeant.workflow import Workflow, run_sync

if TYPE_CHECKING:
    from pydantic_ai import Agent

    from paigeant.activity import P, R

F = TypeVar("F", bound=Callable[..., Any])

_apps: WeakSet[App] = WeakSet()
"""The Apps of this process: those with one broker URL share its connection."""


class App:
    """A set of activities, a broker and a store.

    ``broker`` and ``store`` are URLs and default to one SQLite file; ``store="none"`` remembers nothing. What is not
    given comes from ``PAIGEANT_*`` variables, ``.env`` and ``[tool.paigeant]``. Nothing connects before it is used.
    """

    clock: Clock = SystemClock()
    """What its workflows and workers take for the time; simulations have one of their own."""

    def __init__(
        self,
        name: str,
        broker: str | None = None,
        store: str | None = None,
        *,
        queue_prefix: str | None = None,
        lease_seconds: float | None = None,
        max_deliveries: int | None = None,
        message_limit: int | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.name = name
        self.settings = load_settings(
            broker_url=broker,
            store_url=store,
            queue_prefix=queue_prefix,
            lease_seconds=lease_seconds,
            max_deliveries=max_deliveries,
            message_limit=message_limit,
        )
        self.prefix = self.settings.queue_prefix or name
        hand_over()
        self.activities: dict[str, Activity[..., Any]] = {}
        self.source_files: set[str] = set()
        self.observers = tuple(observers)
        self._overrides = Provider()
        self._lock = threading.RLock()
        _apps.add(self)

    def __repr__(self) -> str:
        return f"<App {self.name!r}>"

    # --- activities ------------------------------------------------------------------------------------------

    @overload
    def activity(self, function: Callable[P, R], /) -> Activity[P, R]: ...
    @overload
    def activity(
        self,
        agent: Agent[Any, Any],
        /,
        *,
        name: str | None = ...,
        queue: str | None = ...,
        timeout: float | None = ...,
        retry: RetryPolicy | None = ...,
        priority: int = ...,
    ) -> Activity[..., Any]: ...
    @overload
    def activity(
        self,
        /,
        *,
        name: str | None = ...,
        queue: str | None = ...,
        timeout: float | None = ...,
        retry: RetryPolicy | None = ...,
        priority: int = ...,
    ) -> Callable[[Callable[P, R]], Activity[P, R]]: ...

    def activity(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function or a pydantic-ai agent an activity: ``@app.activity``, bare or with options.

        ``name`` defaults to the function's; ``queue`` is the part of the queue's name after the prefix and defaults to
        the activity's name; ``timeout`` is seconds per attempt; ``priority`` is 0 to 9, 9 first.

        Raises:
            DuplicateActivity: the App has an activity of this name.
            ConfigurationError: the function cannot be an activity.
        """
        namespace = caller_namespace(1)
        self.source_files |= files_of(function, sys._getframe(1).f_code)
        if function is None:
            return lambda decorated: self._register(decorated, options, namespace)
        return self._register(function, options, namespace)

    def _register(self, function: Any, options: dict[str, Any], namespace: Mapping[str, Any]) -> Activity[..., Any]:
        if isinstance(function, str) or not (callable(function) or hasattr(function, "run")):
            raise ConfigurationError(f"{function!r} cannot be an activity", hint="decorate a function or pass an Agent")
        options = options | {"overrides": self._overrides, "namespace": namespace}
        if callable(function):
            made: Activity[..., Any] = Activity(function, **options)
        else:
            from paigeant.agents import agent_activity

            made = agent_activity(function, **options)
        with self._lock:
            if made.name.startswith(f"{CONTROL}."):
                raise ConfigurationError(
                    f"the name {made.name!r} is reserved", hint=f"choose one that does not begin with '{CONTROL}.'"
                )
            if made.name in self.activities:
                raise DuplicateActivity(
                    f"App {self.name!r} has an activity {made.name!r} already", hint="give this one a name=..."
                )
            self.activities[made.name] = made
        return made

    def override(self, provider: Callable[..., Any], replacement: Callable[..., Any]) -> AbstractContextManager[None]:
        """In tests: use another provider wherever ``Depends(provider)`` stands, until the context ends."""
        return overridden(self._overrides, provider, replacement)

    def queue_of(self, activity: Activity[..., Any]) -> str:
        """The full name of the queue an activity is served from."""
        return self.catalog.queue_of(activity)

    @property
    def catalog(self) -> Catalog:
        """What is known of activities here, and where they are served."""
        return Catalog(self.activities, self.prefix)

    # --- connections -----------------------------------------------------------------------------------------

    @cached_property
    def transport(self) -> BaseTransport:
        """What carries the messages."""
        from paigeant.transports import get_transport

        return get_transport(self.settings.broker_url, lease_seconds=self.settings.lease_seconds)

    @cached_property
    def store(self) -> Store | None:
        """What remembers workflows, or None."""
        url = store_url(self.settings.broker_url, self.settings.store_url)
        return open_store(url) if url else None

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """What sends and settles."""
        ledger = self.store.ledger() if self.store is not None else None
        return Dispatcher(
            transport=self.transport,
            store=self.store,
            joined=ledger is not None and self.transport.enlist(ledger),
            app=self.name,
            prefix=self.prefix,
            message_limit=self.settings.message_limit,
            observers=self.observers,
        )

    @property
    def timers(self) -> Timers | None:
        """What sends on messages that wait in the store, or None without one."""
        return Timers(self.dispatcher, self.store, self.clock) if self.store is not None else None

    async def connect(self) -> None:
        """Reach broker and store, or say why not."""
        dispatcher = self.dispatcher
        if dispatcher.store is not None:
            await dispatcher.store.connect()
        await dispatcher.transport.connect()

    async def close(self) -> None:
        """Disconnect, unless another App uses the connection; using the App again connects again."""
        from paigeant.transports import forget

        made = self.__dict__
        made.pop("dispatcher", None)
        transport = made.pop("transport", None)
        if transport is not None and not _is_used(transport):
            forget(transport)
            await transport.close()
        if store := made.pop("store", None):
            await store.close()

    # --- workflows -------------------------------------------------------------------------------------------

    def dispatch(
        self,
        *steps: Step | RoutingSlip | Iterable[Step],
        variables: Mapping[str, Any] | None = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - the promised name
    ) -> Workflow:
        """Send a workflow on its way. Takes activities, steps, names of activities of other services, or a slip.

        In plain code the message is on the broker when this returns. Under a running event loop it returns at once,
        and ``await`` ing the workflow gives the same certainty. The same ``id`` twice is one workflow.

        Raises:
            StoreRequired: a step waits, and the App has no store.
            ConfigurationError: an empty itinerary, a wrong or missing argument, a value that cannot be written as JSON.
            TransportError, StoreError: broker or store cannot be reached.
        """
        try:
            slip = self.catalog.slip(steps, variables or {})
            message = PaigeantMessage(
                correlation_id=id or new_correlation_id(), name=name or self.name, routing_slip=slip
            )
        except ValidationError as error:
            raise InvalidArguments(f"this cannot be dispatched: {problem(error)}") from error
        waiting = next((step.name for step in slip.itinerary if step.name in BUILT_IN), None)
        if waiting is not None and self.store is None:
            raise StoreRequired(
                f"a step {waiting!r} waits in a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        last = slip.itinerary[-1]
        with self._lock:
            dispatcher = self.dispatcher
        sending = dispatcher.start(
            dispatcher.dispatched(message, self.clock.now()), dispatcher.encoded(message), repeated=id is not None
        )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(sending)
            return self._workflow(message.correlation_id, last)
        return self._workflow(message.correlation_id, last, loop.create_task(sending))

    def workflow(self, correlation_id: str) -> Workflow:
        """The handle of a workflow that was dispatched before."""
        return self._workflow(correlation_id, None)

    def _workflow(
        self, correlation_id: str, last: ActivitySpec | None, sent: asyncio.Task[None] | None = None
    ) -> Workflow:
        known = self.catalog.find(last.name) if last else None
        return Workflow(
            correlation_id,
            self.store,
            timers=self.timers,
            output_type=known.output_type if known else Any,
            last_step=last.id if last else None,
            sent=sent,
        )

    # --- in plain code ---------------------------------------------------------------------------------------

    def close_sync(self) -> None:
        """:meth:`close` for plain code."""
        run_sync(self.close(), "await app.close()")


def _is_used(transport: BaseTransport) -> bool:
    return any(app.__dict__.get("transport") is transport for app in _apps)
