"""The App: declares activities, connects to a broker and a store, and dispatches workflows."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

import structlog
from pydantic import ValidationError
from typing_extensions import Unpack

from paigeant.activity import problem
from paigeant.activity.observers import Observer
from paigeant.app.connections import Connections
from paigeant.config import CHECKS_TOKENS, load_settings
from paigeant.dead_letters import DeadLetters
from paigeant.dead_letters.queued import QueuedLetters
from paigeant.dead_letters.stored import StoredLetters
from paigeant.decisions.idempotency import use_of
from paigeant.decisions.plan import Send
from paigeant.dispatch.catalog import MYPY, D, Step, Steps, refuse_priority
from paigeant.dispatch.strangers import Attitude, Strangers
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.runtime.habits import OF_APPS, no_attribute
from paigeant.runtime.logs import hand_over
from paigeant.schedules.retention import Retention
from paigeant.schedules.schedule import Schedules
from paigeant.wire.budget import Budget
from paigeant.wire.grant import Grant
from paigeant.wire.ids import derive_keyed_id, new_correlation_id
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.names import check_name
from paigeant.wire.slip import ActivitySpec
from paigeant.wire.times import Times, When
from paigeant.wire.user_token import LIMIT, claimed_scopes
from paigeant.workflow import OWN_TYPE, DispatchOptions, Workflow, checked_type, run_sync
from paigeant.workflow.forks import Forks
from paigeant.workflow.steering import Steering

if TYPE_CHECKING:
    from types import FrameType

    from paigeant.dispatch.catalog import Last

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.app")


class App(Connections):
    """A set of activities, a broker and a store.

    ``broker`` and ``store`` are URLs and default to one SQLite file; ``store="none"`` remembers nothing.
    ``durability="best_effort"`` allows a broker that may lose messages. With ``unknown_activities="refuse"`` a dispatch
    fails if neither the App nor a live worker has the activity of a step; by default it warns. Options that you leave
    out come from ``PAIGEANT_*`` variables, ``.env`` and ``[tool.paigeant]``. The App connects on first use.

    Raises:
        ConfigurationError: a setting is invalid, or no transport supports the broker's URL.
    """

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
        unknown_activities: Attitude | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        settings = load_settings(
            broker_url=broker,
            store_url=store,
            durability=durability,
            queue_prefix=queue_prefix,
            lease_seconds=lease_seconds,
            max_deliveries=max_deliveries,
            message_limit=message_limit,
            claim_check=claim_check,
            unknown_activities=unknown_activities,
        )
        hand_over()
        super().__init__(name, settings, Strangers(settings.unknown_activities), observers)

    if not TYPE_CHECKING:  # so that type checkers report these names, too

        def __getattr__(self, name: str) -> Any:
            """Raise an error that suggests the replacement for an attribute known from other libraries' apps."""
            if name in OF_APPS:
                raise no_attribute(self, name, repr(self), OF_APPS)
            return object.__getattribute__(self, name)  # raises what the lookup before this one raised

    @property
    def schedules(self) -> Schedules:
        """The schedules of this App. You can list, pause, resume and run them."""
        return Schedules(self.name, self.declared_schedules, self.store, self.dispatch, self.clock)

    @property
    def retention(self) -> Retention:
        """Prunes ended workflows from the store."""
        return Retention(self.dispatcher, self.clock)

    @property
    def steering(self) -> Steering | None:
        """Cancels, pauses and resumes workflows; None without a store."""
        timers, store = self.timers, self.store
        return Steering(self.dispatcher, store, timers) if timers is not None and store is not None else None

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters. You can list, redrive, edit and discard them."""
        timers, store, dispatcher = self.timers, self.store, self.dispatcher
        if timers is not None and store is not None:
            return DeadLetters(StoredLetters(dispatcher, store, timers), dispatcher, self.catalog, self.clock)
        return DeadLetters(QueuedLetters(dispatcher, self.clock), dispatcher, self.catalog, self.clock)

    @property
    def _forks(self) -> Forks | None:
        store = self.store
        return Forks(self.dispatcher, store, self.catalog, self.clock, self._workflow) if store is not None else None

    # --- workflows -------------------------------------------------------------------------------------------

    # A type checker infers the type of the result from the last step.
    @overload
    def dispatch(
        self, *steps: *tuple[*tuple[Steps, ...], Last[D]], **options: Unpack[DispatchOptions]
    ) -> Workflow[D]: ...
    @overload
    def dispatch(self, steps: Iterable[Step], /, **options: Unpack[DispatchOptions]) -> Workflow[Any]: ...
    @overload
    def dispatch(self, *steps: Steps, result_type: type[T], **options: Unpack[DispatchOptions]) -> Workflow[T]: ...
    @overload
    def dispatch(self, *steps: Steps, result_type: Any, **options: Unpack[DispatchOptions]) -> Workflow[Any]: ...

    if (
        not MYPY
    ):  # pyright needs this overload for app.dispatch(*steps); with it, mypy would infer Any for async activities

        @overload
        def dispatch(self, *steps: Steps, **options: Unpack[DispatchOptions]) -> Workflow[Any]: ...

    def dispatch(self, *steps: Steps, **options: Any) -> Workflow[Any]:  # type: ignore[misc]
        """Dispatch a workflow. The steps are activities, steps, names of activities of other services, or a slip.

        In plain code the broker has the message when this call returns. Under a running event loop the call returns at
        once; awaiting the workflow waits for the broker. If you never await it, Python shows a ``RuntimeWarning``.
        Two dispatches with the same ``id`` are one workflow.

        The first step is due at once, after ``delay`` seconds or at ``eta``. The workflow fails if the first step does
        not start within ``expires`` after that, or if the workflow does not end within ``deadline`` from now. Both are
        seconds or a time.

        ``budget`` limits what the steps and branches of the workflow use; ``grant`` limits how steps may change the
        itinerary.

        ``result_type`` names the type of the workflow's result: ``result()`` validates the output against it. By
        default that is the type that the last activity returns.

        Dispatches with the same ``idempotency_key``, name, steps, arguments and variables are one workflow, which is
        published once.

        ``obo_token`` is the token of the user on whose behalf the workflow runs. Every message carries it, and every
        worker checks it.

        Raises:
            IdempotencyConflict: the key belongs to a different dispatch; under a running event loop, awaiting raises
                this.
            ScopesMissing: an activity of this App needs scopes that the token of the user does not have.
            UnknownActivity: the App refuses unknown activities; under a running event loop, awaiting raises this.
            StoreRequired: a delay is longer than the broker supports, and the App has no store.
            ConfigurationError: the itinerary is empty, an argument is wrong or missing, a value cannot be serialized
                as JSON, the broker ignores priorities, or there is a token but no settings to check it.
            TransportError, StoreError: broker or store cannot be reached.
        """
        return self._dispatch(steps, sys._getframe(1), **options)

    def _dispatch(
        self,
        steps: Sequence[Steps],
        caller: FrameType,
        *,
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
        result_type: Any = OWN_TYPE,
    ) -> Workflow[Any]:
        result_type = checked_type(result_type)
        check_name("the id of a workflow", id)
        check_name("the name of a workflow", name)
        now = self.clock.now()
        times = Times.of(now, delay=delay, eta=eta, expires=expires, deadline=deadline)
        if budget is not None and budget.seconds is not None:
            times = times.ending_by(now + budget.seconds)
        try:
            message = PaigeantMessage(
                correlation_id=self._new_id(id, idempotency_key),
                name=name or self.name,
                routing_slip=self.catalog.slip(steps, variables or {}).within(budget).granting(grant),
                deadline=times.deadline,
                obo_token=obo_token,
            ).due(times.due_at)
        except ValidationError as error:
            raise InvalidArguments(f"this cannot be dispatched: {problem(error)}") from error
        if times.start_by is not None:
            message = message.model_copy(update={"start_by": times.start_by})
        sending = self._sending(Send(message, times.due_at - now), now, idempotency_key, is_named=id is not None)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(sending)
            return self._workflow(message.correlation_id, result_type)
        task = loop.create_task(sending)
        task.add_done_callback(_warn_of_loss)
        return self._workflow(message.correlation_id, result_type, task, (caller.f_code.co_filename, caller.f_lineno))

    def _sending(
        self, send: Send, now: float, idempotency_key: str | None, *, is_named: bool
    ) -> Coroutine[Any, Any, None]:
        """Check and encode a workflow's first message; the returned coroutine publishes it.

        ``is_named``: the caller chose the workflow's id.
        """
        message, slip = send.message, send.message.routing_slip
        if message.obo_token is not None and self.tokens is None:
            raise ConfigurationError("no setting says how to check the token of a user", hint=f"set {CHECKS_TOKENS}")
        if message.obo_token is not None and len(message.obo_token) > LIMIT:
            raise InvalidArguments(f"obo_token is longer than {LIMIT:,} bytes, and every worker would refuse it")
        self.catalog.refuse_scopes(slip.itinerary, claimed_scopes(message.obo_token))
        if self.store is None:
            self.catalog.refuse_what_is_stored(slip, idempotency_key)
        with self._lock:
            dispatcher = self.dispatcher
        refuse_priority(slip, dispatcher.transport.features)
        strange = self.strangers.among(slip.itinerary, self.catalog)
        begun, beginning = dispatcher.packing.begun(send, now), dispatcher.beginning
        if idempotency_key is not None:
            start = partial(beginning.start_once, begun, use_of(idempotency_key, message))
        else:
            start = partial(beginning.start, begun, repeated=is_named)
        return self._send(start, strange) if strange else start()

    async def _send(self, start: Callable[[], Awaitable[None]], strange: Sequence[ActivitySpec]) -> None:
        """Look up the activities that this App does not have, then start the workflow."""
        await self.strangers.judge(strange, self.activities, self.store)
        await start()

    def _new_id(self, given: str | None, idempotency_key: str | None) -> str:
        if idempotency_key is None:
            return given or new_correlation_id()
        if given is not None or not idempotency_key:
            raise InvalidArguments(
                "dispatch takes either id or idempotency_key, and no empty key",
                hint="the key gives the workflow its id",
            )
        return derive_keyed_id(self.name, idempotency_key)

    @overload
    def workflow(self, correlation_id: str) -> Workflow[Any]: ...
    @overload
    def workflow(self, correlation_id: str, *, result_type: type[T]) -> Workflow[T]: ...
    @overload
    def workflow(self, correlation_id: str, *, result_type: Any) -> Workflow[Any]: ...

    def workflow(self, correlation_id: str, *, result_type: Any = OWN_TYPE) -> Workflow[Any]:
        """Return the handle of a workflow that was dispatched before. ``result_type`` is as in :meth:`dispatch`.

        Raises:
            InvalidArguments: pydantic cannot validate values of the ``result_type``.
        """
        return self._workflow(correlation_id, checked_type(result_type))

    async def cancel(
        self, correlation_id: str, *, compensate: bool = False, reason: str = "", by: str | None = None
    ) -> None:
        """:meth:`paigeant.Workflow.cancel` for a workflow that was dispatched before."""
        await self.workflow(correlation_id).cancel(compensate=compensate, reason=reason, by=by)

    def _workflow(
        self,
        correlation_id: str,
        result_type: Any = OWN_TYPE,
        sent: asyncio.Task[None] | None = None,
        dispatched_at: tuple[str, int] | None = None,
    ) -> Workflow[Any]:
        return Workflow(
            correlation_id,
            self.store,
            timers=self.timers,
            steering=self.steering,
            letters=self.dead_letters,
            forks=self._forks,
            type_of=self._type_of,
            result_type=result_type,
            sent=sent,
            dispatched_at=dispatched_at,
        )

    def _type_of(self, activity: str) -> Any:
        """Return the output type of the activity with this name; Any if this App does not have the activity."""
        known = self.catalog.find(activity)
        return known.output_type if known else Any

    # --- in plain code ---------------------------------------------------------------------------------------

    def close_sync(self) -> None:
        """:meth:`close` for plain code."""
        run_sync(self.close(), "await app.close()")


def _warn_of_loss(sent: asyncio.Task[None]) -> None:
    if sent.cancelled():
        log.warning("a dispatch was cancelled before the broker had its message; await what dispatch() returns")
