"""Runs a step: calls its activity, retries in place as often as its policy allows, and returns an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from paigeant.activity import Activity
from paigeant.context import ActivityContext
from paigeant.context.pulse import Pulse
from paigeant.context.rounds import unfinished
from paigeant.context.services import Plans, Services
from paigeant.context.state import StepState
from paigeant.decisions.failure import Failure, Verdict, after, deciding, error_info
from paigeant.decisions.fork import rest
from paigeant.decisions.forward import admit, again
from paigeant.decisions.interrupts import Interrupt, Terminate
from paigeant.decisions.outcome import Cancelled, Completed, Execution, Faulted, Outcome, Retrying, Returned
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import Superseded, UnprovedOutput
from paigeant.events import Event
from paigeant.records.trust import Doubt
from paigeant.records.workflow import Standing
from paigeant.runner.bodies import apart
from paigeant.runner.breakers import Breakers, policy_of
from paigeant.runner.invocation import invoke, tell_of_failure
from paigeant.runner.outcome_log import log_outcome
from paigeant.runner.progress import Progress, note_again, note_start
from paigeant.runner.run import Run
from paigeant.runner.stops import Stop, Stops
from paigeant.runner.vouching import vouching
from paigeant.runtime.clock import boot_time
from paigeant.wire.limits import refuse_changed_ones, refuse_too_large
from paigeant.wire.log import LogEntry, Undo
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import RoutingSlip
from paigeant.wire.usage import NOTHING

log = structlog.stdlib.get_logger("paigeant.attempt")

_BRANCHES_END_IN = 0.5
"""Seconds until a retried step checks again whether the branches of its last attempt have ended."""

NOTICE_AFTER = 0.5
"""Seconds a step runs before its start is recorded. The start of a quicker step is recorded once, when it ends."""


AsksStanding = Callable[[PaigeantMessage], Awaitable[tuple[Standing, float]]]
"""Reads the standing of a workflow. The second value says until when it is valid, by the boot clock."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of a step: the last attempt, its outcome, and the events of the earlier attempts in place."""

    run: Run
    outcome: Outcome
    before: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class _Made:
    """The result of a completed body: output, changed variables, whether it ends the workflow, how it is undone."""

    output: Any
    variables: dict[str, Any] | None
    is_last: bool
    undo: Undo | None


@dataclass(slots=True)
class Attempts:
    """Runs the attempts of one worker. ``threads`` is the executor for plain functions."""

    dispatcher: Dispatcher
    threads: Executor
    breakers: Breakers
    stops: Stops = field(default_factory=Stops)
    plans: Plans | None = None
    standing: AsksStanding | None = None

    async def of(self, activity: Activity[..., Any], run: Run) -> Tried:
        """Run the step, and retry it in place as often as its policy allows."""
        current, before = run, list[Event]()
        notice = await self._notice(run)
        try:
            with self.stops.of(run.message) as stop:
                shown: Sequence[Event] = ()
                while True:
                    outcome, shown = await self._attempt(activity, current, stop, shown)
                    if not isinstance(outcome, Retrying) or not outcome.in_place or activity.has_rate:
                        break
                    log_outcome(outcome)
                    message, event = again(current.message, outcome)
                    current = current.carrying(message)
                    before.append(event)
                    await asyncio.sleep(outcome.delay)
        finally:
            notice.cancel()
        run.ended()
        return Tried(current, outcome, [*shown, *before])

    async def _notice(self, run: Run) -> asyncio.Handle:
        """Schedule the record that the step runs: soon, or at once if another worker may have run it before."""
        loop = asyncio.get_running_loop()
        if not run.delivery.redelivered and run.delivery.deliveries == 1:
            return loop.call_later(NOTICE_AFTER, note_start, run, run.clock.now(), self.dispatcher)
        await note_again(run, self.dispatcher)
        return loop.call_soon(lambda: None)

    async def _attempt(
        self, activity: Activity[..., Any], run: Run, stop: Stop, earlier: Sequence[Event]
    ) -> tuple[Outcome, Sequence[Event]]:
        """Run one attempt. Return its outcome and the unrecorded events that it and the attempts before it showed."""
        if stop.cancellation is not None:
            return Cancelled(run.execution(), stop.cancellation, ran=False), earlier
        progress = Progress(run, self.dispatcher, Pulse(activity.heartbeat_timeout), earlier)
        try:
            outcome = await self._ran(activity, run, stop, progress)
            return outcome, await progress.feed.end()
        except BaseException:  # the worker stops or has lost the step: leave no task behind
            progress.feed.drop()
            raise

    async def _ran(self, activity: Activity[..., Any], run: Run, stop: Stop, progress: Progress) -> Outcome:
        message, started_at = run.message, run.clock.now()
        rests = await self.dispatcher.patiently(lambda: self._rests(message))
        if rests is None:
            return Returned(f"branches of the last attempt of {run} still run", _BRANCHES_END_IN, grows=True)
        if (refused := await self._no_longer(run)) is not None:
            return refused
        if not run.delivery.lease.holds:  # the process was frozen, or the broker is away: another may run it
            return Returned(f"the lease of {run} may have run out before it began", 0.0)
        context = self._context(activity, run, stop, progress, rests)
        ended = await apart(self._body(activity, context, stop, progress))
        execution = run.execution(started_at, context.used)
        if (made := ended.value) is not None:
            self.breakers.works(activity)
            return Completed(execution, made.output, made.variables, context.edits, made.is_last, made.undo)
        error = deciding(ended.error or asyncio.CancelledError())
        if isinstance(error, Superseded) and run.delivery.lease.lost:
            raise error
        if stop.cancellation is not None:
            return Cancelled(execution, stop.cancellation, ran=True)
        if not isinstance(error, Interrupt):
            await self._tell(activity, context, error)
        judged = await apart(self._after(error, execution, activity, context))
        return judged.value or Faulted(execution, error_info(judged.error or error))

    def _context(
        self,
        activity: Activity[..., Any],
        run: Run,
        stop: Stop,
        progress: Progress,
        rests: Mapping[str, RoutingSlip],
    ) -> ActivityContext:
        services = Services(
            display=progress,
            plans=self.plans,
            read=partial(self._output, run.message, progress),
            pulse=progress.pulse,
            clock=run.clock,
            stop=stop,
            vouching=vouching(run, self.dispatcher.notary, progress.doubt),
            store=self.dispatcher.store,
            worker=run.worker,
            rests=rests,
            claims=run.claims,
            value_limit=self.dispatcher.value_limit,
            declared=activity.scopes,
            is_agent=activity.is_agent,
        )
        return ActivityContext(StepState.of(run.message, run.delivery, self.plans), services)

    def _output(self, message: PaigeantMessage, progress: Progress, entry: LogEntry) -> Any:
        """Return the output of an earlier step from the store. Any thread of the step may call this."""
        try:
            return self.dispatcher.reading.output(message, entry)
        except UnprovedOutput as error:
            progress.doubt(Doubt(f"output:{entry.id}", error.code, str(error)))
            raise

    async def _no_longer(self, run: Run) -> Outcome | None:
        """Return the outcome of an admitted step that must not start any more, or None if the step may start.

        The step may have waited since its admission: for its locks, for the store, or for its next attempt.
        """
        if self.standing is None or boot_time() <= run.stands_until:
            return None
        standing, _ = await self.dispatcher.patiently(partial(self.standing, run.message))
        if standing.done is not None:
            return Returned(f"{run} was done meanwhile", 0.0)
        if run.message.chain is not None and standing.status.is_terminal:
            return Returned(f"the workflow of {run} has ended meanwhile, as the store says", 0.0)
        return admit(run.message, standing, run.execution())

    async def _body(
        self, activity: Activity[..., Any], context: ActivityContext, stop: Stop, progress: Progress
    ) -> _Made:
        """Run the developer's part of an attempt. Every error it raises reaches the caller."""
        message, is_last = context.message, False
        if (missing := message.routing_slip.aside) is not None:  # without a store this raises an error that says so
            self.dispatcher.reading.output(message, missing)
        undo = activity.undo(message.step, message.routing_slip)
        try:
            async with stop:
                output = await invoke(activity, context, progress, self.threads)
        except Terminate as terminate:
            what = f"the output of {activity.name!r}"
            output, is_last = activity.output_form.serialize_if_it_fits(terminate.output, what), True
        variables, limit = context.variables.changed, self.dispatcher.value_limit
        refuse_too_large(output, f"the output of {activity.name!r}", limit)
        refuse_changed_ones(variables or {}, message.routing_slip.variables, limit)
        undone = activity.undo_with(undo, output) if undo else None
        return _Made(output, variables, is_last, undone)

    async def _tell(self, activity: Activity[..., Any], context: ActivityContext, error: BaseException) -> None:
        """Call the hooks for a failed attempt. An error of a hook is logged and does not change the outcome."""
        told = await apart(tell_of_failure(activity, context, error, self.threads))
        if told.error is not None:
            log.warning("the hooks for a failure failed", activity=activity.name, error=str(error_info(told.error)))

    async def _rests(self, message: PaigeantMessage) -> Mapping[str, RoutingSlip] | None:
        """Return what remains to do of the branches that did not complete, by branch id, for a step that is retried.

        None while a branch still runs or is being compensated: a branch has one run at a time.
        """
        store = self.dispatcher.store
        if store is None or message.attempt + message.epoch == 1:
            return {}
        courses = await store.courses(list(unfinished(message)))
        if any(not course.workflow.status.is_terminal for course in courses.values()):
            return None
        rests = {one: rest(course) for one, course in courses.items()}
        return {one: slip for one, slip in rests.items() if slip is not None}

    async def _after(
        self, error: BaseException, execution: Execution, activity: Activity[..., Any], context: ActivityContext
    ) -> Outcome:
        """Ask the developer's code what follows an error. An error of that code counts as the step's error."""
        message = context.message
        failure = Failure(
            error=error,
            message=message,
            execution=execution,
            policy=policy_of(activity, message),
            rules=activity.rules,
            children=context.edits.children,
            progress=context.reported,
        )
        failure = replace(failure, verdict=self._verdict(activity, error))
        excused = self.breakers.excuse(activity, failure, execution.finished_at)
        return self._settled(after(replace(failure, excused=excused)))

    def _settled(self, outcome: Outcome) -> Outcome:
        """Remove recorded usage from the outcome: the store adds it to the next attempt, so it would count twice."""
        if self.dispatcher.store is None or not isinstance(outcome, Retrying):
            return outcome
        return replace(outcome, execution=replace(outcome.execution, used=NOTHING))

    def _verdict(self, activity: Activity[..., Any], error: BaseException) -> Verdict | None:
        """Return the verdict on an error. Without a store the step fails instead of waiting for an operator."""
        said = activity.judge(error)
        return Verdict.NEVER if said is Verdict.PARK and self.dispatcher.store is None else said
