"""The execution of one message: verify, claim, resolve, bind, invoke, outcome, decide, carry out.

What can be known before there is a slot for the step is done before, so that slots are not empty meanwhile.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from paigeant import codec
from paigeant.activity import Activity
from paigeant.catalog import BUILT_IN
from paigeant.clock import Clock, SystemClock
from paigeant.config import CHECKS_TOKENS
from paigeant.context.facts import PlanSteps
from paigeant.dispatch import Dispatcher
from paigeant.errors import InvalidInput, KeysUnavailable, MessageError, StoreRequired, Superseded, TokenRefused
from paigeant.events import StepSuperseded
from paigeant.failure import error_info, poison
from paigeant.forward import admit
from paigeant.limits.limit import Lock, wanted_data
from paigeant.message import PaigeantMessage
from paigeant.outcome import Faulted, Outcome, Parked, Poisoned, Refused, Returned
from paigeant.records import STANDS_FOR, Standing
from paigeant.runner.attempt import Attempts, Tried
from paigeant.runner.breakers import Breakers
from paigeant.runner.conclusion import Conclusions
from paigeant.runner.locks import Locks, locks_of
from paigeant.runner.run import Run
from paigeant.runner.stops import Stops
from paigeant.timers import Timers
from paigeant.transport import Delivery

if TYPE_CHECKING:
    from paigeant.security.claims import Tokens

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.runner")

_QUESTIONS = 3
"""How often a store that answers slowly is asked how a workflow stands, before its answer counts all the same."""

RETURN_DELAY = 10.0
"""Seconds before a step that this worker does not serve is offered again."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What is to run, and until when on the monotonic clock it may begin without another question."""

    run: Run
    until: float


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
    tokens: Tokens | None = None
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

    async def admit(self, delivery: Delivery, ended: Callable[[], None]) -> Admitted | None:
        """What is to run of a delivery, or None: then it is settled. This much needs no slot.

        ``ended`` is called when the step's body has: what is left to do is to settle.
        """
        try:
            message = codec.decode(delivery.body, self.message_limit)
        except MessageError as error:
            await self.conclusions.set_aside(delivery, error, self.worker, self.clock.now())
            return None
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
        return await self._unless_superseded(run, self._admit(run))

    async def run(self, admitted: Admitted) -> None:
        """Run it to its settlement. Nothing an activity does escapes from here."""
        await self._unless_superseded(admitted.run, self._run(admitted))

    async def _unless_superseded(self, run: Run, what: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await what
        except Superseded:
            deliveries = run.delivery.deliveries
            log.warning("step superseded: another worker has it, this result is refused", deliveries=deliveries)
            await self.dispatcher.transport.release(run.delivery)  # it may have come again since the step was given up
            await self.dispatcher.note([StepSuperseded(at=self.clock.now(), **run.about())])
            return None

    async def _run(self, admitted: Admitted) -> None:
        """Of what waited long for its slot it is asked again how its workflow stands."""
        now: Admitted | None = admitted
        if time.monotonic() > admitted.until:
            now = await self._admit(admitted.run)
        if now is not None:
            await self._start(now.run)

    async def _admit(self, run: Run) -> Admitted | None:
        try:
            run, missing = await self._whole(run)
        except KeysUnavailable as error:
            await self.conclusions.draw(run, Returned(str(error), RETURN_DELAY))
            return None
        standing, until = await self._standing(run.message)
        if standing.done is not None:
            await self.dispatcher.transport.settle(run.delivery, standing.done)
            log.info("step was done before, its successor is sent again")
        elif (outcome := admit(run.message, standing, run.execution())) is not None:
            await self.conclusions.draw(run, outcome)
            if self.locks is not None:
                await self.locks.pass_on(run.message, self.worker)
        elif missing is not None:
            await self.conclusions.draw(run, _lacking(run, missing))
        else:
            return Admitted(run, until)
        return None

    async def _whole(self, run: Run) -> tuple[Run, MessageError | None]:
        """The run with all its step needs, or what is missing."""
        try:
            run = run.carrying(await self.dispatcher.whole(run.message))
            claims = await self._claims(run.message)
            return run if claims is None else replace(run, claims=claims), None
        except MessageError as error:
            return run, error

    async def _standing(self, message: PaigeantMessage) -> tuple[Standing, float]:
        """How the workflow stands, and until when that may be acted on, by the monotonic clock.

        An answer that took long is asked for again: somebody may have cancelled since. Whoever cancels waits twice as
        long as an answer may have taken, so that a busy machine has time to spare.
        """
        if self.dispatcher.store is None:
            return Standing(), math.inf
        for _ in range(_QUESTIONS):
            until = time.monotonic() + STANDS_FOR / 2
            standing = await self.dispatcher.standing(message)
            if time.monotonic() <= until:
                return standing, until
        return standing, time.monotonic() + STANDS_FOR / 2

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

    async def _claims(self, message: PaigeantMessage) -> Mapping[str, Any] | None:
        """What the message's token says; what was done with it is taken back also after it has expired."""
        if message.obo_token is None:
            return None
        if self.tokens is None:
            raise TokenRefused(
                f"the workflow carries the token of a user, and this worker cannot check it: set {CHECKS_TOKENS}"
            )
        return await self.tokens.claims(message.obo_token, expires=not message.routing_slip.is_back)

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


def _lacking(run: Run, missing: MessageError) -> Outcome:
    """What becomes of a step that lacks a value, or whose token is not valid here."""
    end = Refused if isinstance(missing, TokenRefused) else Faulted
    return end(run.execution(), error_info(missing))


def _taken_over(run: Run, lock: Lock) -> Tried:
    """What came of a step counts only if its lock was held all the time: it runs again."""
    return Tried(run, Returned(f"its lock {lock.key!r} was taken over", delay=0.0))
