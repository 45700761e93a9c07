"""The execution of one message: verify, claim, resolve, bind, invoke, outcome, decide, carry out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import InitVar, dataclass, field
from typing import Any

import structlog

from paigeant import codec
from paigeant.activity import Activity
from paigeant.attempt import Attempts, Tried
from paigeant.breakers import Breakers
from paigeant.catalog import BUILT_IN
from paigeant.clock import Clock, SystemClock
from paigeant.conclusion import Conclusions
from paigeant.dispatch import Dispatcher
from paigeant.errors import InvalidInput, MessageError, StoreRequired, Superseded
from paigeant.events import StepSuperseded
from paigeant.facts import PlanSteps
from paigeant.failure import error_info, poison
from paigeant.forward import admit
from paigeant.limit import Lock, wanted_data
from paigeant.locks import Locks, locks_of
from paigeant.message import PaigeantMessage
from paigeant.outcome import Faulted, Outcome, Parked, Poisoned, Returned
from paigeant.run import Run
from paigeant.stops import Stops
from paigeant.store import STANDS_FOR, Standing
from paigeant.timers import Timers
from paigeant.transport import Delivery

log = structlog.stdlib.get_logger("paigeant.runner")

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
    threads: InitVar[Executor]
    timers: InitVar[Timers | None] = None
    locks: Locks | None = None
    stops: InitVar[Stops | None] = None
    plan_steps: InitVar[PlanSteps | None] = None
    max_deliveries: int = 5
    message_limit: int = 1_048_576
    clock: Clock = field(default_factory=SystemClock)
    breakers: Breakers = field(default_factory=Breakers)
    attempts: Attempts = field(init=False)
    conclusions: Conclusions = field(init=False)

    def __post_init__(
        self, threads: Executor, timers: Timers | None, stops: Stops | None, plan_steps: PlanSteps | None
    ) -> None:
        self.attempts = Attempts(self.dispatcher, threads, self.breakers, stops or Stops(), plan_steps)
        self.conclusions = Conclusions(self.dispatcher, timers, self.locks)

    async def run(self, delivery: Delivery, ended: Callable[[], None]) -> None:
        """Run one delivery to its settlement. Nothing an activity or a message does escapes from here.

        ``ended`` is called when the step's body has, if it was begun: what is left to do is to settle.
        """
        try:
            message = codec.decode(delivery.body, self.message_limit)
        except MessageError as error:
            await self.conclusions.set_aside(delivery, error, self.worker, self.clock.now())
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
        run = Run(message, delivery, self.worker, self.clock, ended)
        try:
            await self._run(run)
        except Superseded:
            log.warning(
                "step superseded: another worker has it, this result is refused", deliveries=delivery.deliveries
            )
            await self.dispatcher.note([StepSuperseded(at=self.clock.now(), **run.about())])

    async def _run(self, run: Run) -> None:
        run, missing = await self._whole(run)
        standing = await self._standing(run.message)
        if standing.done is not None:
            await self.dispatcher.transport.settle(run.delivery, standing.done)
            log.info("step was done before, its successor is sent again")
        elif (outcome := admit(run.message, standing, run.execution())) is not None:
            await self.conclusions.draw(run, outcome)
            if self.locks is not None:
                await self.locks.pass_on(run.message, self.worker)
        elif missing is not None:
            await self.conclusions.draw(run, Faulted(run.execution(), error_info(missing)))
        else:
            await self._start(run)

    async def _whole(self, run: Run) -> tuple[Run, MessageError | None]:
        """The run with all its step needs, or what is missing."""
        try:
            return run.carrying(await self.dispatcher.whole(run.message)), None
        except MessageError as error:
            return run, error

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

    async def _start(self, run: Run) -> None:
        activity = self._serves(run.message)
        if activity is None:
            await self.conclusions.draw(run, Returned(f"this worker does not serve {run}", RETURN_DELAY))
        elif (refused := self._refused(activity, run)) is not None:
            await self.conclusions.draw(run, refused)
        else:
            try:
                await self._under_locks(activity, run)
            finally:
                self.breakers.left(activity, run.message)

    def _serves(self, message: PaigeantMessage) -> Activity[..., Any] | None:
        """What runs the message's step, or takes it back."""
        name = message.step.name
        activity = self.activities.get(name) or BUILT_IN.get(name)
        return activity.compensation if activity and message.routing_slip.is_back else activity

    def _refused(self, activity: Activity[..., Any], run: Run) -> Outcome | None:
        """What becomes of a step that must not start: it killed too many workers, or its activity keeps failing."""
        if run.delivery.deliveries > self.max_deliveries:
            return Poisoned(run.execution(), poison(self.max_deliveries))
        if (pause := self.breakers.hold_off(activity, run.message, self.clock.now())) is not None:
            return Returned(f"{run} keeps failing", pause, is_usual=True)
        return None

    async def _under_locks(self, activity: Activity[..., Any], run: Run) -> None:
        """Run the step under what it takes first, locks, places and turns, if any; without them, it waits."""
        try:
            wanted = locks_of(activity, run, self.dispatcher.prefix, self.locks)
        except (InvalidInput, StoreRequired) as error:
            await self.conclusions.draw(run, Faulted(run.execution(), error_info(error)))
            return
        if not wanted or self.locks is None:
            await self._conclude(await self.attempts.of(activity, run), run)
        elif (lacking := await self.locks.take(wanted)) is not None:
            await self.conclusions.draw(run, Parked(run.execution(), lacking, detail=wanted_data(wanted)))
        else:
            try:
                tried = await self.attempts.of(activity, run)
                lost = await self.locks.lost(wanted)
                await self._conclude(tried if lost is None else _taken_over(run, lost), run)
            finally:
                await self.locks.free(wanted)

    async def _conclude(self, tried: Tried, run: Run) -> None:
        await self.conclusions.draw(tried.run, tried.outcome, tried.before, cause=run.message.id)


def _taken_over(run: Run, lock: Lock) -> Tried:
    """What came of a step counts only if its lock was held all the time: it runs again."""
    return Tried(run, Returned(f"its lock {lock.key!r} was taken over", delay=0.0))
