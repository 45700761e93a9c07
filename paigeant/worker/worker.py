"""A worker: takes deliveries for the activities it serves and runs each to its settlement."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any
from uuid import uuid4

import structlog

from paigeant.activity import Activity
from paigeant.activity.offering import offer_of
from paigeant.app import App
from paigeant.code_version import code_version
from paigeant.dispatch import queue_name
from paigeant.errors import ConfigurationError, PaigeantError, StoreError
from paigeant.health import Health
from paigeant.offer import Offer
from paigeant.records import WORKER_ANNOUNCES_EVERY, WorkerRecord
from paigeant.runner import Runner
from paigeant.runner.locks import Locks
from paigeant.runner.stops import Stops
from paigeant.steps import CONTROL
from paigeant.timers import Timers
from paigeant.transport import Delivery
from paigeant.worker.caveats import caveats
from paigeant.worker.recovery import is_needed, refill
from paigeant.worker.slots import Slots

log = structlog.stdlib.get_logger("paigeant.worker")

_BURST_LOOK = 0.1
_BURST_LOOKS = 2
_TROUBLE_DELAY = 5.0
_PUT_OFF = 1.0
_MOST_THREADS = 10_000
"""Concurrency is what limits threads; one that outlives its step's timeout must not take the place of another's."""


class Worker:
    """Serves some or all activities of an App in this process.

    ``concurrency`` steps run at once; ``prefetch`` deliveries are held at once (default: as many, and where steps are
    short some in advance, see :mod:`paigeant.worker.slots`). With ``burst`` the worker ends when nothing is left to do.
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
        shutdown_timeout: float | None = None,
        name: str | None = None,
        health: Health | None = None,
    ) -> None:
        self.app = app
        self.health = health
        self.concurrency = concurrency or app.settings.concurrency
        self.prefetch = prefetch
        self.activities = _chosen(app, only)
        served = tuple(queues) or tuple(dict.fromkeys(app.catalog.queue_of(one) for one in self.activities.values()))
        self.queues = (*served, queue_name(app.prefix, CONTROL)) if app.store is not None else served
        self.burst = burst
        self.shutdown_timeout = app.settings.shutdown_timeout if shutdown_timeout is None else shutdown_timeout
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:4]}"
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()

    def stop(self) -> None:
        """The first call finishes what runs, within the shutdown timeout; the second hands it back now."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def run(self, started: Callable[[], None] | None = None) -> None:
        """Serve until :meth:`stop`.

        Raises:
            TransportError, StoreError: broker or store cannot be reached at the start.
            StoreRequired: the App has schedules, and no store.
        """
        await self.app.connect()
        await self.app.schedules.register()
        for text in caveats(self.app.transport, self.activities.values()):
            log.warning(text, worker=self.name)
        await self.app.transport.declare(*self.queues)
        threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="paigeant-activity")
        timers = self.app.timers
        stops = Stops(self.app.store, self.app.settings.cancel_grace)
        locks = self._locks(timers)
        runner = Runner(
            worker=self.name,
            activities=self.activities,
            dispatcher=self.app.dispatcher,
            threads=threads,
            timers=timers,
            locks=locks,
            stops=stops,
            plan_steps=self.app.catalog.specs,
            tokens=self.app.tokens,
            max_deliveries=self.app.settings.max_deliveries,
            message_limit=self.app.settings.message_limit,
            clock=self.app.clock,
        )
        tasks = [self._announce(), self._recover(), stops.watch(), self.app.schedules.serve()]
        if timers is not None:
            tasks.append(timers.run())
            if self.app.settings.retention is not None:
                tasks.append(self.app.retention.serve(self.app.settings.retention))
        if locks is not None:
            tasks.append(locks.watch())
        if self.health is not None:
            tasks.append(self.health.watch(self.app.transport, self.queues[0]))
        beside = [asyncio.create_task(task) for task in tasks]
        try:
            await self._serve(runner, started)
        finally:
            for task in beside:
                task.cancel()
            await self._hand_back()
            threads.shutdown(wait=False, cancel_futures=True)
            await self._withdraw()
            await self.app.close()

    def _locks(self, timers: Timers | None) -> Locks | None:
        """What holds locks and places, if an activity served here takes any."""
        if timers is None or not any(one.limits for one in self.activities.values()):
            return None
        return Locks(timers.store, timers, self.app.settings.lease_seconds)

    # --- serving ---------------------------------------------------------------------------------------------

    async def _serve(self, runner: Runner, started: Callable[[], None] | None) -> None:
        consuming = asyncio.create_task(self._consume(runner))
        ending = [consuming, asyncio.create_task(self._stopping.wait())]
        if self.burst:
            ending.append(asyncio.create_task(self._nothing_left()))
        log.info("worker ready", worker=self.name, activities=sorted(self.activities), queues=list(self.queues))
        if started is not None:
            started()
        try:
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            if consuming.done():
                consuming.result()
        finally:
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _consume(self, runner: Runner) -> None:
        slots = Slots(self.concurrency, self.prefetch)
        while True:
            suspect = await self._take(runner, slots)
            await self._run_alone(suspect, runner)

    async def _take(self, runner: Runner, slots: Slots) -> Delivery:
        """Run what comes, until something comes for the last time before it is set aside: then take nothing more."""
        async with aclosing(self.app.transport.consume(self.queues, slots.held)) as batches:
            async for batch in batches:
                suspects = [one for one in batch if 1 < one.deliveries == self.app.settings.max_deliveries]
                for delivery in batch:
                    if delivery not in suspects:
                        self._begin(self._run(delivery, runner, slots))
                for delivery in suspects[1:]:
                    await self._put_off(delivery)
                if suspects:
                    return suspects[0]
        raise AssertionError("a transport's deliveries never end")

    async def _run_alone(self, suspect: Delivery, runner: Runner) -> None:
        """Run it while nothing else runs here, and nothing else is held.

        A step that kills its process takes the others in it along, and each such death counts for all of them. If the
        process dies of this delivery, it was this step; if it was innocent, it completes now.
        """
        if self._running:
            await asyncio.wait(set(self._running))
        await asyncio.wait({self._begin(self._run(suspect, runner, Slots(1)))})

    def _begin(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _run(self, delivery: Delivery, runner: Runner, slots: Slots) -> None:
        """One delivery, from its turn to its settlement; whatever goes wrong here, the worker goes on."""
        slot = slots.slot()
        try:
            if (admitted := await runner.admit(delivery, slot.ended)) is None:
                return
            async with slot:
                if self._stopping.is_set():  # fetched in advance, not begun
                    await self.app.transport.release(delivery)
                    return
                await runner.run(admitted)
        except asyncio.CancelledError:
            await self.app.transport.release(delivery)
            raise
        except Exception as error:
            log.error("could not settle a delivery, it goes back", queue=delivery.queue, error=_said(error))
            log.debug("the whole of that error", exc_info=True)
            with suppress(PaigeantError):
                await self.app.transport.release(delivery, _TROUBLE_DELAY)

    async def _put_off(self, delivery: Delivery) -> None:
        """Give back another last delivery, so that this one's death is not counted against it."""
        with suppress(PaigeantError):
            await self.app.transport.release(delivery, _PUT_OFF)

    async def _nothing_left(self) -> None:
        """Return when for a moment nothing has waited and nothing has run."""
        quiet = 0
        while quiet < _BURST_LOOKS:
            await asyncio.sleep(_BURST_LOOK)
            quiet = quiet + 1 if await self._is_idle() else 0

    async def _is_idle(self) -> bool:
        """The queues are asked first: what left one of them before the answer is among what runs after it."""
        return not await self._waiting() and not self._running

    async def _waiting(self) -> int:
        return sum([await self.app.transport.depth(queue) for queue in self.queues])

    # --- ending ----------------------------------------------------------------------------------------------

    async def _hand_back(self) -> None:
        """Let what runs finish, as long as the shutdown timeout and the second signal allow; release the rest."""
        if not self._running:
            return
        log.info("finishing", worker=self.name, running=len(self._running), seconds=self.shutdown_timeout)
        finishing = asyncio.gather(*self._running, return_exceptions=True)
        hurrying = asyncio.create_task(self._hurrying.wait())
        ends: list[asyncio.Future[Any]] = [finishing, hurrying]
        await asyncio.wait(ends, timeout=self.shutdown_timeout, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if self._running:
            log.warning("handing back what still runs", worker=self.name, running=len(self._running))
            for task in self._running:
                task.cancel()
            await asyncio.gather(finishing, return_exceptions=True)

    # --- recovery --------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Where broker and store are apart: send again, to the queues served here, what the broker has lost."""
        store, grace = self.app.store, self.app.settings.recovery_grace
        if store is None or not is_needed(self.app.dispatcher):
            return
        while True:
            try:
                if lost := await refill(self.app.transport, store, grace, self.queues):
                    log.warning("the broker had lost messages: sent again from the store", messages=len(lost))
            except PaigeantError as error:
                log.warning("could not look for lost messages", error=str(error))
            await asyncio.sleep(grace)

    # --- presence --------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        """Say in the store that this worker is alive; not being able to is no reason to stop working."""
        store = self.app.store
        if store is None:
            return
        code = code_version(self.app.source_files)
        record = WorkerRecord(
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
        )
        while True:
            try:
                await store.announce(record)
            except StoreError as error:
                log.warning("could not announce this worker", error=str(error))
            await asyncio.sleep(WORKER_ANNOUNCES_EVERY)

    def _offers(self, version: str) -> Iterator[Offer]:
        for activity in self.activities.values():
            try:
                yield offer_of(activity, self.app.queue_of(activity), version)
            except ConfigurationError as error:  # its steps will say the same
                log.warning("could not describe an activity", activity=activity.name, error=str(error))

    async def _withdraw(self) -> None:
        if self.app.store is not None:
            with suppress(StoreError):
                await self.app.store.withdraw(self.name)


def _said(error: Exception) -> str:
    """What can be logged: our own messages; of any other error, whose text may hold data, the type."""
    return str(error) if isinstance(error, PaigeantError) else type(error).__name__


def _chosen(app: App, only: Collection[str]) -> dict[str, Activity[..., Any]]:
    unknown = [name for name in only if name not in app.activities]
    if unknown:
        known = ", ".join(sorted(app.activities)) or "none"
        raise ConfigurationError(f"App {app.name!r} has no activity {unknown[0]!r}", hint=f"it has: {known}")
    if not app.activities and not app.declared_schedules:
        raise ConfigurationError(
            f"App {app.name!r} has no activities to serve", hint="decorate a function with @app.activity"
        )
    return {name: one for name, one in app.activities.items() if not only or name in only}
