"""The execution of one message: verify, claim, resolve, bind, invoke, outcome, decide, carry out."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from paigeant import codec
from paigeant.activity import Activity, Kind
from paigeant.clock import Clock, SystemClock
from paigeant.context import ActivityContext, PlanSteps, _current
from paigeant.dispatch import TIMER, Dispatcher, Written
from paigeant.errors import (
    ConfigurationError,
    MessageError,
    MessageTooLarge,
    StoreError,
    StoreRequired,
    Superseded,
    TransportError,
)
from paigeant.events import (
    ErrorInfo,
    StepEvent,
    StepProgressed,
    StepStarted,
    StepSuperseded,
    StepYielded,
    WorkflowEnded,
)
from paigeant.forward import admit, decide
from paigeant.interrupts import Park, Retry, Terminate
from paigeant.message import PaigeantMessage
from paigeant.outcome import (
    Completed,
    Dropped,
    Execution,
    Faulted,
    Outcome,
    Parked,
    Poisoned,
    Retrying,
    Returned,
)
from paigeant.plan import Plan, Settle
from paigeant.steps import BUILT_IN
from paigeant.timers import Timers
from paigeant.transport import Delivery
from paigeant.values import jsonable, printable

log = structlog.stdlib.get_logger("paigeant.runner")

NOTICE_AFTER = 0.5
"""Seconds a step runs before its start is recorded; a quicker one is recorded once, when it ends."""

_LONGEST_TEXT = 16_384

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
    plan_steps: PlanSteps | None = None
    max_deliveries: int = 5
    message_limit: int = 1_048_576
    clock: Clock = field(default_factory=SystemClock)

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
            standing = await self.dispatcher.standing(message)
            if standing.done is not None:
                await self.dispatcher.transport.settle(delivery, standing.done)
                log.info("step was done before, its successor is sent again")
                return
            now = self.clock.now()
            outcome = admit(standing, self._execution(delivery, now)) or await self._outcome(message, delivery)
            await self._conclude(message, delivery, outcome)
        except Superseded:
            log.warning(
                "step superseded: another worker has it, this result is refused", deliveries=delivery.deliveries
            )
            await self._note_superseded(message, delivery)

    # --- outcome ---------------------------------------------------------------------------------------------

    async def _outcome(self, message: PaigeantMessage, delivery: Delivery) -> Outcome:
        activity = self.activities.get(message.step.name) or BUILT_IN.get(message.step.name)
        if activity is None:
            return Returned(f"this worker does not serve {message.step.name!r}", RETURN_DELAY)
        started_at = self.clock.now()
        if delivery.deliveries > self.max_deliveries:
            execution = self._execution(delivery, started_at)
            return Poisoned(execution, _poison(self.max_deliveries))
        notice = asyncio.get_running_loop().call_later(NOTICE_AFTER, self._notice, message, delivery, started_at)
        progress = _Progress(self, message, delivery)
        context = ActivityContext(message, delivery, progress.report, self.plan_steps)
        is_last = False
        try:
            try:
                output = await self._invoke(activity, message, context, progress)
            except Terminate as terminate:
                output, is_last = jsonable(terminate.output, f"the output of {activity.name!r}"), True
        except BaseException as error:  # an activity may raise anything, SystemExit too: it becomes an outcome
            if _is_ours(error):
                raise
            return _after_error(error, self._execution(delivery, started_at), activity, context)
        finally:
            notice.cancel()
        return Completed(
            self._execution(delivery, started_at), output, context.variables.changed, context.edits, is_last
        )

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
            async with asyncio.timeout(message.step.timeout or activity.timeout):
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

    async def _conclude(self, message: PaigeantMessage, delivery: Delivery, outcome: Outcome) -> None:
        plan = decide(message, outcome)
        now = self.clock.now()
        try:
            written = self.dispatcher.written(plan, now)
        except (MessageTooLarge, StoreRequired) as error:
            assert isinstance(outcome, Completed | Retrying | Parked)
            outcome = Faulted(outcome.execution, _error_info(error))
            plan, written = decide(message, outcome), Written()
        await self.dispatcher.carry_out(plan, delivery, written, cause=message.id, worker=self.worker, at=now)
        _log(outcome)
        await self._wake(plan)

    async def _wake(self, plan: Plan) -> None:
        """What was recorded may be what a message waits for, or wait for what has come before."""
        if self.timers is None or not isinstance(plan, Settle):
            return
        for hold in plan.hold:
            if hold.due_at is not None:
                self.timers.expect(hold.due_at)
        concerned = {hold.message.correlation_id for hold in plan.hold if hold.key != TIMER}
        concerned |= {event.parent for event in plan.record if isinstance(event, WorkflowEnded) and event.parent}
        try:
            for correlation_id in concerned:
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
    count: int = 0

    async def report(self, details: Any) -> None:
        await self._note(StepProgressed, value=details)

    async def yielded(self, value: Any) -> Any:
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
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def _after_error(
    error: BaseException, execution: Execution, activity: Activity[..., Any], context: ActivityContext
) -> Outcome:
    """What follows an exception: never a retry for input or configuration that cannot get better."""
    message = context.message
    policy = message.step.retry or activity.retry
    if isinstance(error, Superseded):
        raise error
    if isinstance(error, Park):
        due_at = None if error.seconds is None else execution.finished_at + error.seconds
        return Parked(execution, error.key, due_at, error.detail, context.edits.children)
    if isinstance(error, Retry) and not error.counted:
        return Retrying(execution, _error_info(error), error.after or policy.wait(message.attempt))
    if isinstance(error, MessageError | ConfigurationError) or not policy.allows(message.attempt):
        return Faulted(execution, _error_info(error))
    after = error.after if isinstance(error, Retry) else None
    return Retrying(execution, _error_info(error), policy.wait(message.attempt) if after is None else after)


def _error_info(error: BaseException) -> ErrorInfo:
    if isinstance(error, MessageError | ConfigurationError):
        return ErrorInfo(type=type(error).__name__, message=printable(str(error)))
    text = printable("".join(traceback.format_exception(error)))[-_LONGEST_TEXT:]
    return ErrorInfo(type=type(error).__qualname__, message=_said(error), traceback=text)


def _said(error: BaseException) -> str:
    try:
        text = printable(str(error))[:_LONGEST_TEXT]
    except Exception:  # its own __str__ may fail
        return "(its message cannot be read)"
    return text or ("the step took longer than its timeout" if isinstance(error, TimeoutError) else "")


def _poison(limit: int) -> ErrorInfo:
    return ErrorInfo(
        type="Poisoned",
        message=f"delivered {limit} times without an end: it seems to kill its worker; set aside",
    )


def _log(outcome: Outcome) -> None:
    match outcome:
        case Completed(execution=ran):
            log.info("step completed", seconds=round(ran.finished_at - ran.started_at, 3))
        case Parked(key=key, due_at=due_at):
            log.info("step parked", waits_for=key, due_at=due_at)
        case Dropped(reason=reason):
            log.info("step dropped", reason=reason)
        case Retrying(error=error, delay=delay):
            log.warning("step failed, will be tried again", error_type=error.type, delay=round(delay, 3))
        case Faulted(error=error):
            log.error("step failed", error_type=error.type)
        case Poisoned():
            log.error("step set aside: delivered too often")
        case Returned(reason=reason, delay=delay):
            log.warning("step goes back", reason=reason, delay=delay)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("could not record that a step started", error=str(error))
