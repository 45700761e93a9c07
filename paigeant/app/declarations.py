"""The declarations of an App: its activities, observers and schedules."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from fast_depends import Provider
from typing_extensions import Unpack

from paigeant.activity import (
    Activity,
    ActivityOptions,
    AgentOptions,
    AgentOptionsWithoutDeps,
    caller_namespace,
    refuse_unknown,
)
from paigeant.activity.builtin import CONTROL
from paigeant.activity.depends import overridden
from paigeant.activity.hooks import Hooked, Hooks
from paigeant.activity.observers import Observer, kinds_of, observer_of
from paigeant.dispatch.catalog import Catalog, Step
from paigeant.dispatch.strangers import Strangers
from paigeant.errors import ConfigurationError, DuplicateActivity
from paigeant.events import Event
from paigeant.runtime import forks
from paigeant.runtime.code_version import files_of, place_of
from paigeant.schedules import Timetable
from paigeant.schedules.schedule import Schedule, takes_time
from paigeant.wire.names import check_name
from paigeant.wire.slip import RoutingSlip

if TYPE_CHECKING:
    from types import FrameType

    from pydantic_ai.agent import AbstractAgent

    from paigeant.activity import Decorator, P, R, Unannotated
    from paigeant.activity.decorating import Item, Sent
    from paigeant.agents import AgentActivity
    from paigeant.agents.activity import Deps

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Declarations(Hooked):
    """The part of an App that works without a connection. ``prefix`` is the first part of every queue's name."""

    def __init__(self, name: str, prefix: str, strangers: Strangers, observers: Sequence[Observer]) -> None:
        check_name("the name of an App", name)
        check_name("the queue_prefix of an App", prefix)
        self.name = name
        """The App's name; also the first part of every queue's name, unless ``queue_prefix`` is set."""
        self.prefix = prefix
        self.activities: dict[str, Activity[..., Any]] = {}
        """The activities by name."""
        self._places: dict[str, str] = {}
        """File and line where each activity is defined, by the activity's name."""
        self.source_files: set[str] = set()
        self.declared_schedules: dict[str, Schedule] = {}
        self.observers: list[Observer] = []
        for observer in observers:
            self.observe(observer)
        self.hooks = Hooks()
        self.strangers = strangers
        """Judges steps of activities that this App does not have."""
        self._overrides = Provider()
        self._lock = forks.Lock()

    def __repr__(self) -> str:
        return f"<App {self.name!r}>"

    # --- activities ------------------------------------------------------------------------------------------

    # The same overloads as in paigeant.activity.Decorator, where comments explain how type checkers choose one.
    @overload
    def activity(self, function: Callable[P, Unannotated], /) -> Activity[P, Any, Any]: ...
    @overload
    def activity(
        self, function: Callable[P, Coroutine[Item, Sent, T]], /
    ) -> Activity[P, Coroutine[Item, Sent, T], T]: ...
    @overload
    def activity(self, function: Callable[P, AsyncIterator[T]], /) -> Activity[P, AsyncIterator[T], list[T]]: ...
    @overload
    def activity(
        self, function: Callable[P, Generator[T, Sent, None]], /
    ) -> Activity[P, Generator[T, Sent, None], list[T]]: ...
    @overload
    def activity(  # type: ignore[overload-overlap]
        self, function: Callable[P, Generator[Item, Sent, T]], /
    ) -> Activity[P, Generator[Item, Sent, T], T]: ...
    @overload
    def activity(self, function: Callable[P, Iterator[T]], /) -> Activity[P, Iterator[T], list[T]]: ...
    @overload
    def activity(self, function: Callable[P, R], /) -> Activity[P, R, R]: ...
    @overload
    def activity(self, agent: AbstractAgent[Deps, T], /, **options: Unpack[AgentOptions]) -> AgentActivity[Deps, T]: ...
    @overload
    def activity(
        self, agent: AbstractAgent[Any, T], /, *, deps: Callable[..., Any], **options: Unpack[AgentOptionsWithoutDeps]
    ) -> AgentActivity[None, T]: ...
    @overload
    def activity(self, /, **options: Unpack[ActivityOptions]) -> Decorator: ...

    def activity(self, function: Any = None, /, **options: Any) -> Any:
        """Register a function or a pydantic-ai agent as an activity: ``@app.activity``, with or without options.

        ``name`` defaults to the function's name. ``queue`` is the part of the queue's name after the prefix and
        defaults to the activity's name. ``timeout`` is seconds per attempt; ``priority`` is 0 to 9, 9 first. A step
        waits at most ``start_timeout`` seconds for a worker. The worker ends a step that does not call
        ``ctx.heartbeat()`` for ``heartbeat_timeout`` seconds.

        ``retry`` says when a failed step is retried. ``retry_on`` and ``give_up_on`` say for which errors: one type,
        several types, or a function of the error.

        With ``lock=True`` one step of the activity runs at a time, across all workers of one store; with
        ``lock="customer:{id}"`` one step runs at a time for each value of its argument ``id``. ``concurrency=5`` lets
        five steps run at a time, and ``rate="100/m"`` lets a hundred start in a minute. Like a lock, both can have a
        name with arguments: ``concurrency={"customer:{id}": 2}`` and ``rate={...}``.

        ``scopes`` are the scopes that the token of the user must have for whom the workflow runs. A step of the
        activity and its compensation are refused without them.

        An activity of an unnamed agent takes the name of the variable that the agent is assigned to. ``prompt`` is for
        steps that have none; ``deps`` is a provider, as in ``Depends(deps)``, of the agent's deps; ``usage_limits``
        apply to each run. ``durable`` says what an interrupted run does not repeat: ``"full"``, a finished model
        request or tool call; ``"model"``, a finished model request; ``"step"``, nothing.

        Raises:
            DuplicateActivity: the App already has an activity of this name.
            ConfigurationError: the function cannot be an activity, the agent has no name, or there is no such option.
        """
        is_agent = function is None or not callable(function)
        refuse_unknown(options, (AgentOptions if is_agent else ActivityOptions).__optional_keys__, "@app.activity")
        frame = sys._getframe(1)
        self.source_files |= files_of(function, frame.f_code)
        if function is None:
            namespace = caller_namespace(1)
            return lambda decorated: self._register(decorated, options, namespace, frame)
        return self._register(function, options, caller_namespace(1), frame, assigned_in=frame)

    def _register(
        self,
        function: Any,
        options: dict[str, Any],
        namespace: Mapping[str, Any],
        frame: FrameType,
        assigned_in: FrameType | None = None,
    ) -> Activity[..., Any]:
        if isinstance(function, str) or not (callable(function) or hasattr(function, "run")):
            raise ConfigurationError(f"{function!r} cannot be an activity", hint="decorate a function or pass an Agent")
        options = options | {"overrides": self._overrides, "namespace": namespace, "hooks": self.hooks}
        if callable(function):
            made: Activity[..., Any] = Activity(function, **options)
        else:
            from paigeant.agents import agent_activity

            made = agent_activity(function, assigned_in=assigned_in, **options)
        with self._lock:
            if made.name.startswith(f"{CONTROL}."):
                raise ConfigurationError(
                    f"the name {made.name!r} is reserved", hint=f"choose one that does not begin with '{CONTROL}.'"
                )
            if made.name in self.activities:
                raise DuplicateActivity(
                    f"App {self.name!r} already has an activity {made.name!r}, at {self._places[made.name]}",
                    hint="pass name=... to this one",
                )
            self.activities[made.name] = made
            self._places[made.name] = place_of(function, frame)
        return made

    # --- observers ---------------------------------------------------------------------------------

    @overload  # first, because a type is a function too
    def observe(self, /, *wanted: type[Event]) -> Callable[[F], F]: ...
    @overload
    def observe(self, observer: F, /) -> F: ...

    def observe(self, /, *wanted: Any) -> Any:
        """Decorate an observer. paigeant calls it with each event of these types, after the event was recorded.

        A bare ``@app.observe`` observes all events. An observer is a plain function that returns soon. paigeant logs
        what the observer raises; the error changes nothing else.

        Raises:
            ConfigurationError: the observer is async, or an argument is not a type of event.
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
        """Dispatch these steps on a schedule, or decorate a function that returns them: steps, a slip, or None.

        The function takes no argument, or the ``datetime`` at which it is due. Unless you pass a name, the schedule
        takes the function's name. ``every`` is seconds, counted from 1970 on; ``cron`` has five fields and is read in
        the ``timezone``. ``backfill`` says which times that passed while no worker ran are dispatched later. With
        ``paused`` the schedule starts paused.

        Raises:
            ConfigurationError: the timetable is invalid, the steps are wrong, or the name is taken.
        """
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(
                f"a schedule's first argument is its name, not {name!r}",
                hint='write: app.schedule("name", activity, every=60)',
            )
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
            self.strangers.among(self.catalog.slip(steps, variables or {}).itinerary, self.catalog)
            declare(lambda: steps)
        return declare

    def _declare(self, schedule: Schedule) -> None:
        check_name("the name of a schedule", schedule.name)
        with self._lock:
            if schedule.name in self.declared_schedules:
                raise ConfigurationError(
                    f"App {self.name!r} already has a schedule {schedule.name!r}", hint="choose another name"
                )
            self.declared_schedules[schedule.name] = schedule

    def override(self, provider: Callable[..., Any], replacement: Callable[..., Any]) -> AbstractContextManager[None]:
        """Use another provider for each ``Depends(provider)`` until the context ends. Meant for tests."""
        return overridden(self._overrides, provider, replacement)

    def queue_of(self, activity: Activity[..., Any]) -> str:
        """Return the full name of the queue from which workers serve the activity."""
        return self.catalog.queue_of(activity)

    @property
    def catalog(self) -> Catalog:
        """The activities that this App knows, and the queues that serve them."""
        return Catalog(self.activities, self.prefix)
