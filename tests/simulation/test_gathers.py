"""A gather fires once, with one value, whatever becomes of the messages of its branches (G7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant import ActivityContext, App, RetryPolicy, quorum, scatter, sleep
from paigeant.testing import Fault, FaultPlan, simulate
from paigeant.testing.broker import TIERS
from paigeant.testing.checker import broken_promises
from paigeant.testing.faults import KINDS
from paigeant.testing.world import Scene, WorkflowRun, play
from paigeant.wire.join import Join, Policy

GATHER = "paigeant.scatter"
RARE = ("note", "send", "take")
POINTS = ("claim", "look", "invoke", "record", "settle", "publish", "ack", "note", "send", "take")


pytestmark = pytest.mark.usefixtures("quietly")


@dataclass(frozen=True)
class Case:
    """Branches that give their number or fail, at once or after a while, and a policy that they come together under."""

    branches: tuple[str, ...]
    policy: Policy
    plan: FaultPlan

    @property
    def join(self) -> Join:
        return Join.of(len(self.branches), self.policy)

    @property
    def steps(self) -> tuple[Any, ...]:
        return (scatter(*(_branch(kind, n) for n, kind in enumerate(self.branches)), policy=self.policy), "last")

    @property
    def is_reached(self) -> bool:
        return self.join.is_reached(sum(kind != "fails" for kind in self.branches))


def _branch(kind: str, number: int) -> Any:
    step = _app().activities["fail" if kind == "fails" else "give"].step(number=number)
    return [sleep(5 + number % 2), step] if kind == "waits" else step


def _app() -> App:
    app = App("gathering")

    @app.activity
    async def give(number: int) -> int:
        return number

    @app.activity
    async def fail(number: int) -> int:
        raise ValueError(number)

    @app.activity
    async def last(results: list[Any]) -> list[Any]:
        return results

    return app


@st.composite
def cases(draw: st.DrawFn) -> Case:
    branches = tuple(draw(st.lists(st.sampled_from(["gives", "gives", "waits", "fails"]), min_size=1, max_size=5)))
    policies = st.sampled_from(["all", "settled", "any"]) | st.integers(1, len(branches)).map(quorum)
    return Case(branches, draw(policies), draw(plans()))


@st.composite
def plans(draw: st.DrawFn) -> FaultPlan:
    """Late enough to strike the branches and the join; every message may come twice besides."""

    def at(point: Any) -> st.SearchStrategy[Fault]:
        return st.builds(
            Fault,
            kind=st.sampled_from(KINDS[point]),
            point=st.just(point),
            nth=st.integers(1, 3 if point in RARE else 20),
            after=st.booleans(),
            seconds=st.sampled_from([0.1, 2.0, 20.0]),
        )

    faults = draw(st.lists(st.sampled_from(POINTS).flatmap(at), min_size=1, max_size=4))
    if draw(st.booleans()):
        faults.append(Fault("duplicate", "claim", nth=None))
    return FaultPlan(draw(st.integers(0, 10**6)), tuple(faults))


def assert_fired_once(case: Case, run: WorkflowRun) -> None:
    """The step that gathers went on once and ended once; and what it gave is what its branches say."""
    [gathered] = [one for one in run.record.steps if one.activity == GATHER and one.status != "parked"]
    assert [event.data["key"] for event in run.events if event.type == "step_parked"] == [event_key(run)]
    after = [one for one in run.record.steps if one.activity == "last" and one.status == "completed"]
    if not case.is_reached:
        assert (run.status, gathered.status, after) == ("failed", "failed", [])
        return
    assert (run.status, gathered.status, len(after)) == ("completed", "completed", 1)
    results = gathered.output
    assert run.output == results == after[0].output
    assert len(results) == len(case.branches)
    completed = [n for n, one in enumerate(results) if "status" not in one]
    assert [results[n]["output"] for n in completed] == completed
    assert not {n for n in completed if case.branches[n] == "fails"}
    if case.join.needed is None or case.join.needed == len(case.branches):
        assert completed == [n for n, kind in enumerate(case.branches) if kind != "fails"]
    else:
        assert len(completed) >= case.join.needed


def event_key(run: WorkflowRun) -> str:
    return next(event.data["key"] for event in run.events if event.type == "step_parked")


def gather(case: Case, tier: Any) -> WorkflowRun:
    app = _app()
    run = play(Scene(app, case.steps, workers=2, limit=600.0), tier, case.plan)
    assert broken_promises(run.history, app.settings.max_deliveries) == []
    assert_fired_once(case, run)
    return run


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(case=cases(), tier=st.sampled_from(list(TIERS)))
def test_it_fires_once_whatever_happens_to_its_branches(case: Case, tier: Any) -> None:
    """Their messages come in any order, twice, late, and again after a crash of their worker."""
    gather(case, tier)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("policy", ["all", 2])
def test_it_fires_once_when_workers_die_around_the_last_branch(tier: Any, policy: Policy) -> None:
    """Before and after each of the last acts: the end that decides, and the sending on of what waited for it."""
    branches = ("gives", "waits", "gives")
    reached = gather(Case(branches, policy, FaultPlan()), tier).reached
    for point in ("record", "settle", "ack", "send", "take"):
        for nth in range(max(1, reached.get(point, 0) - 2), reached.get(point, 0) + 1):
            for after in (False, True):
                gather(Case(branches, policy, FaultPlan(0, (Fault("crash", point, nth, after),))), tier)


def test_tried_again_a_branch_goes_on_whoever_dies() -> None:
    """From the step that failed: the one before it does not run again, which would give something else."""
    app = App("again", broker="memory://")

    def is_first_try(ctx: ActivityContext) -> bool:
        assert ctx.message.branch is not None
        return ctx.message.branch.join == "join:1:0:0"

    @app.activity
    def first(ctx: ActivityContext) -> int:
        return 1 if is_first_try(ctx) else 100

    @app.activity
    def second(value: int, ctx: ActivityContext) -> int:
        if is_first_try(ctx):
            raise ConnectionError("no")
        return value + 1

    steps = scatter([first, second]).options(retry=RetryPolicy(attempts=2, delay=0))
    plans = [
        FaultPlan(0, (Fault("crash", point, nth, after=True),)) for point in ("record", "settle") for nth in (4, 6)
    ]
    report = simulate(app, steps, plans=plans)
    assert {tuple(one.output for one in output) for output in report.outputs} == {(2,)}
