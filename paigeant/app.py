"""The App: activities, where messages go and where history is kept."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from weakref import WeakSet

from fast_depends import Provider
from pydantic import ValidationError
from typing_extensions import Unpack

from paigeant.activity import Activity, ActivityOptions, AgentOptions, caller_namespace, problem
from paigeant.activity.depends import overridden
from paigeant.activity.hooks import Hooked, Hooks
from paigeant.budget import Budget
from paigeant.catalog import Catalog, Step, refuse_priority
from paigeant.clock import Clock, SystemClock
from paigeant.code_version import files_of
from paigeant.config import CHECKS_TOKENS, load_settings
from paigeant.dead_letters import DeadLetters
from paigeant.dead_letters.queued import QueuedLetters
from paigeant.dead_letters.stored import StoredLetters
from paigeant.dispatch import Dispatcher
from paigeant.errors import ConfigurationError, DuplicateActivity, InvalidArguments
from paigeant.events import Event
from paigeant.grant import Grant
from paigeant.idempotency import use_of
from paigeant.ids import derive_keyed_id, new_correlation_id
from paigeant.logs import hand_over
from paigeant.message import PaigeantMessage
from paigeant.observers import Observer, kinds_of, observer_of
from paigeant.plan import Send
from paigeant.retention import Retention
from paigeant.schedules import Timetable
from paigeant.schedules.schedule import Schedule, Schedules, takes_time
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.steps import CONTROL
from paigeant.store import Store
from paigeant.stores import open_keeper, open_store, store_url
from paigeant.timers import Timers
from paigeant.times import Times, When
from paigeant.transport import BaseTransport
from paigeant.urls import is_database_url
from paigeant.workflow import Workflow, run_sync
from paigeant.workflow.forks import Forks
from paigeant.workflow.steering import Steering

if TYPE_CHECKING:
    from types import FrameType

    from pydantic_ai.agent import AbstractAgent

    from paigeant.activity import P, R
    from paigeant.agents import AgentActivity
    from paigeant.security.claims import Tokens

F = TypeVar("F", bound=Callable[..., Any])

_apps: WeakSet[App] = WeakSet()
"""The Apps of this process: those with one broker URL share its connection."""


class App(Hooked):
    """A set of activities, a broker and a store.

    ``broker`` and ``store`` are URLs and default to one SQLite file; ``store="none"`` remembers nothing.
    ``durability="best_effort"`` allows a broker that may lose messages. What is not given comes from ``PAIGEANT_*``
    variables, ``.env`` and ``[tool.paigeant]``. Nothing connects before it is used.

    Raises:
        ConfigurationError: a setting that makes no sense, or a broker that nothing here knows.
    """

    clock: Clock = SystemClock()
    """What its workflows and workers take for the time; simulations have one of their own."""

    def __init__(
        self,
        name: str,
        broker: str | None = None,
        store: str | None = None,
        *,
        durability: str | None = None,
        queue_prefix: str | None = None,
        lease_seconds: float | None = None,
        max_deliveries: int | None = None,
        message_limit: int | None = None,
        claim_check: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.name = name
        self.settings = load_settings(
            broker_url=broker,
            store_url=store,
            durability=durability,
            queue_prefix=queue_prefix,
            lease_seconds=lease_seconds,
            max_deliveries=max_deliveries,
            message_limit=message_limit,
            claim_check=claim_check,
        )
        _check_broker(self.settings.broker_url)
        self.prefix = self.settings.queue_prefix or name
        hand_over()
        self.activities: dict[str, Activity[..., Any]] = {}
        self.source_files: set[str] = set()
        self.declared_schedules: dict[str, Schedule] = {}
        self.observers: list[Observer] = []
        for observer in observers:
            self.observe(observer)
        self.hooks = Hooks()
        self._overrides = Provider()
        self.everywhere: list[App] = [self]
        """Itself, and what :meth:`on` made of it."""
        self._lock = threading.RLock()
        _apps.add(self)

    def __repr__(self) -> str:
        return f"<App {self.name!r}>"

    # --- activities ------------------------------------------------------------------------------------------

    @overload
    def activity(self, function: Callable[P, R], /) -> Activity[P, R]: ...
    @overload
    def activity(self, agent: AbstractAgent[Any, Any], /, **options: Unpack[AgentOptions]) -> AgentActivity: ...
    @overload
    def activity(self, /, **options: Unpack[ActivityOptions]) -> Callable[[Callable[P, R]], Activity[P, R]]: ...

    def activity(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function or a pydantic-ai agent an activity: ``@app.activity``, bare or with options.

        ``name`` defaults to the function's; ``queue`` is the part of the queue's name after the prefix and defaults to
        the activity's name; ``timeout`` is seconds per attempt; ``priority`` is 0 to 9, 9 first. A step waits at
        most ``start_timeout`` seconds for a worker, and is ended when it gives no sign of life with ``ctx.heartbeat()``
        for ``heartbeat_timeout`` seconds. ``retry`` says when a
        failed step is tried again, ``retry_on`` and ``give_up_on`` for which errors: a type, several, or a function of
        the error. With ``lock=True`` one step of the activity runs at a time, on all workers of one store; with
        ``lock="customer:{id}"`` one for each value of its argument ``id``. ``concurrency=5`` lets five run at a time,
        ``rate="100/m"`` a hundred start in a minute; ``concurrency={"customer:{id}": 2}`` and ``rate={...}`` have names
        as a lock has.

        An agent's name defaults to its own, then to the variable that holds it. ``prompt`` is for steps that have none;
        ``deps`` is a provider, as in ``Depends(deps)``, of the agent's deps; ``usage_limits`` hold for each run.
        ``durable`` says what an interrupted run does not do again: ``"full"``, a finished model request or tool call;
        ``"model"``, a finished model request; ``"step"``, nothing.

        Raises:
            DuplicateActivity: the App has an activity of this name.
            ConfigurationError: the function cannot be an activity, or the agent has no name.
        """
        frame = sys._getframe(1)
        self.source_files |= files_of(function, frame.f_code)
        if function is None:
            namespace = caller_namespace(1)
            return lambda decorated: self._register(decorated, options, namespace)
        return self._register(function, options, caller_namespace(1), frame)

    def _register(
        self, function: Any, options: dict[str, Any], namespace: Mapping[str, Any], frame: FrameType | None = None
    ) -> Activity[..., Any]:
        if isinstance(function, str) or not (callable(function) or hasattr(function, "run")):
            raise ConfigurationError(f"{function!r} cannot be an activity", hint="decorate a function or pass an Agent")
        options = options | {"overrides": self._overrides, "namespace": namespace, "hooks": self.hooks}
        if callable(function):
            made: Activity[..., Any] = Activity(function, **options)
        else:
            from paigeant.agents import agent_activity

            made = agent_activity(function, held_in=frame, **options)
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

    # --- observers ---------------------------------------------------------------------------------

    @overload
    def observe(self, observer: F, /) -> F: ...
    @overload
    def observe(self, /, *wanted: type[Event]) -> Callable[[F], F]: ...

    def observe(self, /, *wanted: Any) -> Any:
        """Decorates what is told each event of these types, after it was recorded; bare, ``@app.observe``, of all.

        An observer is a plain function that returns soon. What it raises is logged and changes nothing.

        Raises:
            ConfigurationError: it is async, or something that is no type of event.
        """
        if len(wanted) == 1 and not isinstance(wanted[0], type):
            self.observers.append(observer_of(wanted[0]))
            return wanted[0]
        kinds = kinds_of(wanted)

        def register(observer: F) -> F:
            self.observers.append(observer_of(observer, kinds))
            return observer

        return register

    # --- schedules -------------------------------------------------------------------------------------------

    def schedule(
        self,
        name: str | None = None,
        *steps: Step | RoutingSlip | Iterable[Step],
        every: float | timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        backfill: Literal["none", "latest", "all"] = "latest",
        variables: Mapping[str, Any] | None = None,
        paused: bool = False,
    ) -> Callable[[F], F]:
        """Dispatch these steps again and again, or what the decorated function returns: steps, a slip, or None.

        The function takes nothing, or the ``datetime`` it is due; its name is the schedule's unless one is given.
        ``every`` counts seconds from 1970 on; ``cron`` has five fields and is read in the ``timezone``. ``backfill``
        says which of the times that passed while no worker ran are made up for. With ``paused`` it begins paused.

        Raises:
            ConfigurationError: a timetable that makes no sense, wrong steps, or a name that is taken.
        """
        timetable = Timetable.of(every, cron, timezone, backfill)
        self.source_files |= files_of(None, sys._getframe(1).f_code)

        def declare(function: F) -> F:
            self._declare(
                Schedule(
                    name=name or function.__name__,
                    timetable=timetable,
                    function=function,
                    takes_time=takes_time(function),
                    variables=dict(variables or {}),
                    paused=paused,
                )
            )
            return function

        if steps:
            self.catalog.slip(steps, variables or {})
            declare(lambda: steps)
        return declare

    def _declare(self, schedule: Schedule) -> None:
        with self._lock:
            if schedule.name in self.declared_schedules:
                raise ConfigurationError(
                    f"App {self.name!r} has a schedule {schedule.name!r} already", hint="give this one another name"
                )
            self.declared_schedules[schedule.name] = schedule

    @property
    def schedules(self) -> Schedules:
        """The schedules of this App: to list, pause, resume and run."""
        return Schedules(self.name, self.declared_schedules, self.store, self.dispatch, self.clock)

    @property
    def retention(self) -> Retention:
        """What forgets workflows that are over."""
        return Retention(self.dispatcher, self.clock)

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

    def use(self, broker: str | None = None, store: str | None = None) -> None:
        """Other URLs than it was made with, before anything connects.

        Raises:
            ConfigurationError: a broker that nothing here knows.
        """
        urls = {"broker_url": broker, "store_url": store}
        self.settings = self.settings.model_copy(update={name: url for name, url in urls.items() if url})
        _check_broker(self.settings.broker_url)

    def on(self, transport: BaseTransport) -> App:
        """The App whose activities are these and whose messages this transport carries; itself, if it uses it anyway.

        Its store is the same where one was named, else that of the transport's database.
        """
        if "transport" not in self.__dict__ and self.settings.broker_url == transport.url:
            self.transport = transport
        for app in self.everywhere:
            if app.__dict__.get("transport") is transport:
                return app
        other = copy(self)
        for made in ("transport", "store", "dispatcher"):
            other.__dict__.pop(made, None)
        other.settings = self.settings.model_copy(update={"broker_url": transport.url})
        other.transport = transport
        _apps.add(other)
        self.everywhere.append(other)
        return other

    @cached_property
    def transport(self) -> BaseTransport:
        """What carries the messages."""
        from paigeant.transports import get_transport

        settings = self.settings
        return get_transport(settings.broker_url, lease_seconds=settings.lease_seconds, durability=settings.durability)

    @cached_property
    def tokens(self) -> Tokens | None:
        """What checks the tokens of users on whose behalf workflows run, or None where the settings say nothing of it.

        Raises:
            ConfigurationError: they do not say enough.
        """
        if not self.settings.has_tokens:
            return None
        from paigeant.security.claims import Tokens

        return Tokens.of(self.settings)

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
            stream_retention=self.settings.stream_retention,
            observers=self.observers,
            keeper=open_keeper(url) if (url := self.settings.claim_check) else self.store,
            large=self.settings.claim_check_from,
            value_limit=self.settings.value_limit,
        )

    @property
    def steering(self) -> Steering | None:
        """What cancels, pauses and resumes workflows, or None without a store."""
        timers = self.timers
        return Steering(self.dispatcher, timers.store, timers) if timers is not None else None

    @property
    def dead_letters(self) -> DeadLetters:
        """What was set aside: to look at, send again, change and throw away."""
        timers, dispatcher = self.timers, self.dispatcher
        if timers is not None:
            return DeadLetters(StoredLetters(dispatcher, timers.store, timers), dispatcher, self.catalog, self.clock)
        return DeadLetters(QueuedLetters(dispatcher, self.clock), dispatcher, self.catalog, self.clock)

    @property
    def _forks(self) -> Forks | None:
        store = self.store
        return Forks(self.dispatcher, store, self.catalog, self.clock, self._workflow) if store is not None else None

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
        if store := made.get("store"):
            await store.close()

    # --- workflows -------------------------------------------------------------------------------------------

    def dispatch(
        self,
        *steps: Step | RoutingSlip | Iterable[Step],
        variables: Mapping[str, Any] | None = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - the promised name
        delay: float | timedelta | None = None,
        eta: datetime | None = None,
        expires: When | None = None,
        deadline: When | None = None,
        idempotency_key: str | None = None,
        obo_token: str | None = None,
        budget: Budget | None = None,
        grant: Grant | None = None,
    ) -> Workflow:
        """Send a workflow on its way. Takes activities, steps, names of activities of other services, or a slip.

        In plain code the message is on the broker when this returns. Under a running event loop it returns at once,
        and ``await`` ing the workflow gives the same certainty. The same ``id`` twice is one workflow.

        The first step is due at once, after ``delay`` seconds or at ``eta``. If it is not started within ``expires``
        of then, or the workflow is not over within ``deadline`` of now, the workflow fails; both are seconds or a time.

        What its steps use, and its branches, is limited by the ``budget``; how they may change the itinerary, by the
        ``grant``.

        The same ``idempotency_key`` with the same name, steps, arguments and variables is the same workflow, sent once.

        ``obo_token`` is the token of the user on whose behalf it runs: it travels along, and every worker checks it.

        Raises:
            IdempotencyConflict: the key stands for something else; under a running event loop, awaiting says so.
            StoreRequired: something waits for longer than the broker can keep it, and the App has no store.
            ConfigurationError: an empty itinerary, a wrong or missing argument, a value that cannot be written as JSON,
                a priority that the broker takes no heed of, a token and no settings by which to check one.
            TransportError, StoreError: broker or store cannot be reached.
        """
        now = self.clock.now()
        times = Times.of(now, delay=delay, eta=eta, expires=expires, deadline=deadline)
        if budget is not None and budget.seconds is not None:
            times = times.ending_by(now + budget.seconds)
        try:
            slip = self.catalog.slip(steps, variables or {}).within(budget).granting(grant)
            message = PaigeantMessage(
                correlation_id=self._new_id(id, idempotency_key),
                name=name or self.name,
                routing_slip=slip,
                deadline=times.deadline,
                obo_token=obo_token,
            ).due(times.due_at)
        except ValidationError as error:
            raise InvalidArguments(f"this cannot be dispatched: {problem(error)}") from error
        if obo_token is not None and self.tokens is None:
            raise ConfigurationError("nothing here says how to check the token of a user", hint=f"set {CHECKS_TOKENS}")
        if self.store is None:
            self.catalog.refuse_what_is_stored(slip, idempotency_key)
        last = slip.itinerary[-1]
        with self._lock:
            dispatcher = self.dispatcher
        refuse_priority(slip, dispatcher.transport.features)
        if times.start_by is not None:
            message = message.model_copy(update={"start_by": times.start_by})
        send = Send(message, times.due_at - now)
        begun = dispatcher.begun(send, now)
        if idempotency_key is not None:
            sending = dispatcher.start_once(begun, use_of(idempotency_key, message))
        else:
            sending = dispatcher.start(begun, repeated=id is not None)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(sending)
            return self._workflow(message.correlation_id, last)
        return self._workflow(message.correlation_id, last, loop.create_task(sending))

    def _new_id(self, given: str | None, idempotency_key: str | None) -> str:
        if idempotency_key is None:
            return given or new_correlation_id()
        if given is not None or not idempotency_key:
            raise InvalidArguments(
                "dispatch takes either id or idempotency_key, and no empty key",
                hint="the key gives the workflow its id",
            )
        return derive_keyed_id(self.name, idempotency_key)

    def workflow(self, correlation_id: str) -> Workflow:
        """The handle of a workflow that was dispatched before."""
        return self._workflow(correlation_id, None)

    async def cancel(
        self, correlation_id: str, *, compensate: bool = False, reason: str = "", by: str | None = None
    ) -> None:
        """:meth:`paigeant.Workflow.cancel` for a workflow that was dispatched before."""
        await self.workflow(correlation_id).cancel(compensate=compensate, reason=reason, by=by)

    def _workflow(
        self, correlation_id: str, last: ActivitySpec | None, sent: asyncio.Task[None] | None = None
    ) -> Workflow:
        known = self.catalog.find(last.name) if last else None
        return Workflow(
            correlation_id,
            self.store,
            timers=self.timers,
            steering=self.steering,
            letters=self.dead_letters,
            forks=self._forks,
            output_type=known.output_type if known else Any,
            last_step=last.id if last else None,
            sent=sent,
        )

    # --- in plain code ---------------------------------------------------------------------------------------

    def close_sync(self) -> None:
        """:meth:`close` for plain code."""
        run_sync(self.close(), "await app.close()")


def _check_broker(url: str) -> None:
    if not is_database_url(url):  # kombu, which knows the others, takes a while to import
        from paigeant.transports import check_broker

        check_broker(url)


def _is_used(transport: BaseTransport) -> bool:
    return any(app.__dict__.get("transport") is transport for app in _apps)
