"""``simulate`` and ``run``: run a workflow in virtual time, with injected faults or without faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

from typing_extensions import Unpack

from paigeant.app import App
from paigeant.dispatch.catalog import MYPY, D, Step, Steps
from paigeant.testing.broker import TIERS, Tier
from paigeant.testing.checker import broken_promises
from paigeant.testing.faults import KINDS, Fault, FaultPlan, Point
from paigeant.testing.history import Fact, WorkflowOver
from paigeant.testing.virtual import START
from paigeant.testing.world import Scene, WorkflowRun, play
from paigeant.wire.slip import RoutingSlip

if TYPE_CHECKING:
    from paigeant.dispatch.catalog import Last

T = TypeVar("T")

Signals = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Signals to send right after the dispatch: names and values, or pairs if several signals have the same name."""

_SHOWN = 60


class SimulationFailed(AssertionError):
    """A promise was broken. The text names the promise and the plan that reproduces the failure."""

    def __init__(self, run: WorkflowRun, problems: Sequence[str]) -> None:
        self.run = run
        self.problems = tuple(problems)
        told = [*problems, f"replay: simulate(..., tiers=[{run.tier!r}], plans=[{run.plan!r}])"]
        facts = [f"  {fact!r}" for fact in run.history[-_SHOWN:]]
        super().__init__("\n".join([*told, f"the last {len(facts)} facts:", *facts]))


@dataclass(frozen=True, slots=True)
class Report:
    """The runs of a simulation, all of which kept the promises."""

    runs: tuple[WorkflowRun, ...] = field(repr=False)

    def __iter__(self) -> Iterator[WorkflowRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def outputs(self) -> list[Any]:
        """The output of each run."""
        return [run.output for run in self.runs]


class RunOptions(TypedDict, total=False):
    """The options of ``run(app, ...)`` beside the steps; :func:`run` explains each."""

    variables: Mapping[str, Any] | None
    signals: Signals
    start: datetime | None
    limit: float


@overload
def run(app: App, *steps: *tuple[*tuple[Steps, ...], Last[D]], **options: Unpack[RunOptions]) -> WorkflowRun[D]: ...
@overload
def run(app: App, steps: Iterable[Step], /, **options: Unpack[RunOptions]) -> WorkflowRun[Any]: ...


if not MYPY:  # as for App.dispatch

    @overload
    def run(app: App, *steps: Steps, **options: Unpack[RunOptions]) -> WorkflowRun[Any]: ...


def run(  # type: ignore[misc]
    app: App,
    *steps: Steps,
    variables: Mapping[str, Any] | None = None,
    signals: Signals = (),
    start: datetime | None = None,
    limit: float = 3600.0,
) -> WorkflowRun[Any]:
    """Run a workflow in this process on a virtual clock that begins at ``start``: a sleep of days takes no time.

    The real worker runs it, with a broker and a store in memory, whatever the App uses. The run ends when the workflow
    has ended, when it waits for a signal that is not in ``signals``, or after ``limit`` seconds of activity.
    """
    scene = Scene(
        app,
        steps,
        variables or {},
        _pairs(signals),
        workers=1,
        start=start.timestamp() if start else START,
        limit=limit,
        latency=0.0,
    )
    return _aside(lambda: play(scene, "atomic", FaultPlan()))


def simulate(
    app: App,
    *steps: Step | RoutingSlip | Iterable[Step],
    variables: Mapping[str, Any] | None = None,
    signals: Signals = (),
    crash_at: Literal["every_point"] | Point | None = None,
    duplicate: Literal["every_delivery"] | None = None,
    plans: Iterable[FaultPlan] = (),
    random: int = 0,
    tiers: Iterable[Tier] = tuple(TIERS),
    workers: int = 2,
    limit: float = 600.0,
    before_each: Callable[[], object] | None = None,
    check: Callable[[WorkflowRun], object] | None = None,
) -> Report:
    """Run a workflow many times on each kind of broker, with a different fault in each run.

    ``crash_at``: a worker dies before and after each act of the protocol, or each act of one kind. ``duplicate``:
    every message is delivered twice, in every run. ``plans`` are fault plans of your choice; ``random`` is a number of
    plans chosen by their seeds. ``before_each`` is called before each run, ``check`` with the result of each run. A
    run that is active for ``limit`` seconds, sleeps not counted, counts as a run that never ends.

    Raises:
        SimulationFailed: a run broke a promise or ended differently than without faults; the text has the plan that
            replays it.
    """
    scene = Scene(app, steps, variables or {}, _pairs(signals), workers=workers, limit=limit)
    attempt = _Attempt(scene, before_each, check)

    def all_runs() -> Report:
        chosen = [*plans, *(FaultPlan.drawn(seed) for seed in range(random))]
        runs: list[WorkflowRun] = []
        with _quiet():
            for tier in tiers:
                first = attempt.make(tier, FaultPlan(), None)
                wanted = [*(_crashes(first, crash_at) if crash_at else [FaultPlan()] if duplicate else []), *chosen]
                if duplicate:
                    wanted = [_doubled(plan) for plan in wanted]
                runs += [first, *(attempt.make(tier, plan, first) for plan in wanted)]
        return Report(tuple(runs))

    return _aside(all_runs)


@dataclass(frozen=True, slots=True)
class _Attempt:
    scene: Scene
    before_each: Callable[[], object] | None
    check: Callable[[WorkflowRun], object] | None

    def make(self, tier: Tier, plan: FaultPlan, first: WorkflowRun | None) -> WorkflowRun:
        """Run once, check the promises, and check that the run ends like the ``first`` one, which had no faults."""
        if self.before_each is not None:
            self.before_each()
        run = play(self.scene, tier, plan)
        limit = self.scene.app.settings.max_deliveries
        expected = _ends(first.history) if first is not None else {}
        problems = broken_promises(run.history, limit, expected)
        if problems:
            raise SimulationFailed(run, problems)
        if self.check is not None:
            try:
                self.check(run)
            except AssertionError as error:
                raise SimulationFailed(run, [f"check: {error}"]) from error
        return run


def _ends(history: Sequence[Fact]) -> dict[str, str]:
    return {fact.workflow: fact.how for fact in history if isinstance(fact, WorkflowOver)}


def _crashes(first: WorkflowRun, at: Literal["every_point"] | Point) -> list[FaultPlan]:
    """Return plans for a crash before and after each act of the run without faults."""
    reached = {point: first.reached.get(point, 0) for point in KINDS if at in ("every_point", point)}
    return [
        FaultPlan(0, (Fault("crash", point, nth, after),))
        for point, times in reached.items()
        for nth in range(1, times + 1)
        for after in (False, True)
    ]


def _doubled(plan: FaultPlan) -> FaultPlan:
    return replace(plan, faults=(*plan.faults, Fault("duplicate", "claim", nth=None)))


def _pairs(signals: Signals) -> tuple[tuple[str, Any], ...]:
    return tuple(signals.items() if isinstance(signals, Mapping) else signals)


def _aside(call: Callable[[], T]) -> T:
    """Call the function; under a running loop, in another thread, because a simulation needs its own loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass  # so that an error of the call has no misleading context
    else:
        with ThreadPoolExecutor(1) as beside:
            return beside.submit(call).result()
    return call()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the workers' logs, because hundreds of runs with injected faults would fill them."""
    logger = logging.getLogger("paigeant")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
