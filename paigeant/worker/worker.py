"""A worker: consumes deliveries for the activities it serves and runs each to its settlement."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

import structlog

from paigeant.activity import Activity
from paigeant.activity.builtin import CONTROL
from paigeant.activity.offering import offer_of
from paigeant.app import App
from paigeant.dispatch.packing import queue_name
from paigeant.dispatch.timers import Timers
from paigeant.errors import ConfigurationError, PaigeantError, StoreError, Superseded
from paigeant.records.offer import Offer
from paigeant.records.trust import SHOWN
from paigeant.records.workflow import WORKER_ANNOUNCES_EVERY, WorkerRecord
from paigeant.runner import Runner
from paigeant.runner.breakers import Breakers
from paigeant.runner.holding import Holding
from paigeant.runner.locks import Locks
from paigeant.runner.ordered import Orders
from paigeant.runner.returns import LONGEST_PAUSE
from paigeant.runner.stops import Stops
from paigeant.runtime.code_version import code_version
from paigeant.runtime.nearest import did_you_mean
from paigeant.runtime.outage import Outage
from paigeant.transport import Delivery, Outgoing
from paigeant.wire.times import span
from paigeant.worker.caveats import caveats, limit_of
from paigeant.worker.company import Company, Crowded, company_here
from paigeant.worker.health import Health
from paigeant.worker.reaching import reached
from paigeant.worker.recovery import MOST, is_needed, refill
from paigeant.worker.slots import NoSlot, Slots
from paigeant.worker.suspects import Limits
from paigeant.worker.tasks import Tasks
from paigeant.worker.trials import HOLD, Trials

log = structlog.stdlib.get_logger("paigeant.worker")

_BURST_LOOK = 0.1
_BURST_LOOKS = 2
_PUT_OFF = 1.0
_REFILLS_AGAIN = 1.0
"""Seconds until the next poll for lost messages, if this one published as many as it may."""

_SUSPECT_BACK = 5.0
"""Maximum seconds until a postponed suspect is due again."""

_BACK_LATE = 1.0
"""Seconds that a broker may deliver late."""
_MOST_THREADS = 10_000
"""Concurrency limits threads; a thread that outlives its step's timeout must not block the next step."""


class Worker:
    """Serves some or all activities of an App in this process.

    ``concurrency`` steps run at once; ``prefetch`` deliveries are held at once (default: as many, and more in advance
    where steps are short, see :mod:`paigeant.worker.slots`). With ``burst`` the worker ends when nothing is left to do.
    When it starts, the worker waits for a broker or store that is down; with ``waits=False`` it raises an error.
    """

    def __init__(
        self,
        app: App,
        *,
        concurrency: int | None = None,
        prefetch: int | None = None,
        only: Collection[str] = (),
        queues: Sequence[str] = (),
        burst: bool = False,
        waits: bool = True,
        shutdown_timeout: float | None = None,
        name: str | None = None,
        health: Health | None = None,
        company: Company | None = None,
    ) -> None:
        self.app = app
        self.health = health
        self.concurrency = app.settings.concurrency if concurrency is None else concurrency
        for what, number in (("concurrency", self.concurrency), ("prefetch", prefetch)):
            if number is not None and number < 1:
                raise ConfigurationError(f"{what} must be at least 1, and is {number}", hint=f"leave {what}= out")
        self.prefetch = prefetch
        self.activities = _chosen(app, only)
        served = tuple(queues) or tuple(dict.fromkeys(app.catalog.queue_of(one) for one in self.activities.values()))
        self.queues = (*served, queue_name(app.prefix, CONTROL)) if app.store is not None else served
        self.burst = burst
        self.waits = waits
        timeout = app.settings.shutdown_timeout if shutdown_timeout is None else shutdown_timeout
        self.shutdown_timeout = span("shutdown_timeout", timeout)
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:4]}"
        self._running: set[asyncio.Task[None]] = set()
        self._holding: Holding | None = None
        self._remarks: Sequence[str] = ()
        self._back_by = 0.0
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._company = company or company_here()
        limits = Limits.of(app.settings.max_deliveries, app.settings.lease_seconds)
        self._trials = Trials(app.transport, limits, self._company, self._stopping.is_set, self._postpone)

    def stop(self) -> None:
        """Stop. The first call finishes running steps within the shutdown timeout; the second releases them at once."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def run(self, started: Callable[[], None] | None = None) -> None:
        """Serve until :meth:`stop`; ``started`` is called once the worker consumes.

        The worker waits for a broker or store that is away, unless ``waits`` is false. The App stays connected if the
        program had used it before.

        Raises:
            TransportError, StoreError: broker or store rejects this worker: its login, its rights, its settings. Or one
                of them is away, and the worker does not wait.
            StoreRequired: the App has schedules, and no store.
        """
        async with self.app.in_use(), Tasks() as tasks:
            if self.health is not None:
                health, queue = self.health, self.queues[0]
                health.failing = tasks.failing
                tasks.start("health", lambda: health.watch(self.app.transport, queue))
            prepared = reached(self._prepare) if self.waits else self._prepare()
            if await self._unless_stopped(prepared):
                await self._work(tasks, started)
        log.info("worker stopped", worker=self.name)

    async def _prepare(self) -> None:
        """Connect to broker and store and create what this worker needs there. A second call is harmless."""
        await self.app.connect()
        await self.app.schedules.register()
        await self.app.transport.declare(*self.queues)
        limit = await limit_of(self.app.transport, self.app.prefix, self.app.settings.max_deliveries)
        self._remarks = [*caveats(self.app.transport, self.activities.values()), *([limit] if limit else [])]

    async def _work(self, tasks: Tasks, started: Callable[[], None] | None) -> None:
        for text in self._remarks:
            log.warning(text, worker=self.name)
        threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="paigeant-activity")
        timers = self.app.timers
        orders = Orders(self.app.dispatcher, self.name, self.app.clock)
        stops = Stops(self.app.store, self.app.settings.cancel_grace, orders)
        locks = self._locks(timers)
        if (store := self.app.store) is not None and is_needed(self.app.dispatcher):
            self._holding = Holding(store, self.name, self.app.settings.recovery_grace)
        runner = Runner(
            worker=self.name,
            activities=self.activities,
            dispatcher=self.app.dispatcher,
            threads=threads,
            timers=timers,
            locks=locks,
            stops=stops,
            plans=self.app.catalog,
            holding=self._holding,
            tokens=self.app.tokens,
            breakers=Breakers(self.app.settings.breaker_trials),
            publish_to=self.app.settings.publish_to,
            clock=self.app.clock,
        )
        self._start(tasks, timers, stops, locks)
        try:
            await self._serve(runner, started)
        finally:
            if self.health is not None:
                self.health.stopping()
            await self._hand_back()  # the background task still renews locks
            await tasks.end()
            await self._trials.close()
            threads.shutdown(wait=False, cancel_futures=True)
            await self._withdraw()

    def _start(self, tasks: Tasks, timers: Timers | None, stops: Stops, locks: Locks | None) -> None:
        """Start the background tasks."""
        tasks.start("announcements", self._announce)
        tasks.start("recovery", self._recover)
        if self._holding is not None:
            tasks.start("holdings", self._holding.serve)
        tasks.start("cancellations", stops.watch)
        tasks.start("schedules", self.app.schedules.serve)
        if timers is not None:
            tasks.start("timers", timers.run)
            if (seconds := self.app.settings.retention) is not None:
                tasks.start("retention", partial(self.app.retention.serve, seconds))
        if locks is not None:
            tasks.start("locks", locks.watch)

    async def _unless_stopped(self, doing: Coroutine[Any, Any, None]) -> bool:
        """Run this to its end, or until the worker is told to stop. Return whether it ended."""
        task, stopping = asyncio.create_task(doing), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            return task.done()
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    def _locks(self, timers: Timers | None) -> Locks | None:
        """Return the locks of this worker, or None if no activity served here has a limit."""
        store = self.app.store
        if store is None or timers is None or not any(one.limits for one in self.activities.values()):
            return None
        return Locks(store, timers, self.app.settings.lease_seconds)

    # --- serving ---------------------------------------------------------------------------------------------

    async def _serve(self, runner: Runner, started: Callable[[], None] | None) -> None:
        """Consume until the worker stops or, in a burst, nothing is left. Raise the error that ended consuming."""
        ending = [asyncio.create_task(self._consume(runner)), asyncio.create_task(self._stopping.wait())]
        try:
            await self._tell_ready(ending, started)
            if self.burst:
                ending.append(asyncio.create_task(self._nothing_left()))
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in ending:
                if task.done():
                    task.result()
        finally:
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _tell_ready(self, ending: Sequence[asyncio.Task[Any]], started: Callable[[], None] | None) -> None:
        """Report the worker as ready once it consumes: a transport answers calls in order, so after this call."""
        begun = asyncio.create_task(reached(self.app.transport.connect))
        try:
            await asyncio.wait([begun, *ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
        if any(task.done() for task in ending) or begun.cancelled():
            return
        begun.result()
        facts = {"activities": sorted(self.activities), "queues": list(self.queues), "code": self._code}
        log.info("worker ready", worker=self.name, **facts, **self._signing())
        if self.health is not None:
            self.health.serving()
        if started is not None:
            started()

    async def _consume(self, runner: Runner) -> None:
        """Run deliveries. A message that may kill its worker runs alone, see :mod:`paigeant.worker.suspects`."""
        slots = Slots(self.concurrency, self.prefetch)
        async with aclosing(self.app.transport.consume(self.queues, slots.held)) as batches:
            async for batch in batches:
                suspects = [one for one in batch if self._trials.limits.suspects(one)]
                for delivery in suspects:  # first, because they can run alone before other steps start
                    self._begin(delivery, self._try(delivery, runner, slots))
                for delivery in batch:
                    if delivery not in suspects:
                        self._begin(delivery, self._run(delivery, runner, slots, self._company))

    async def _try(self, delivery: Delivery, runner: Runner, slots: Slots) -> None:
        """Handle one delivery of a suspect. After an error the worker continues, and the message comes again."""
        self._expect_back(_SUSPECT_BACK)

        async def run(counted: Delivery, company: Company) -> None:
            await self._run(counted, runner, slots if company is self._company else Slots(1), company)

        try:
            await self._trials.take(delivery, run, runner.condemn)
        except asyncio.CancelledError:
            await self.app.transport.release(delivery)
            raise
        except Exception as error:
            await self._goes_back(delivery, runner, error)

    async def _postpone(self, outgoing: Outgoing) -> None:
        await self.app.dispatcher.settling.postpone(outgoing)

    def _begin(self, delivery: Delivery, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if (holding := self._holding) is not None and (message_id := delivery.id) is not None:
            holding.add(message_id, delivery)
            task.add_done_callback(lambda _: holding.remove(message_id, delivery))
        return task

    async def _run(self, delivery: Delivery, runner: Runner, slots: Slots, company: Company) -> None:
        """Run one delivery to its settlement. After any error the worker continues."""
        slot = slots.slot()
        try:
            async with company.place(HOLD):
                admitted = await runner.admit(delivery, slot.ended)
            if admitted is None:
                return
            async with slot, company.place(HOLD):
                if self._stopping.is_set():  # fetched in advance, not started
                    await self.app.transport.release(delivery)
                    return
                await runner.run(admitted)
        except asyncio.CancelledError:
            await self.app.transport.release(delivery)
            raise
        except NoSlot:  # other workers may run it at once
            with suppress(PaigeantError):
                await self.app.transport.release(delivery)
        except Crowded:  # a suspect runs alone here for long: let other workers run it
            await self._put_off(delivery)
        except Exception as error:
            await self._goes_back(delivery, runner, error)

    async def _goes_back(self, delivery: Delivery, runner: Runner, error: Exception) -> None:
        log.error("could not settle a delivery, returning it to its queue", queue=delivery.queue, error=_said(error))
        log.debug("the full error", exc_info=error)
        self._expect_back(LONGEST_PAUSE)
        try:
            await runner.put_back(delivery, error)
        except Superseded:
            pass
        except Exception as second:
            log.error("could not return a delivery, releasing it", queue=delivery.queue, error=_said(second))
            with suppress(PaigeantError):
                await self.app.transport.release(delivery, LONGEST_PAUSE)

    async def _put_off(self, delivery: Delivery) -> None:
        """Release it for a short pause, without counting an error."""
        self._expect_back(_PUT_OFF)
        with suppress(PaigeantError):
            await self.app.dispatcher.settling.release(delivery, _PUT_OFF)

    async def _nothing_left(self) -> None:
        """Return after a short time in which nothing waited and nothing ran. A broker that is away proves neither."""
        quiet, outage = 0, Outage(log, "ask what is left to do")
        while quiet < _BURST_LOOKS:
            await asyncio.sleep(_BURST_LOOK)
            is_idle = False
            with outage.noted():
                is_idle = await self._is_idle()
            quiet = quiet + 1 if is_idle else 0

    async def _is_idle(self) -> bool:
        """Whether nothing waits or runs. The queues are read first: a message that has left its queue runs by then."""
        return not await self._waiting() and not self._running and asyncio.get_running_loop().time() >= self._back_by

    def _expect_back(self, seconds: float) -> None:
        """Make a burst wait for a started delivery that is returned and due within these seconds."""
        self._back_by = max(self._back_by, asyncio.get_running_loop().time() + seconds + _BACK_LATE)

    async def _waiting(self) -> int:
        return sum([await self.app.transport.depth(queue) for queue in self.queues])

    # --- ending ----------------------------------------------------------------------------------------------

    async def _hand_back(self) -> None:
        """Let running steps finish, as long as the shutdown timeout and the second signal allow. Release the rest."""
        if not self._running:
            return
        log.info("finishing", worker=self.name, running=len(self._running), seconds=self.shutdown_timeout)
        finishing = asyncio.gather(*self._running, return_exceptions=True)
        hurrying = asyncio.create_task(self._hurrying.wait())
        ends: list[asyncio.Future[Any]] = [finishing, hurrying]
        await asyncio.wait(ends, timeout=self.shutdown_timeout, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if self._running:
            log.warning("releasing the steps that still run", worker=self.name, running=len(self._running))
            for task in self._running:
                task.cancel()
            await asyncio.gather(finishing, return_exceptions=True)

    # --- recovery --------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Publish lost messages again to the queues served here, where broker and store are separate."""
        store, grace = self.app.store, self.app.settings.recovery_grace
        if store is None or not is_needed(self.app.dispatcher):
            return
        outage = Outage(log, "look for lost messages")
        while True:
            lost: Sequence[Outgoing] = ()
            with outage.noted():
                if lost := await refill(self.app.transport, store, grace, self.queues, self.app.dispatcher):
                    log.warning("overdue messages that no worker holds were published again", messages=len(lost))
            await asyncio.sleep(_REFILLS_AGAIN if len(lost) >= MOST else grace)

    # --- presence --------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        """Record in the store that this worker is alive. If that fails, the worker continues."""
        store = self.app.store
        if store is None:
            return
        record, outage = self._record(), Outage(log, "announce this worker")
        while True:
            with outage.noted():
                await store.announce(record)
            await asyncio.sleep(WORKER_ANNOUNCES_EVERY)

    @cached_property
    def _code(self) -> str:
        """The version of the App's code: a hash, as ``paigeant workers --json`` and ``paigeant doctor`` show it."""
        return code_version(self.app.source_files)

    def _signing(self) -> dict[str, str]:
        """Return what the log says about signatures: the mode, the key and the beginning of the policy's digest."""
        if (notary := self.app.notary) is None:
            return {"signing": "off"}
        return {
            "signing": notary.mode.value,
            "key": notary.signer.kid,
            "key_of": notary.name,
            "policy": notary.policy.digest[:SHOWN],
        }

    def _record(self) -> WorkerRecord:
        code = self._code
        return WorkerRecord(
            id=self.name,
            app=self.app.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            activities=tuple(sorted(self.activities)),
            queues=self.queues,
            concurrency=self.concurrency,
            started_at=self.app.clock.now(),
            seen_at=self.app.clock.now(),
            code=code,
            offers=tuple(self._offers(code)),
            policy=notary.policy.digest if (notary := self.app.notary) is not None else "",
        )

    def _offers(self, version: str) -> Iterator[Offer]:
        for activity in self.activities.values():
            try:
                offer = offer_of(activity, self.app.queue_of(activity), version)
                yield offer if (notary := self.app.notary) is None else notary.announced(offer, self.app.clock.now())
            except ConfigurationError as error:  # its steps report the same error
                log.warning("could not describe an activity", activity=activity.name, error=str(error))

    async def _withdraw(self) -> None:
        if self.app.store is not None:
            with suppress(StoreError):
                await self.app.store.withdraw(self.name)


def _said(error: Exception) -> str:
    """Return what is safe to log: our own messages; of any other error, whose text may hold data, only its type."""
    return str(error) if isinstance(error, PaigeantError) else type(error).__name__


def _chosen(app: App, only: Collection[str]) -> dict[str, Activity[..., Any]]:
    unknown = [name for name in only if name not in app.activities]
    if unknown:
        known = ", ".join(sorted(app.activities)) or "none"
        hint = did_you_mean(unknown[0], app.activities, f"it has: {known}")
        raise ConfigurationError(f"App {app.name!r} has no activity {unknown[0]!r}", hint=hint)
    if not app.activities and not app.declared_schedules:
        raise ConfigurationError(
            f"App {app.name!r} has no activities to serve", hint="decorate a function with @app.activity"
        )
    return {name: one for name, one in app.activities.items() if not only or name in only}
