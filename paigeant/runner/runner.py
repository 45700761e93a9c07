"""The execution of one message: verify, claim, resolve, bind, invoke, outcome, decide, carry out.

The runner checks everything it can before it waits for a slot, so that no slot is occupied without a running step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import InitVar, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from paigeant.activity import Activity
from paigeant.context.services import Plans
from paigeant.decisions.failure import error_info
from paigeant.decisions.foreign import completed, unrecorded, with_sources
from paigeant.decisions.forward import admit, decide
from paigeant.decisions.limit import Lock, wanted_data
from paigeant.decisions.outcome import Faulted, Outcome, Parked, Poisoned, Retrying, Returned
from paigeant.decisions.plan import Settle
from paigeant.decisions.received import waits_for_operator
from paigeant.decisions.refusal import DISTRUSTED, refuse_beyond_grant
from paigeant.decisions.stuck import is_stuck
from paigeant.dispatch.catalog import BUILT_IN
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.timers import Timers
from paigeant.errors import (
    InvalidInput,
    KeysUnavailable,
    MessageError,
    ResultRefused,
    StoreRequired,
    Superseded,
    UnprovedOutput,
    Untrusted,
)
from paigeant.events import ErrorInfo, LetterKind, StepSuperseded
from paigeant.records.trust import Doubt
from paigeant.records.workflow import ACTED_ON_FOR, RESENT, Letters, Standing, Status, WorkerRecord
from paigeant.runner.attempt import Attempts, Tried
from paigeant.runner.breakers import Breakers
from paigeant.runner.conclusion import Conclusions
from paigeant.runner.destinations import Destinations
from paigeant.runner.doubting import Doubting
from paigeant.runner.holding import Holding
from paigeant.runner.locks import Locks, locks_of
from paigeant.runner.memory import Memory
from paigeant.runner.opening import Opening
from paigeant.runner.ordered import Orders
from paigeant.runner.refusals import Refusals
from paigeant.runner.returns import copy_of, others_serve, others_take_back, pause_after, resent_after, returns_of
from paigeant.runner.run import Run
from paigeant.runner.stops import Stops
from paigeant.runner.users import Users, without_keys
from paigeant.runtime.clock import Clock, SystemClock, boot_time
from paigeant.transport import HANDED_ON, Delivery, Outgoing
from paigeant.wire.message import PaigeantMessage

if TYPE_CHECKING:
    from paigeant.security.claims import Tokens

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.runner")

_QUESTIONS = 3
"""Maximum reads of a workflow's standing from a slow store; after that even a late answer counts."""

_HELD_DELAY = 2.0
"""Seconds until a message that another worker holds is due again; each return doubles them, up to a minute."""

_PATIENT, _MOST_PATIENT = 2, 20
"""Returns after which a compensation without a worker is skipped: minimum, and while other workers may serve it."""

_NOTHING_FOLLOWS = ErrorInfo(type="NothingFollows", message="it is recorded as completed, but nothing follows it")

_KEY_WAITS, _LONGEST_WAIT = 12, 60.0
"""How often a message returns whose key is unknown: ten minutes in all; and the longest pause, in seconds."""

RETURN_DELAY = 10.0
"""Seconds until a step that this worker does not serve is due again; each return doubles them, up to a minute."""

_SERVED_DELAY, _SERVED_MOST = 0.25, 2.0
"""The same, first and longest, while another live worker serves it: this worker may receive it a few more times."""


@dataclass(slots=True)
class Runner:
    """Runs deliveries for one worker. ``threads`` is the executor for plain functions."""

    worker: str
    activities: Mapping[str, Activity[..., Any]]
    dispatcher: Dispatcher
    threads: InitVar[Executor]
    timers: InitVar[Timers | None] = None
    locks: Locks | None = None
    holding: Holding | None = None
    stops: InitVar[Stops | None] = None
    plans: InitVar[Plans | None] = None
    tokens: InitVar[Tokens | None] = None
    publish_to: tuple[str, ...] | None = None
    clock: Clock = field(default_factory=SystemClock)
    breakers: Breakers = field(default_factory=Breakers)
    users: Users = field(init=False)
    attempts: Attempts = field(init=False)
    conclusions: Conclusions = field(init=False)
    memory: Memory | None = field(init=False)
    refusals: Refusals = field(init=False)
    opening: Opening = field(init=False)
    doubting: Doubting = field(init=False)
    orders: Orders = field(init=False)
    destinations: Destinations = field(init=False)

    def __post_init__(
        self,
        threads: Executor,
        timers: Timers | None,
        stops: Stops | None,
        plans: Plans | None,
        tokens: Tokens | None,
    ) -> None:
        self.users = Users(tokens, self.dispatcher.reading.standing)
        self.attempts = Attempts(self.dispatcher, threads, self.breakers, stops or Stops(), plans, self._standing)
        self.memory = Memory() if self.dispatcher.store is None else None
        self.conclusions = Conclusions(self.dispatcher, timers, self.locks, self.memory)
        self.opening = Opening(self.dispatcher.notary, self.dispatcher.decoded, self.clock)
        self.doubting = Doubting(self.dispatcher)
        self.orders = Orders(self.dispatcher, self.worker, self.clock)
        self.refusals = Refusals(self.dispatcher, self.worker, self.clock)
        self.destinations = Destinations(self.dispatcher, self.publish_to)

    async def admit(self, delivery: Delivery, ended: Callable[[], None]) -> Run | None:
        """Return the run of a delivery, or None if the delivery was settled. This needs no slot.

        ``ended`` is called when the step's body has ended: only the settlement remains.
        """
        run = await self._read(delivery, ended)
        return None if run is None else await self._unless_superseded(run, self._admit(run))

    async def condemn(self, delivery: Delivery, error: ErrorInfo, unread: bool = False) -> None:
        """End a step with this error, without running it.

        A step that has already ended, or must not run any more, is settled as usual. ``unread``: reading the message
        kills the process too, so only its bytes become a dead letter, and its workflow does not end.
        """
        if unread:
            await self._set_aside(delivery, LetterKind.POISON, error)
        elif (run := await self._read(delivery, _nothing)) is not None:
            await self._unless_superseded(run, self._condemn(run, error))

    async def _set_aside(self, delivery: Delivery, kind: LetterKind, error: ErrorInfo) -> None:
        reason = f"{error.type}: {error.message}"
        await self.conclusions.set_aside(delivery, kind, reason, self.worker, self.clock.now())

    async def _condemn(self, run: Run, error: ErrorInfo) -> None:
        standing, _ = await self._standing(run.message)
        if standing.done is None and not await self._is_trusted(run):
            return
        run = await self._introduced(run, standing)
        try:
            believed = await self.doubting.believed(run, standing)
        except KeysUnavailable as unknown:
            await self.conclusions.draw(run, without_keys(run, unknown))
            return
        if believed is not None and not await self._is_over(run, believed):
            await self.conclusions.draw(run, Poisoned(run.execution(), error))

    async def _read(self, delivery: Delivery, ended: Callable[[], None]) -> Run | None:
        """Return the run of the delivery's message, or None if the bytes are no message and became a dead letter."""
        try:
            opened = await self.opening.opened(delivery.body)
        except MessageError as error:
            await self.refusals.refuse(delivery, error)
            return None
        except KeysUnavailable as error:
            await self._wait_for_key(delivery, error)
            return None
        message, step = opened.message, opened.message.step
        # A delivery runs in a task of its own, so the log context bound here ends with that task.
        structlog.contextvars.bind_contextvars(
            correlation_id=message.correlation_id,
            step=step.id,
            activity=step.name,
            attempt=message.attempt,
            worker=self.worker,
        )
        return replace(self._run_of(delivery, message, ended), doubts=opened.doubts, ends=opened.ends)

    async def _wait_for_key(self, delivery: Delivery, error: KeysUnavailable) -> None:
        """Return a message to its queue whose key is not known here yet; refuse it after some minutes."""
        returns = returns_of(delivery.headers).after_wait()
        if returns.waits > _KEY_WAITS:
            await self.refusals.refuse(delivery, Untrusted("unknown-key", str(error)))
            return
        log.warning("a message waits for the key that signed it", reason=str(error), queue=delivery.queue)
        pause = pause_after(returns.waits, RETURN_DELAY, _LONGEST_WAIT)
        await self.dispatcher.settling.put_off(delivery, copy_of(delivery, returns, pause))

    def _run_of(self, delivery: Delivery, message: PaigeantMessage, ended: Callable[[], None]) -> Run:
        """Return the run. It counts the deliveries of earlier copies too; the broker counts only those of this copy."""
        before = max(returns_of(delivery.headers).before, resent_after(delivery.headers))
        deliveries = max(delivery.deliveries, before + 1)
        return Run(message, replace(delivery, deliveries=deliveries), self.worker, self.clock, ended)

    async def run(self, admitted: Run) -> None:
        """Run it to its settlement. No error of an activity reaches the caller."""
        await self._unless_superseded(admitted, self._run(admitted))

    async def _unless_superseded(self, run: Run, what: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await what
        except Superseded:
            await self.dispatcher.transport.release(run.delivery)  # the message may have been delivered again meanwhile
        except ResultRefused:
            pass
        deliveries = run.delivery.deliveries
        log.warning("step superseded: another worker has it, this result is rejected", deliveries=deliveries)
        await self.dispatcher.note([StepSuperseded(at=self.clock.now(), **run.about())])
        return None

    async def put_back(self, delivery: Delivery, error: BaseException) -> None:
        """Return an unsettled delivery to its queue after an error, with growing pauses.

        After too many errors of the message itself it becomes a dead letter with the last error.

        Raises:
            PaigeantError: broker or store are unavailable; this worker still holds the delivery.
        """
        if not await self.conclusions.put_back(delivery, error):
            info = error_info(error)
            try:
                run = self._run_of(delivery, (await self.opening.opened(delivery.body)).message, _nothing)
            except (MessageError, KeysUnavailable):
                await self._set_aside(delivery, LetterKind.UNREADABLE, info)
            else:
                await self._unless_superseded(run, self.conclusions.abandon(run, info))

    async def _run(self, admitted: Run) -> None:
        """Run it. If it waited long for its slot, read the workflow's standing again first."""
        message_id = admitted.message.id
        if self.memory is not None and self.memory.is_running(message_id):
            again = Returned("this worker runs a copy of the message now", _HELD_DELAY, grows=True)
            await self.conclusions.draw(admitted, again)
            return
        with nullcontext() if self.memory is None else self.memory.running(message_id):
            now: Run | None = admitted
            if boot_time() > admitted.stands_until or (self.memory is not None and message_id in self.memory):
                now = await self._admit(admitted)
            if now is not None:
                await self._start(now)

    async def _admit(self, run: Run) -> Run | None:
        try:
            run, missing = await self.dispatcher.patiently(lambda: self._whole(run))
        except KeysUnavailable as error:
            await self.conclusions.draw(run, without_keys(run, error))
            return None
        standing, until = await self.dispatcher.patiently(lambda: self._standing(run.message))
        if standing.done is None and isinstance(missing, DISTRUSTED):
            await self.refusals.refuse(run.delivery, missing, run.message)
            return None
        run = await self._introduced(run, standing)
        try:
            believed = await self.doubting.believed(run, standing)
            if believed is None or await self._is_over(run, believed) or await self._is_anothers(run, believed):
                return None
            if missing is not None:
                await self._lacks(run, missing)
                return None
            run = await self.doubting.with_proved_ends(run)
        except KeysUnavailable as error:
            await self.conclusions.draw(run, without_keys(run, error))
            return None
        if run.doubts and await self._still_waits(run):
            return None
        return replace(run, stands_until=until, doubts=(), ends=())

    async def _lacks(self, run: Run, missing: MessageError) -> None:
        """Let a step fail whose values are missing, or are not those that were signed."""
        if isinstance(missing, UnprovedOutput):
            await self.doubting.note(run, [Doubt("output", missing.code, str(missing))])
        await self.conclusions.draw(run, Faulted(run.execution(), error_info(missing)))

    async def _still_waits(self, run: Run) -> bool:
        """Record what did not come for the step. Return whether it was parked again; otherwise it parks as it runs."""
        await self.doubting.note(run, run.doubts)
        if (key := waits_for_operator(run.message.chain, run.doubts)) is None:
            return False
        await self.conclusions.draw(run, Parked(run.execution(), key))
        return True

    async def _introduced(self, run: Run, standing: Standing) -> Run:
        """Return the run, after recording what other programs did in its workflow and the store does not have."""
        message, now = run.message, run.clock.now()
        if not standing.is_known:
            await self.dispatcher.patiently(lambda: self.dispatcher.beginning.introduce(message, now))
        if self.dispatcher.store is None or not unrecorded(message):
            return run
        course = await self.dispatcher.patiently(partial(self.dispatcher.store.course, message.correlation_id))
        if course is None:
            await self.dispatcher.patiently(lambda: self.dispatcher.beginning.introduce(message, now))
        facts = [*completed(message, [one.id for one in course.done] if course else (), now)]
        for fact in facts:
            await self.dispatcher.patiently(partial(self.dispatcher.note, [fact]))
        return run.carrying(with_sources(message, facts)) if facts else run

    async def _is_over(self, run: Run, standing: Standing) -> bool:
        """Settle a step that has already ended or must not run any more; return False for a step that may run."""
        if standing.done is not None:
            following = standing.done or await self._instead(run, standing)
            if RESENT in run.delivery.headers:  # recovery may publish those as well
                following = [replace(one, headers={**one.headers, RESENT: "0"}) for one in following]
            await self.conclusions.repeat(run, following)
            await self.dispatcher.done_with(run.message.id)
            log.info("step has already ended, its next messages are published again", messages=len(following))
        elif (outcome := admit(run.message, standing, run.execution())) is not None:
            await self._refuse(run, outcome)
        else:
            return False
        return True

    async def _instead(self, run: Run, standing: Standing) -> Sequence[Outgoing]:
        """Return the next attempt of a step that is recorded as completed, if its workflow would stop here for ever.

        A separate store records what follows a step with the step's end. If neither is there, nobody ran the step.
        """
        store, message = self.dispatcher.store, run.message
        if store is None or self.dispatcher.joined or standing.status is not Status.RUNNING or standing.cancellation:
            return ()
        if not is_stuck(message, await self.dispatcher.patiently(partial(store.workflow, message.correlation_id))):
            return ()
        waiting = await self.dispatcher.patiently(partial(store.held, message.correlation_id))
        letters = Letters(workflow=message.correlation_id)
        set_aside = await self.dispatcher.patiently(partial(store.count_dead_letters, letters))
        if waiting or set_aside:
            return ()
        plan = decide(message, Retrying(run.execution(), _NOTHING_FOLLOWS, 0.0, counted=False))
        assert isinstance(plan, Settle), "a step that is tried again is settled"
        packed = self.dispatcher.packing.packed(plan, run.clock.now(), message)
        await self.dispatcher.patiently(partial(self.dispatcher.keep, packed.outgoing))
        await self.dispatcher.patiently(partial(store.record, packed.proven(plan.record), packed.outgoing))
        log.error("step runs again", reason=str(_NOTHING_FOLLOWS))
        return packed.outgoing

    async def _is_anothers(self, run: Run, standing: Standing) -> bool:
        """Settle a message that may count as lost, or a copy of one, if another worker or delivery has the message."""
        delivery, message_id = run.delivery, run.message.id
        is_copy = RESENT in delivery.headers
        if self.holding is None or not (is_copy or standing.is_late):
            return False
        holding, came_again = self.holding, delivery.redelivered or delivery.deliveries > 1
        is_here = is_copy and holding.leaves(message_id, delivery)
        take_over = came_again and not is_copy
        if not is_here and await self.dispatcher.patiently(lambda: holding.claim(message_id, take_over=take_over)):
            return False
        is_spare = is_copy and HANDED_ON not in delivery.headers and not delivery.redelivered
        if is_spare:  # the holder of the message does the rest
            await self.dispatcher.transport.settle(delivery)
            log.info("a copy of a message that is not lost is dropped")
        else:
            await self.conclusions.draw(run, Returned("another worker holds the message", _HELD_DELAY, grows=True))
        return True

    async def _whole(self, run: Run) -> tuple[Run, MessageError | None]:
        """Return the run with everything its step needs, and None or the error about what is missing or not trusted."""
        try:
            await self._check(run.message)
            run = run.carrying(await self.dispatcher.reading.whole(run.message))
            claims = await self.users.claims(run, self._serves(run.message))
            return run if claims is None else replace(run, claims=claims), None
        except MessageError as error:
            return run, error

    async def _is_trusted(self, run: Run) -> bool:
        """Settle a message that must not be obeyed; return True for any other message."""
        try:
            await self.dispatcher.patiently(lambda: self._check(run.message))
            await self.dispatcher.patiently(lambda: self.users.claims(run, self._serves(run.message)))
        except MessageError as error:
            await self.refusals.refuse(run.delivery, error, run.message)
        except KeysUnavailable as error:
            await self.conclusions.draw(run, without_keys(run, error))
        else:
            return True
        return False

    async def _check(self, message: PaigeantMessage) -> None:
        """Check what the message claims of itself.

        Raises:
            ClaimsTooMuch, ForeignQueue: it claims what cannot be true, or what this worker does not do for a stranger.
        """
        refuse_beyond_grant(message)
        await self.destinations.check(message)

    async def _standing(self, message: PaigeantMessage) -> tuple[Standing, float]:
        """Return the workflow's standing, and the boot time until which it is valid.

        A slow answer is read again, because the workflow may have been cancelled since.
        """
        if self.memory is not None:
            return Standing(done=() if message.id in self.memory else None), math.inf
        for _ in range(_QUESTIONS):
            until = boot_time() + ACTED_ON_FOR
            standing = await self.dispatcher.reading.standing(message)
            if boot_time() <= until:
                return await self.orders.believed(message, standing), until
        return await self.orders.believed(message, standing), boot_time() + ACTED_ON_FOR

    async def _start(self, run: Run) -> None:
        activity = self._serves(run.message)
        if activity is None:
            await self._refuse(run, await self._unserved(run))
        elif (obstacle := self._obstacle(activity, run)) is not None:
            await self._refuse(run, obstacle)
        else:
            try:
                await self._under_locks(activity, run)
            finally:
                self.breakers.left(activity, run.message)

    async def _refuse(self, run: Run, outcome: Outcome) -> None:
        """Conclude a step that does not start, and release the locks that were reserved for it."""
        await self.conclusions.draw(run, outcome)
        if self.locks is not None:
            await self.locks.pass_on(run.message, self.worker)

    async def _unserved(self, run: Run) -> Outcome:
        """Return the outcome for a step that this worker does not serve: during a deploy another worker may serve it.

        Compensation does not wait for ever: a compensation that no worker has any more is skipped, and the others run.
        """
        returned, store = Returned(f"this worker does not serve {run}", RETURN_DELAY, grows=True), self.dispatcher.store
        name, workers = run.message.step.name, list[WorkerRecord]()
        if store is not None:
            workers = list(await self.dispatcher.patiently(store.workers))
        if not run.message.routing_slip.is_back:
            is_served = others_serve(workers, self.worker, name)
            return replace(returned, delay=_SERVED_DELAY, most=_SERVED_MOST) if is_served else returned
        waits = returns_of(run.delivery.headers).waits
        serve = others_take_back if name in self.activities else others_serve  # the same code lacks it too
        if waits < _PATIENT or (waits < _MOST_PATIENT and (store is None or serve(workers, self.worker, name))):
            return returned
        return Faulted(run.execution(), ErrorInfo(type="CompensationMissing", message=f"no worker has {run} any more"))

    def _serves(self, message: PaigeantMessage) -> Activity[..., Any] | None:
        """Return the activity that runs the message's step or compensation."""
        name = message.step.name
        activity = self.activities.get(name) or BUILT_IN.get(name)
        return activity.compensation if activity and message.routing_slip.is_back else activity

    def _obstacle(self, activity: Activity[..., Any], run: Run) -> Outcome | None:
        """Return the outcome for a step that must not start because its activity keeps failing, or None."""
        if (pause := self.breakers.hold_off(activity, run.message, self.clock.now())) is not None:
            return Returned(f"{run} keeps failing", pause, is_usual=True)
        return None

    async def _under_locks(self, activity: Activity[..., Any], run: Run) -> None:
        """Acquire the locks, places and starts that the step needs, and run it; park it if one is not free."""
        try:
            wanted = locks_of(activity, run, self.dispatcher.prefix, self.locks)
        except (InvalidInput, StoreRequired) as error:
            await self._refuse(run, Faulted(run.execution(), error_info(error)))
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
    """Return a result that makes the step run again: its lock was lost, so its own result does not count."""
    return Tried(run, Returned(f"its lock {lock.key!r} was taken over", delay=0.1, grows=True))


def _nothing() -> None:
    """Do nothing: a body that never starts has no end to report."""
