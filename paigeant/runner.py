"""The execution of one message: verify, claim, resolve, bind, invoke, outcome, decide, carry out."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from logging import DEBUG, WARNING
from typing import Any

import structlog

from paigeant import codec
from paigeant.activity import Activity, Kind
from paigeant.breaker import Breaker
from paigeant.catalog import BUILT_IN
from paigeant.clock import Clock, SystemClock
from paigeant.context import ActivityContext, PlanSteps, _current
from paigeant.dispatch import TIMER, Dispatcher, Written
from paigeant.errors import (
    InvalidInput,
    MessageError,
    MessageTooLarge,
    StoreError,
    StoreRequired,
    Superseded,
    TransportError,
)
from paigeant.events import (
    ErrorInfo,
    Event,
    StepEvent,
    StepProgressed,
    StepStarted,
    StepSuperseded,
    StepYielded,
    WorkflowEnded,
)
from paigeant.failure import Failure, after, error_info, poison
from paigeant.forward import admit, again, decide, give_up
from paigeant.interrupts import Interrupt, Terminate
from paigeant.lock import KEY as LOCK
from paigeant.locks import Locks
from paigeant.message import PaigeantMessage
from paigeant.outcome import (
    Cancelled,
    Completed,
    Dropped,
    Execution,
    Exhausted,
    Faulted,
    Outcome,
    Parked,
    Poisoned,
    Retrying,
    Returned,
)
from paigeant.plan import Plan, Settle
from paigeant.pulse import Pulse
from paigeant.retry import RetryPolicy
from paigeant.stops import Stop, Stops
from paigeant.store import STANDS_FOR, Lock, Standing
from paigeant.timers import Timers
from paigeant.transport import Delivery
from paigeant.values import jsonable

log = structlog.stdlib.get_logger("paigeant.runner")

NOTICE_AFTER = 0.5
"""Seconds a step runs before its start is recorded; a quicker one is recorded once, when it ends."""

_QUESTIONS = 3
"""How often a store that answers slowly is asked how a workflow stands, before its answer counts all the same."""

RETURN_DELAY = 10.0
"""Seconds before a step that this worker does not serve is offered again."""


@dataclass(slots=True)
class Runner:
    """Runs deliveries for one worker. ``threads`` is where plain functions run."""

    worker: str
    activities: Mapping[str, Activity[..., Any]]
    dispatcher: Dispatcher
    threads: Executor
    timers: Timers | None = None
    locks: Locks | None = None
    stops: Stops = field(default_factory=Stops)
    plan_steps: PlanSteps | None = None
    max_deliveries: int = 5
    message_limit: int = 1_048_576
    clock: Clock = field(default_factory=SystemClock)
    breakers: defaultdict[Activity[..., Any], Breaker] = field(default_factory=lambda: defaultdict(Breaker))

    async def run(self, delivery: Delivery) -> None:
        """Run one delivery to its settlement. Nothing an activity or a message does escapes from here."""
        try:
            message = codec.decode(delivery.body, self.message_limit)
        except MessageError as error:
            await self._set_aside(delivery, error)
            return
        step = message.step
        # A delivery runs in a task of its own, so what is bound here ends with it.
        structlog.contextvars.bind_contextvars(
            correlation_id=message.correlation_id,
            step=step.id,
            activity=step.name,
            attempt=message.attempt,
            worker=self.worker,
        )
        await self._run_message(message, delivery)

    async def _run_message(self, message: PaigeantMessage, delivery: Delivery) -> None:
        try:
            whole = await self._with_previous(message)
            standing = await self._standing(message)
            if standing.done is not None:
                await self.dispatcher.transport.settle(delivery, standing.done)
                log.info("step was done before, its successor is sent again")
                return
            execution = self._execution(delivery, self.clock.now())
            if (outcome := admit(message, standing, execution)) is not None:
                await self._conclude(message, delivery, outcome)
                await self._pass_on_locks(message)
            else:
                await self._start(whole, delivery)
        except Superseded:
            log.warning(
                "step superseded: another worker has it, this result is refused", deliveries=delivery.deliveries
            )
            await self._note_superseded(message, delivery)

    async def _standing(self, message: PaigeantMessage) -> Standing:
        """How the workflow stands. An answer that took long is asked for again: somebody may have cancelled since.

        Whoever cancels waits twice as long as an answer may have taken, so that a busy machine has time to spare.
        """
        for _ in range(_QUESTIONS):
            asked_at = time.monotonic()
            standing = await self.dispatcher.standing(message)
            if time.monotonic() - asked_at <= STANDS_FOR / 2:
                break
        return standing

    # --- outcome ---------------------------------------------------------------------------------------------

    async def _start(self, message: PaigeantMessage, delivery: Delivery) -> None:
        activity = self._serves(message)
        if activity is None:
            not_served = Returned(f"this worker does not serve {_what(message)}", RETURN_DELAY)
            await self._conclude(message, delivery, not_served)
        elif delivery.deliveries > self.max_deliveries:
            poisoned = Poisoned(self._execution(delivery, self.clock.now()), poison(self.max_deliveries))
            await self._conclude(message, delivery, poisoned)
        elif (pause := self._hold_off(activity, message)) is not None:
            await self._conclude(message, delivery, Returned(f"{_what(message)} keeps failing", pause, is_usual=True))
        else:
            try:
                await self._locked(activity, message, delivery)
            finally:
                self.breakers[activity].left(message.id)

    async def _locked(self, activity: Activity[..., Any], message: PaigeantMessage, delivery: Delivery) -> None:
        """Run the step under its lock, if it takes one; without it, it waits."""
        try:
            lock = self._lock(activity, message)
        except (InvalidInput, StoreRequired) as error:
            faulted = Faulted(self._execution(delivery, self.clock.now()), error_info(error))
            await self._conclude(message, delivery, faulted)
            return
        if lock is None or self.locks is None:
            await self._try(activity, message, delivery)
        elif not await self.locks.take(lock):
            await self._conclude(message, delivery, Parked(self._execution(delivery, self.clock.now()), lock.key))
        else:
            try:
                await self._try(activity, message, delivery, lock)
            finally:
                await self.locks.free(lock)

    async def _pass_on_locks(self, message: PaigeantMessage) -> None:
        """A step that does not start, as its workflow is paused or over, keeps nobody from the lock it was granted."""
        if self.locks is not None:
            for key in filter(lambda key: key.startswith(LOCK), message.received):
                await self.locks.pass_on(Lock(key=key, holder=message.id, worker=self.worker))

    def _lock(self, activity: Activity[..., Any], message: PaigeantMessage) -> Lock | None:
        name = activity.lock_of(message.step, message.routing_slip)
        if name is None:
            return None
        if self.locks is None:
            raise StoreRequired(f"the lock {name!r} is kept in a store, and this App has none")
        key = f"{LOCK}{self.dispatcher.prefix}:{name}"
        return Lock(key=key, holder=message.id, worker=self.worker, granted=key in message.received)

    def _hold_off(self, activity: Activity[..., Any], message: PaigeantMessage) -> float | None:
        """Seconds for which a step goes back because its activity keeps failing; one that is never retried does not."""
        if not _policy(activity, message).retries:
            return None
        return self.breakers[activity].ask(message.id, self.clock.now())

    async def _try(
        self, activity: Activity[..., Any], message: PaigeantMessage, delivery: Delivery, lock: Lock | None = None
    ) -> None:
        """Run the step, again in place as often as its policy allows; all of it is recorded with the last end.

        What came of it counts only if its lock was held all the time.
        """
        current, tried = message, list[Event]()
        loop = asyncio.get_running_loop()
        notice = loop.call_later(NOTICE_AFTER, self._notice, message, delivery, self.clock.now())
        try:
            with self.stops.of(message) as stop:
                while isinstance(outcome := await self._attempt(activity, current, delivery, stop), Retrying):
                    if not outcome.in_place:
                        break
                    _log(outcome)
                    current, event = again(current, outcome)
                    tried.append(event)
                    await asyncio.sleep(outcome.delay)
        finally:
            notice.cancel()
        if lock is not None and self.locks is not None and not await self.locks.still_has(lock):
            current, outcome = message, Returned(f"its lock {lock.key!r} was taken over", delay=0.0)
        await self._conclude(current, delivery, outcome, tried, cause=message.id)

    async def _attempt(
        self, activity: Activity[..., Any], message: PaigeantMessage, delivery: Delivery, stop: Stop
    ) -> Outcome:
        started_at = self.clock.now()
        if (not_started := _stopped(stop, self._execution(delivery, started_at), ran=False)) is not None:
            return not_started
        pulse = Pulse(activity.heartbeat_timeout)
        progress = _Progress(self, message, delivery, pulse)
        known = (self.plan_steps, self.dispatcher.output, pulse, self.clock, stop)
        context = ActivityContext(message, delivery, progress.report, *known)
        is_last = False
        try:
            try:
                if (missing := message.routing_slip.aside) is not None:  # there is no store here: this says so
                    self.dispatcher.output(missing)
                undo = activity.undo(message.step, message.routing_slip)
                async with stop.limit():
                    output = await self._invoke(activity, message, context, progress)
            except Terminate as terminate:
                output, is_last = jsonable(terminate.output, f"the output of {activity.name!r}"), True
        except BaseException as error:  # an activity may raise anything, SystemExit too: it becomes an outcome
            if _is_ours(error):
                raise
            execution = self._execution(delivery, started_at)
            return _stopped(stop, execution, ran=True) or self._after(error, execution, activity, context)
        self._works(activity)
        return Completed(
            self._execution(delivery, started_at),
            output,
            context.variables.changed,
            context.edits,
            is_last,
            activity.undo_with(undo, output) if undo else None,
        )

    async def _with_previous(self, message: PaigeantMessage) -> PaigeantMessage:
        """The message with the output of the step before, if that is in the store."""
        slip = message.routing_slip
        if self.dispatcher.store is None or (entry := slip.aside) is None:
            return message
        output = await asyncio.to_thread(self.dispatcher.output, entry)
        return message.model_copy(update={"routing_slip": slip.with_previous(output)})

    def _after(
        self, error: BaseException, execution: Execution, activity: Activity[..., Any], context: ActivityContext
    ) -> Outcome:
        message = context.message
        failure = Failure(
            error=error,
            message=message,
            execution=execution,
            policy=_policy(activity, message),
            rules=activity.rules,
            children=context.edits.children,
            progress=context.reported,
        )
        try:
            return after(replace(failure, excused=self._excuse(failure, activity)))
        except Exception as broken:  # what the developer wrote to judge errors has one itself
            return Faulted(execution, error_info(broken))

    def _excuse(self, failure: Failure, activity: Activity[..., Any]) -> float | None:
        """Seconds until the next attempt of a step that failed only because its activity does, for everyone."""
        if isinstance(failure.error, Interrupt) or not failure.is_curable or not failure.policy.retries:
            return None
        breaker, message = self.breakers[activity], failure.message
        was_open = breaker.is_open
        pause = breaker.failed(message.id, f"{message.correlation_id} {message.step.id}", self.clock.now())
        if breaker.is_open and not was_open:
            log.warning("activity keeps failing: it is tried one at a time until it works")
        return pause

    def _works(self, activity: Activity[..., Any]) -> None:
        breaker = self.breakers[activity]
        if breaker.is_open:
            log.warning("activity works again")
        breaker.succeeded()

    def _serves(self, message: PaigeantMessage) -> Activity[..., Any] | None:
        """What runs the message's step, or takes it back."""
        name = message.step.name
        activity = self.activities.get(name) or BUILT_IN.get(name)
        return activity.compensation if activity and message.routing_slip.is_back else activity

    async def _invoke(
        self,
        activity: Activity[..., Any],
        message: PaigeantMessage,
        context: ActivityContext,
        progress: _Progress,
    ) -> Any:
        """Bind and call; the output as JSON types."""
        token = _current.set(context)
        try:
            left = None if message.ends_at is None else message.ends_at - self.clock.now()
            async with progress.pulse.limited(message.step.timeout or activity.timeout, left):
                arguments = activity.bind(message.step, message.routing_slip, context)
                if activity.providers is None:
                    result = await self._call(activity, arguments, progress)
                else:
                    async with AsyncExitStack() as stack:
                        arguments |= await activity.providers.solve(context, stack)
                        result = await self._call(activity, arguments, progress)
        finally:
            _current.reset(token)
        return jsonable(result, f"the output of {activity.name!r}")

    async def _call(self, activity: Activity[..., Any], arguments: dict[str, Any], progress: _Progress) -> Any:
        match activity.kind:
            case Kind.ASYNC:
                return await activity.function(**arguments)
            case Kind.STREAM:
                return [await progress.yielded(value) async for value in activity.function(**arguments)]
            case Kind.SYNC:
                call = partial(contextvars.copy_context().run, _plainly, activity.function, arguments)
                return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    # --- decide and carry out --------------------------------------------------------------------------------

    async def _conclude(
        self,
        message: PaigeantMessage,
        delivery: Delivery,
        outcome: Outcome,
        before: Sequence[Event] = (),
        cause: str | None = None,
    ) -> None:
        """``before`` is what led from the message of the delivery, whose id is ``cause``, to this one."""
        now = self.clock.now()
        outcome, plan, written = self._written(message, outcome, now)
        if isinstance(plan, Settle):
            plan = replace(plan, record=(*before, *plan.record))
        cause = cause or message.id
        await self.dispatcher.carry_out(plan, delivery, written, cause=cause, worker=self.worker, at=now)
        _log(outcome)
        await self._wake(plan)

    def _written(self, message: PaigeantMessage, outcome: Outcome, now: float) -> tuple[Outcome, Plan, Written]:
        """The plan and its messages as bytes; if they cannot be written, those of the failure that this is."""
        plan = decide(message, outcome)
        try:
            return outcome, plan, self.dispatcher.written(plan, now)
        except (MessageTooLarge, StoreRequired) as error:
            assert not isinstance(outcome, Dropped | Returned)
            outcome = failed = Faulted(outcome.execution, _unwritable(outcome, error))
        plan = decide(message, outcome)
        try:
            return outcome, plan, self.dispatcher.written(plan, now)
        except MessageTooLarge:
            return outcome, give_up(message, failed), Written()

    async def _wake(self, plan: Plan) -> None:
        """What was recorded may be what a message waits for, or wait for what has come before."""
        if self.timers is None or not isinstance(plan, Settle):
            return
        for hold in plan.hold:
            if hold.due_at is not None:
                self.timers.expect(hold.due_at)
            if hold.key.startswith(LOCK) and self.locks is not None:
                await self.locks.grant(hold.key)  # it may have been freed before this was recorded
        concerned = {hold.message.correlation_id for hold in plan.hold if hold.key != TIMER}
        concerned |= {event.parent for event in plan.record if isinstance(event, WorkflowEnded) and event.parent}
        try:
            for correlation_id in sorted(concerned):
                await self.timers.match(correlation_id)
        except (StoreError, TransportError) as error:  # any worker's next look finds it
            log.warning("could not wake what waits", error=str(error))

    async def _set_aside(self, delivery: Delivery, error: MessageError) -> None:
        reason = f"{type(error).__name__}: {error}"
        plan = Settle(set_aside=reason)
        try:
            await self.dispatcher.carry_out(
                plan, delivery, Written(), cause=None, worker=self.worker, at=self.clock.now()
            )
        except Superseded:
            return
        log.warning("message set aside", queue=delivery.queue, reason=reason, worker=self.worker)

    async def _note_superseded(self, message: PaigeantMessage, delivery: Delivery) -> None:
        event = StepSuperseded(at=self.clock.now(), **self._about(message, delivery))
        await self.dispatcher.note([event])

    def _notice(self, message: PaigeantMessage, delivery: Delivery, started_at: float) -> None:
        """The step takes its time: let others see that it runs."""
        event = StepStarted(at=started_at, **self._about(message, delivery))
        task = asyncio.ensure_future(self.dispatcher.note([event]))
        task.add_done_callback(_log_failure)

    def _about(self, message: PaigeantMessage, delivery: Delivery) -> dict[str, Any]:
        return {
            "correlation_id": message.correlation_id,
            "message_id": message.id,
            "step_id": message.step.id,
            "activity": message.step.name,
            "attempt": message.attempt,
            "worker": self.worker,
            "deliveries": delivery.deliveries,
            "heading": message.routing_slip.heading.value,
        }

    def _execution(self, delivery: Delivery, started_at: float) -> Execution:
        return Execution(
            worker=self.worker, deliveries=delivery.deliveries, started_at=started_at, finished_at=self.clock.now()
        )


@dataclass(slots=True)
class _Progress:
    """What one attempt reports while it runs."""

    runner: Runner
    message: PaigeantMessage
    delivery: Delivery
    pulse: Pulse
    count: int = 0

    async def report(self, details: Any) -> None:
        await self._note(StepProgressed, value=details)

    async def yielded(self, value: Any) -> Any:
        self.pulse.beat()
        written = jsonable(value, f"yielded value {self.count}")
        await self._note(StepYielded, value=written, index=self.count)
        self.count += 1
        return written

    async def _note(self, kind: type[StepEvent], **data: Any) -> None:
        runner = self.runner
        about = runner._about(self.message, self.delivery)
        try:
            await runner.dispatcher.note([kind(at=runner.clock.now(), **about, **data)])
        except StoreError as error:  # to report is a courtesy: the step does not fail for it
            log.warning("could not record the progress of a step", error=str(error))


def _plainly(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
        raise RuntimeError("the activity raised StopIteration") from error


def _is_ours(error: BaseException) -> bool:
    """Whether it ends the worker's task rather than the step: an activity may meet a cancelled task of its own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit | Superseded)


def _policy(activity: Activity[..., Any], message: PaigeantMessage) -> RetryPolicy:
    return message.step.retry or activity.retry


def _stopped(stop: Stop, execution: Execution, *, ran: bool) -> Cancelled | None:
    return Cancelled(execution, stop.cancellation, ran) if stop.cancellation is not None else None


def _unwritable(outcome: Outcome, error: MessageTooLarge | StoreRequired) -> ErrorInfo:
    """That what follows cannot be written, and what went wrong before, if something did."""
    info = error_info(error)
    if not isinstance(outcome, Faulted | Poisoned):
        return info
    return replace(info, message=f"{info.message} (after {outcome.error.type})", traceback=outcome.error.traceback)


def _what(message: PaigeantMessage) -> str:
    name = repr(message.step.name)
    return f"the compensation of {name}" if message.routing_slip.is_back else name


def _log(outcome: Outcome) -> None:
    match outcome:
        case Completed(execution=ran):
            log.info("step completed", seconds=round(ran.finished_at - ran.started_at, 3))
        case Parked(key=key, due_at=due_at):
            log.info("step parked", waits_for=key, due_at=due_at)
        case Cancelled(cancellation=cancellation, ran=ran):
            log.info("step stopped" if ran else "step not started", reason=str(cancellation))
        case Dropped(reason=reason):
            log.info("step dropped", reason=reason)
        case Retrying(error=error, delay=delay):
            log.warning("step failed, will be tried again", error_type=error.type, delay=round(delay, 3))
        case Exhausted(error=error):
            log.error("step failed and waits for an operator", error_type=error.type)
        case Faulted(error=error):
            log.error("step failed", error_type=error.type)
        case Poisoned():
            log.error("step set aside: delivered too often")
        case Returned(reason=reason, delay=delay, is_usual=is_usual):
            log.log(DEBUG if is_usual else WARNING, "step goes back", reason=reason, delay=delay)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("could not record that a step started", error=str(error))
