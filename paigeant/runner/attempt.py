"""Trying a step: its activity is called, again in place as often as its policy allows, and an outcome made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

from paigeant.activity import Activity
from paigeant.context import ActivityContext
from paigeant.context.facts import PlanSteps
from paigeant.context.rounds import unfinished
from paigeant.course import rest
from paigeant.dispatch import Dispatcher
from paigeant.errors import Superseded
from paigeant.events import Event
from paigeant.failure import Failure, Verdict, after, error_info
from paigeant.forward import again
from paigeant.interrupts import Interrupt, Terminate
from paigeant.message import PaigeantMessage
from paigeant.outcome import Cancelled, Completed, Execution, Faulted, Outcome, Retrying
from paigeant.pulse import Pulse
from paigeant.runner.breakers import Breakers, policy_of
from paigeant.runner.invocation import invoke, tell_of_failure
from paigeant.runner.outcome_log import log_outcome
from paigeant.runner.progress import Progress, note_start
from paigeant.runner.run import Run
from paigeant.runner.stops import Stop, Stops
from paigeant.slip import RoutingSlip
from paigeant.usage import NOTHING
from paigeant.values import jsonable

NOTICE_AFTER = 0.5
"""Seconds a step runs before its start is recorded; a quicker one is recorded once, when it ends."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a step: the last attempt and its outcome, and the events of the attempts before it in place."""

    run: Run
    outcome: Outcome
    before: Sequence[Event] = ()


@dataclass(slots=True)
class Attempts:
    """How one worker tries steps. ``threads`` is where plain functions run."""

    dispatcher: Dispatcher
    threads: Executor
    breakers: Breakers
    stops: Stops = field(default_factory=Stops)
    plan_steps: PlanSteps | None = None

    async def of(self, activity: Activity[..., Any], run: Run) -> Tried:
        """Try the step, again in place as often as its policy allows."""
        current, before = run, list[Event]()
        notice = asyncio.get_running_loop().call_later(NOTICE_AFTER, note_start, run, run.clock.now(), self.dispatcher)
        try:
            with self.stops.of(run.message) as stop:
                while True:
                    outcome, shown = await self._attempt(activity, current, stop)
                    before.extend(shown)
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
        return Tried(current, outcome, before)

    async def _attempt(self, activity: Activity[..., Any], run: Run, stop: Stop) -> tuple[Outcome, Sequence[Event]]:
        """One attempt, and what it showed that is not recorded yet."""
        if stop.cancellation is not None:
            return Cancelled(run.execution(), stop.cancellation, ran=False), ()
        progress = Progress(run, self.dispatcher, Pulse(activity.heartbeat_timeout))
        try:
            outcome = await self._ran(activity, run, stop, progress)
            return outcome, await progress.feed.end()
        except BaseException:  # the worker stops, or has lost the step: nothing may outlive it
            progress.feed.drop()
            raise

    async def _ran(self, activity: Activity[..., Any], run: Run, stop: Stop, progress: Progress) -> Outcome:
        message, started_at = run.message, run.clock.now()
        reach = (self.dispatcher.store, run.worker, await self._rests(message), run.claims)
        known = (self.plan_steps, self.dispatcher.output, progress.pulse, run.clock, stop, *reach)
        context = ActivityContext(message, run.delivery, progress, *known)
        is_last = False
        try:
            try:
                if (missing := message.routing_slip.aside) is not None:  # there is no store here: this says so
                    self.dispatcher.output(missing)
                undo = activity.undo(message.step, message.routing_slip)
                async with stop:
                    output = await invoke(activity, context, progress, self.threads)
            except Terminate as terminate:
                output, is_last = jsonable(terminate.output, f"the output of {activity.name!r}"), True
        except BaseException as error:  # an activity may raise anything, SystemExit too: it becomes an outcome
            if _is_ours(error):
                raise
            execution = run.execution(started_at, context.used)
            if stop.cancellation is not None:
                return Cancelled(execution, stop.cancellation, ran=True)
            if not isinstance(error, Interrupt):
                await tell_of_failure(activity, context, error, self.threads)
            return self._after(error, execution, activity, context)
        self.breakers.works(activity)
        return Completed(
            run.execution(started_at, context.used),
            output,
            context.variables.changed,
            context.edits,
            is_last,
            activity.undo_with(undo, output) if undo else None,
        )

    async def _rests(self, message: PaigeantMessage) -> Mapping[str, RoutingSlip]:
        """What is left to do of branches that did not complete, by their ids, for a step that is tried again."""
        store = self.dispatcher.store
        if store is None or message.attempt + message.epoch == 1:
            return {}
        found = {one: rest(await store.workflow(one), await store.course(one)) for one in unfinished(message)}
        return {one: slip for one, slip in found.items() if slip is not None}

    def _after(
        self, error: BaseException, execution: Execution, activity: Activity[..., Any], context: ActivityContext
    ) -> Outcome:
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
        try:
            failure = replace(failure, verdict=self._verdict(activity, error))
            excused = self.breakers.excuse(activity, failure, execution.finished_at)
            return self._settled(after(replace(failure, excused=excused)))
        except Exception as broken:  # what the developer wrote to judge errors has one itself
            return Faulted(execution, error_info(broken))

    def _settled(self, outcome: Outcome) -> Outcome:
        """The store knows what was used, so that the next attempt does: here it would count twice."""
        if self.dispatcher.store is None or not isinstance(outcome, Retrying):
            return outcome
        return replace(outcome, execution=replace(outcome.execution, used=NOTHING))

    def _verdict(self, activity: Activity[..., Any], error: BaseException) -> Verdict | None:
        """Without a store nothing can wait for an operator: it fails, and says why."""
        said = activity.judge(error)
        return Verdict.NEVER if said is Verdict.PARK and self.dispatcher.store is None else said


def _is_ours(error: BaseException) -> bool:
    """Whether it ends the worker's task rather than the step: an activity may meet a cancelled task of its own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit | Superseded)
