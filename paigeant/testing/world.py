"""One run of a workflow in a world of its own: real workers on a simulated broker, with what a plan has go wrong."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from itertools import count
from typing import Any

from paigeant.activity import Activity, Kind
from paigeant.app import App
from paigeant.context import ActivityContext
from paigeant.errors import StoreError, TransportError, WorkflowError
from paigeant.message import PaigeantMessage
from paigeant.records import EventRecord, WorkflowRecord
from paigeant.testing.broker import ConnectionLost, SimulatedBroker, SimulatedTransport, Tier
from paigeant.testing.faults import FaultPlan, Faults, Point
from paigeant.testing.history import Fact, History, Started, Stopped, Struck
from paigeant.testing.stores import Door, SimulatedStore, last_look, simulated_store, step_label
from paigeant.testing.virtual import START, VirtualClock, VirtualLoop, grouped, run_virtually
from paigeant.worker import Worker

_LOOK = 0.25
_RESTART = 1.0
"""Seconds until a worker that died is started again."""

_GRACE = 15.0
_PATIENCE = 10.0
"""Seconds without a message on the broker after which nothing goes on by itself: workers take over after 5."""

_LONGEST_PATIENCE = 3 * _GRACE
"""The same, while a workflow should go on: workers fill the broker again after the recovery grace."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is run: the steps of a workflow, what it is given, and on what. Times are seconds."""

    app: App
    steps: Sequence[Any]
    variables: Mapping[str, Any] = field(default_factory=dict)
    signals: Sequence[tuple[str, Any]] = ()
    workers: int = 2
    start: float = START
    limit: float = 3600.0
    latency: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """What became of a workflow.

    ``status`` is that of its record, or ``waiting`` when it waits for what does not come. ``output`` is as the last
    activity declares it. ``messages`` are those the broker took, in order; ``seconds`` is how long it seemed to take.
    """

    plan: FaultPlan
    tier: Tier
    status: str
    output: Any = None
    failure: WorkflowError | None = None
    record: WorkflowRecord
    events: Sequence[EventRecord]
    messages: Sequence[PaigeantMessage]
    seconds: float
    history: Sequence[Fact] = field(repr=False)
    reached: Mapping[Point, int] = field(repr=False)

    def result(self) -> Any:
        """The output.

        Raises:
            WorkflowError: the workflow failed, or was cancelled.
        """
        if self.failure is not None:
            raise self.failure
        return self.output

    def outputs(self) -> dict[str, Any]:
        """What each completed step gave, as JSON types, by the name of its activity; the latest of a name."""
        return {step.activity: step.output for step in self.record.steps if step.status == "completed"}


def play(scene: Scene, tier: Tier, plan: FaultPlan) -> WorkflowRun:
    """Run the workflow until it has ended or nothing goes on. What ``random`` gives is as the plan's seed says."""
    dice = random.getstate()
    random.seed(plan.seed)
    try:
        return run_virtually(partial(_in_a_world, scene, tier, plan))
    finally:
        random.setstate(dice)


async def _in_a_world(scene: Scene, tier: Tier, plan: FaultPlan, loop: VirtualLoop) -> WorkflowRun:
    clock, history = VirtualClock(loop, scene.start), History()
    with simulated_store(clock, history) as store:
        return await World(scene, tier, plan, loop, clock, history, store).run()


class _Crashed(BaseException):
    """Ends a plain function whose process has just died."""


class World:
    """Everything there is in one run."""

    def __init__(
        self,
        scene: Scene,
        tier: Tier,
        plan: FaultPlan,
        loop: VirtualLoop,
        clock: VirtualClock,
        history: History,
        store: SimulatedStore,
    ) -> None:
        self.scene = scene
        self.plan = plan
        self.loop = loop
        self.dice = random.Random(plan.seed)
        self.clock = clock
        self.history = history
        self.store = store
        self.faults = Faults(plan)
        self.broker = SimulatedBroker(tier, self.clock, self.history, self.dice)
        self.store_back_at = 0.0
        self.is_over = False

    async def run(self) -> WorkflowRun:
        scene = self.scene
        await self.store.connect()
        app = self.app_of(Process(self, "client", None))
        workflow = await app.dispatch(*scene.steps, variables=scene.variables, id="workflow-1")
        for name, value in scene.signals:
            await workflow.signal(name, value)
        await self._serve()
        record = await workflow.record()
        output, failure = None, None
        if record.status.is_terminal:
            try:
                output = await workflow.result()
            except WorkflowError as error:
                failure = error
        events = await self.store.events(workflow.correlation_id)
        self.is_over = True
        return WorkflowRun(
            plan=self.plan,
            tier=self.broker.tier,
            status=record.status.value if record.status.is_terminal else "waiting",
            output=output,
            failure=failure,
            record=record,
            events=events,
            messages=self.broker.messages,
            seconds=self.clock.now() - scene.start,
            history=self.history.facts,
            reached=self.faults.reached,
        )

    # --- workers ----------------------------------------------------------------------------------------------

    def app_of(self, process: Process) -> App:
        """The App as this process has it: the same activities, connections of its own; its schedules rest."""
        app = copy(self.scene.app)
        app.__dict__.pop("dispatcher", None)
        app.transport = SimulatedTransport(self.broker, process, self.store.write)
        app.store = Door(self.store, process, self.history)
        app.clock = self.clock
        app.declared_schedules = {}
        app.settings = app.settings.model_copy(update={"recovery_grace": _GRACE})
        app.activities = {name: process.observed(one) for name, one in app.activities.items()}
        return app

    async def _supervise(self, slot: int) -> None:
        """Keep one worker running: one that died is started again."""
        for life in count(1):
            process = Process(self, f"worker-{slot}.{life}", self.faults)
            worker = Worker(self.app_of(process), concurrency=4, shutdown_timeout=0, name=process.name)
            running = grouped(process, worker.run())
            await asyncio.wait([running, process.died], return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not isinstance(running.exception(), TransportError | StoreError):
                running.result()
            await asyncio.sleep(_RESTART)

    async def _serve(self) -> None:
        supervisors = [asyncio.create_task(self._supervise(slot + 1)) for slot in range(self.scene.workers)]
        quiet_since, known = self.loop.time(), 0
        while self.loop.time() < self.scene.limit and not self._has_ended():
            await asyncio.sleep(_LOOK)
            for supervisor in supervisors:
                if supervisor.done():
                    supervisor.result()
            due_at = self.broker.next_due()
            if len(self.history.facts) > known or (due_at is not None and due_at <= self.clock.now()):
                quiet_since, known = self.loop.time(), len(self.history.facts)
            elif self.loop.time() - quiet_since > self._patience():
                if not self._skip():
                    break
                quiet_since = self.loop.time()
        waiting = tuple(sorted({workflow for workflow, _ in self.store.held_until.values()}))
        self.history.add(Stopped(waiting=waiting, left=self.broker.left()))

    def _has_ended(self) -> bool:
        return not self.store.running and not self.broker.left()

    def _patience(self) -> float:
        waiting = {workflow for workflow, _ in self.store.held_until.values()}
        return _PATIENCE if self.store.running <= waiting or self.broker.left() else _LONGEST_PATIENCE

    def _skip(self) -> bool:
        """When nothing goes on but the time: let it pass at once. False when nothing will ever be due."""
        times = [due_at for _, due_at in self.store.held_until.values()]
        times += [self.broker.next_due(), self.store.next_turn]
        due_at = min([time for time in times if time is not None], default=None)
        if due_at is None:
            return False
        self.clock.skip(max(0.0, due_at - self.clock.now()))
        self.broker.wake()
        return True

    def crash(self, process: Process) -> None:
        process.died.set_result(None)
        self.broker.holder_died(process.name)
        self.loop.kill(process)


class Process:
    """A process in which an App lives, and what happens to it: nothing, without ``faults``."""

    def __init__(self, world: World, name: str, faults: Faults | None) -> None:
        self.name = name
        self.died: asyncio.Future[None] = world.loop.create_future()
        self._world = world
        self._faults = faults

    @property
    def reaches_store(self) -> bool:
        return self._faults is None or self._world.loop.time() >= self._world.store_back_at

    async def act(self, point: Point | None, effect: Callable[[], Any], activity: str | None = None) -> Any:
        """See :class:`~paigeant.testing.broker.Doer`."""
        await self._live()
        await asyncio.sleep(self._world.dice.uniform(0.0, self._world.scene.latency))
        await self._meet(point, activity, after=False)
        value = effect()
        if isawaitable(value):
            value = await value
        await self._meet(point, activity, after=True)
        return value

    async def _live(self) -> None:
        if self._world.is_over:
            raise asyncio.CancelledError
        if self.died.done():
            await self._world.loop.create_future()

    async def _meet(self, point: Point | None, activity: str | None, after: bool) -> None:
        try:
            seconds = self.strike(point, activity, after) if point is not None else 0.0
        except _Crashed:
            seconds = 0.0
        if seconds:
            await asyncio.sleep(seconds)
        await self._live()

    def strike(self, point: Point, activity: str | None, after: bool) -> float:
        """Let come true what is planned to happen here; how many seconds the process stands still."""
        world, seconds = self._world, 0.0
        for fault in self._faults.strike(point, activity, after) if self._faults is not None else ():
            world.history.add(Struck(worker=self.name, what=repr(fault)))
            match fault.kind:
                case "crash":
                    world.crash(self)
                    raise _Crashed
                case "lose":
                    raise ConnectionLost
                case "duplicate":
                    world.broker.duplicate_last()
                case "delay":
                    seconds += fault.seconds
                case "expire":
                    world.broker.leases_expire(self.name)
                case "outage":
                    world.store_back_at = world.loop.time() + fault.seconds
        return seconds

    # --- steps ------------------------------------------------------------------------------------------------

    def observed(self, activity: Activity[..., Any]) -> Activity[..., Any]:
        """The activity, with each start of its body noted, and with what goes wrong before and after it."""
        made = copy(activity)
        observe = {
            Kind.ASYNC: self._async,
            Kind.SYNC: self._sync,
            Kind.STREAM: self._stream,
            Kind.GENERATOR: self._generator,
        }[activity.kind]
        made.function = functools.wraps(activity.function)(observe(activity.function, activity.name))
        if activity.compensation is not None:
            made.compensation = self.observed(activity.compensation)
        return made

    def _started(self) -> None:
        context = ActivityContext.current()
        self._world.history.add(
            Started(
                message=context.message.id,
                workflow=context.correlation_id,
                step=step_label(context.step.id, context.message.routing_slip.heading),
                worker=self.name,
                lease=context._delivery.token,
                look=last_look.get(),
            )
        )

    def _async(self, function: Callable[..., Any], name: str) -> Callable[..., Awaitable[Any]]:
        async def body(**arguments: Any) -> Any:
            def begun() -> Any:
                self._started()
                return function(**arguments)

            return await self.act("invoke", begun, name)

        return body

    def _sync(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def body(**arguments: Any) -> Any:
            self.strike("invoke", name, after=False)
            self._started()
            value = function(**arguments)
            self.strike("invoke", name, after=True)
            return value

        return body

    def _generator(self, function: Callable[..., Any], name: str) -> Callable[..., Generator[Any, None, Any]]:
        def body(**arguments: Any) -> Generator[Any, None, Any]:
            self.strike("invoke", name, after=False)
            self._started()
            value = yield from function(**arguments)
            self.strike("invoke", name, after=True)
            return value

        return body

    def _stream(self, function: Callable[..., Any], name: str) -> Callable[..., AsyncIterator[Any]]:
        async def body(**arguments: Any) -> AsyncIterator[Any]:
            await self.act("invoke", self._started, name)
            async for value in function(**arguments):
                yield value

        return body
