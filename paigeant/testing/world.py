"""One run of a workflow in a simulated world: real workers on a simulated broker, with the faults of a plan."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Generic, cast

from paigeant.app import App
from paigeant.errors import StoreError, TransportError, WorkflowError
from paigeant.records.workflow import EventRecord, WorkflowRecord
from paigeant.testing.broker import SimulatedBroker, SimulatedTransport, Tier
from paigeant.testing.faults import FaultPlan, Faults, Point
from paigeant.testing.history import Fact, History, Stopped
from paigeant.testing.ledger import current_history
from paigeant.testing.operators import Act, Operators
from paigeant.testing.process import Process, SimulatedWorker
from paigeant.testing.stores import Door, SimulatedStore, simulated_store
from paigeant.testing.virtual import START, VirtualClock, VirtualLoop, grouped, run_virtually
from paigeant.wire.message import PaigeantMessage
from paigeant.worker.company import Company
from paigeant.workflow.results import Result

_LOOK = 0.25
_RESTART = 1.0
"""Seconds until a dead worker is restarted."""

_GRACE = 15.0
_PATIENCE = 10.0
"""Seconds without a message on the broker after which the run counts as idle. Workers take over after 5 seconds."""

_LONGEST_PATIENCE = 3 * _GRACE
"""The same while a workflow is active: workers republish lost messages after the recovery grace."""

_LAST_ORDERS = 60.0
"""Seconds that a worker has to finish its steps when a deployment stops it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One more workflow of a scene, dispatched after ``at`` seconds. ``is_beside``: by the App beside the first one."""

    steps: Sequence[Any]
    at: float = 0.0
    variables: Mapping[str, Any] = field(default_factory=dict)
    is_beside: bool = False


@dataclass(frozen=True, slots=True)
class Deploy:
    """From ``at`` seconds on the workers of the first App are stopped one by one, and start again with this code."""

    at: float
    app: App


@dataclass(frozen=True, slots=True)
class Scene:
    """The script of a run: a workflow's steps, its inputs and its surroundings. Times are seconds.

    The workflow has the id ``workflow-1``; the ``jobs`` have the following numbers. ``acts`` are the operators'
    actions. ``beside`` is another App on the same store, with its own broker and worker. In an ``attended`` scene
    somebody answers each wait for an answer, a signal or an operator when the run is idle, so each workflow must end.
    """

    app: App
    steps: Sequence[Any]
    variables: Mapping[str, Any] = field(default_factory=dict)
    signals: Sequence[tuple[str, Any]] = ()
    workers: int = 2
    start: float = START
    limit: float = 3600.0
    latency: float = 0.02
    jobs: Sequence[Job] = ()
    acts: Sequence[Act] = ()
    beside: App | None = None
    deploys: Sequence[Deploy] = ()
    is_attended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun(Generic[Result]):
    """The result of running a workflow.

    ``status`` is the status of its record, or ``waiting`` if it waits for an event that never happens. ``output`` has
    the type that the last activity declares. ``messages`` are the messages that the broker accepted, in order;
    ``seconds`` is the run's duration in virtual time.
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

    def result(self) -> Result:
        """The output.

        Raises:
            WorkflowError: the workflow failed, or was cancelled.
        """
        if self.failure is not None:
            raise self.failure
        return cast(Result, self.output)

    def outputs(self) -> dict[str, Any]:
        """The latest output of each activity's completed steps, as JSON types, by the activity's name."""
        return {step.activity: step.output for step in self.record.steps if step.status == "completed"}


def play(scene: Scene, tier: Tier, plan: FaultPlan) -> WorkflowRun:
    """Run the workflow until it has ended or the run is idle. The plan's seed also seeds the module ``random``."""
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


class World:
    """The workers, brokers, store and operators of one run."""

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
        self.codes = [scene.app] if scene.beside is None else [scene.app, _apart(scene.app, scene.beside)]
        self.brokers = [
            SimulatedBroker(kind, self.clock, self.history, self.dice, name=code.prefix, number=number)
            for number, (kind, code) in enumerate(zip(_tiers(tier), self.codes, strict=False))
        ]
        self.operators = Operators(self)
        self.processes: dict[int, list[Process]] = {which: [] for which in range(len(self.codes))}
        self.store_back_at = 0.0
        self.is_over = False

    @property
    def broker(self) -> SimulatedBroker:
        """The broker of the first App."""
        return self.brokers[0]

    async def run(self) -> WorkflowRun:
        scene = self.scene
        current_history.set(self.history)
        await self.store.connect()
        self.clients = [self.app_of(Process(self, "client", None, broker), n) for n, broker in enumerate(self.brokers)]
        workflow = await self.clients[0].dispatch(*scene.steps, variables=scene.variables, id="workflow-1")
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
            messages=[message for broker in self.brokers for message in broker.messages],
            seconds=self.clock.now() - scene.start,
            history=self.history.facts,
            reached=self.faults.reached,
        )

    # --- workers ----------------------------------------------------------------------------------------------

    def app_of(self, process: Process, which: int = 0) -> App:
        """Return a process's copy of the App: the same activities, its own connections, no active schedules."""
        app = copy(self.codes[which])
        app.__dict__.pop("dispatcher", None)
        app.transport = SimulatedTransport(process.broker, process, self.store.write)
        door = Door(self.store, process, self.history)
        door.owner = app.owner
        app.store = door
        app.clock = self.clock
        app.observers = [*app.observers, process.observe]
        app.declared_schedules = {}
        app.settings = app.settings.model_copy(update={"recovery_grace": _GRACE})
        app.activities = {name: process.observed(one) for name, one in app.activities.items()}
        return app

    async def _supervise(self, slot: int, which: int = 0) -> None:
        """Keep one worker running: restart it after a death or a stop, with the code of that time."""
        name = f"worker-{slot}" if which == 0 else f"worker-{slot}-beside"
        for life in count(1):
            process = Process(self, f"{name}.{life}", self.faults, self.brokers[which])
            self.processes[which].append(process)
            app, company = self.app_of(process, which), Company()
            worker = SimulatedWorker(app, concurrency=4, shutdown_timeout=0, name=process.name, company=company)
            worker.code = self.codes[which]
            running = grouped(process, worker.run())
            await asyncio.wait([running, process.died, process.retired], return_when=asyncio.FIRST_COMPLETED)
            if process.retired.done() and not process.died.done():
                worker.shutdown_timeout = _LAST_ORDERS
                worker.stop()
                await asyncio.wait([running, process.died], return_when=asyncio.FIRST_COMPLETED)
            self.processes[which].remove(process)
            if running.done() and not isinstance(running.exception(), TransportError | StoreError):
                running.result()
            await asyncio.sleep(_RESTART)

    async def _serve(self) -> None:
        tasks = [asyncio.create_task(self._supervise(slot + 1)) for slot in range(self.scene.workers)]
        if self.scene.beside is not None:
            tasks.append(asyncio.create_task(self._supervise(1, 1)))
        script = asyncio.create_task(self._script())
        quiet_since, known, is_at_rest = self.loop.time(), 0, False
        while self.loop.time() < self.scene.limit and not (script.done() and self._has_ended()):
            await asyncio.sleep(_LOOK)
            for task in [*tasks, script]:
                if task.done():
                    task.result()
            due_at = self._next_due()
            is_away = self.loop.time() < self.store_back_at
            if is_away or len(self.history.facts) > known or (due_at is not None and due_at <= self.clock.now()):
                quiet_since, known = self.loop.time(), len(self.history.facts)
            elif script.done() and self.scene.is_attended and self._all_wait() and await self.operators.attend():
                quiet_since = self.loop.time()
            elif script.done() and self.loop.time() - quiet_since > self._patience():
                if not self._skip():
                    is_at_rest = True
                    break
                quiet_since = self.loop.time()
        await self.operators.look_back(is_at_rest=is_at_rest or self._has_ended())
        waiting = () if self.scene.is_attended else tuple(sorted(self._waiting()))
        self.history.add(Stopped(waiting=waiting, left=tuple(one for broker in self.brokers for one in broker.left())))

    async def _script(self) -> None:
        """Run everything in the scene that has a scheduled time."""
        dispatches = [self._dispatch(f"workflow-{n + 2}", job) for n, job in enumerate(self.scene.jobs)]
        deploys = [self._deploy(one) for one in self.scene.deploys]
        await asyncio.gather(*dispatches, *deploys, *(self.operators.do(act) for act in self.scene.acts))

    async def _dispatch(self, workflow: str, job: Job) -> None:
        await asyncio.sleep(job.at)
        client = self.clients[1 if job.is_beside else 0]
        await client.dispatch(*job.steps, variables=job.variables, id=workflow)

    async def _deploy(self, deploy: Deploy) -> None:
        await asyncio.sleep(deploy.at)
        self.codes[0] = deploy.app
        for process in list(self.processes[0]):
            if not process.retired.done():
                process.retired.set_result(None)
            await asyncio.sleep(_RESTART)

    def _has_ended(self) -> bool:
        return not self.store.running and not self._left()

    def _left(self) -> bool:
        return any(broker.left() for broker in self.brokers)

    def _waiting(self) -> set[str]:
        return {workflow for workflow, _ in self.store.parked_until.values()}

    def _all_wait(self) -> bool:
        """Return whether each active workflow has a parked message and no message on a broker."""
        return self.store.running <= self._waiting() and not self._left()

    def _patience(self) -> float:
        return _PATIENCE if self.store.running <= self._waiting() or self._left() else _LONGEST_PATIENCE

    def _next_due(self) -> float | None:
        times = [time for broker in self.brokers if (time := broker.next_due()) is not None]
        return min(times, default=None)

    def _skip(self) -> bool:
        """Skip the time until the next message is due, if the run is idle. False if no message will ever be due."""
        times = [due_at for _, due_at in self.store.parked_until.values()]
        times += [self._next_due(), self.store.next_start]
        due_at = min([time for time in times if time is not None], default=None)
        if due_at is None:
            return False
        self.clock.skip(max(0.0, due_at - self.clock.now()))
        for broker in self.brokers:
            broker.wake()
        return True

    def crash(self, process: Process) -> None:
        process.died.set_result(None)
        process.broker.holder_died(process.name)
        self.loop.kill(process)


def _tiers(tier: Tier) -> tuple[Tier, Tier]:
    """Return the tiers of both Apps' brokers. Only one broker can be in the store's database."""
    return tier, "fenced" if tier == "atomic" else tier


def _apart(app: App, beside: App) -> App:
    """Return the second App with its own broker. Its prefix must differ from the first App's prefix."""
    made = copy(beside)
    url = f"redis://{beside.prefix}.invalid/0"
    made.settings = beside.settings.model_copy(update={"broker_url": url, "store_url": app.settings.store_url})
    return made
