"""The engine in the simulation: nothing that goes wrong breaks a promise."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant import ActivityContext, App, scatter, sleep
from paigeant.errors import ConfigurationError
from paigeant.testing import Fault, FaultPlan, SimulationFailed, fault_plans, simulate
from paigeant.testing.broker import TIERS
from paigeant.testing.history import Started, Struck


def test_a_crash_at_every_point_with_every_delivery_doubled(app, steps):
    """Two steps, on each kind of broker: every run ends as the one without faults."""
    report = simulate(
        app, steps["double"].step(x=3), steps["increase"], crash_at="every_point", duplicate="every_delivery"
    )
    assert set(report.outputs) == {7}
    assert len(report) > 60
    assert {run.tier for run in report} == set(TIERS)


@pytest.mark.parametrize("point", ["take", "note", "send"])
def test_a_crash_while_what_waits_goes_on(app, steps, point):
    """For time, a child and a signal; what was taken from the store by a worker that died is sent by another."""
    both = steps["family"].step(x=2), steps["second_try"]
    report = simulate(app, *both, signals={"more": 5}, crash_at=point, tiers=["fenced"])
    assert set(report.outputs) == {9}
    assert len(report) > 6


def test_a_crash_while_steps_are_taken_back(app, steps):
    """Every step is taken back all the same."""
    for run in simulate(app, steps["reserve"].step(x=1), steps["reserve"], steps["refuse"], crash_at="settle"):
        assert run.status == "compensated"
        assert [one.status for one in run.record.steps if one.heading == "back"] == ["compensated"] * 2


def test_a_crash_while_branches_come_together(app, steps):
    """They are counted once."""
    branches = scatter(steps["double"], steps["increase"])
    for run in simulate(app, steps["double"].step(x=1), branches, crash_at="record", tiers=["at_least_once"]):
        assert [branch.output for branch in run.output] == [4, 3]


@pytest.mark.parametrize("point", ["claim", "record", "settle"])
def test_a_crash_around_values_that_do_not_travel(app, point):
    """They are kept before the message is seen, and are there for whoever runs the step again."""

    @app.activity
    async def measure(text: str, more: str = "") -> int:
        return len(text) + len(more)

    @app.activity
    async def add(length: int, more: str, ctx: ActivityContext) -> int:
        ctx.variables["more"] = more + "!"
        return length + len(more)

    def is_small(run):
        assert all(len(message.to_json()) < 65_536 for message in run.messages)

    given_steps = measure.step(text="x" * 100_000), add, add
    report = simulate(app, *given_steps, variables={"more": "y" * 70_000}, crash_at=point, check=is_small)
    assert set(report.outputs) == {100_000 + 70_000 + 70_000 + 70_001}
    assert len(report) > 10


def test_plans_by_seed(app, steps):
    """Whatever a seed chooses."""
    given_steps = (steps["double"].step(x=2), sleep(3600), steps["second_try"], steps["count"], steps["total"])
    report = simulate(app, *given_steps, random=8)
    assert set(report.outputs) == {6}
    assert any(isinstance(fact, Struck) for run in report for fact in run.history)


def _app() -> App:
    app = App("drawn")

    @app.activity
    async def first() -> int:
        return 1

    @app.activity
    def second(x: int) -> int:
        return x + 1

    return app


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(plan=fault_plans(), tier=st.sampled_from(list(TIERS)))
def test_plans_by_hypothesis(plan: FaultPlan, tier) -> None:
    """A plan that fails is made as small as it can be."""
    app = _app()
    assert set(simulate(app, "first", "second", plans=[plan], tiers=[tier]).outputs) == {2}


def test_a_step_that_kills_its_worker_is_set_aside(app, steps):
    """After as many deliveries as are allowed; that it fails then is no broken promise, and is seen."""
    poison = FaultPlan(faults=(Fault("crash", "invoke", nth=None, of="increase"),))
    for run in list(simulate(app, steps["double"].step(x=3), steps["increase"], plans=[poison]))[1::2]:
        assert (run.status, run.failure and "Poisoned" in str(run.failure)) == ("failed", True)
        started = [fact for fact in run.history if isinstance(fact, Started) and fact.step == "2"]
        assert len(started) == 0
        assert sum(isinstance(fact, Struck) for fact in run.history) == app.settings.max_deliveries


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("seed", range(3))
def test_crashes_before_a_body_begins_set_nothing_aside(app, steps, tier, seed):
    """However often its workers die with the message in hand: it is no evidence against it."""
    dice = random.Random(seed)
    crashes = FaultPlan(
        seed, tuple(Fault("crash", "claim", nth=nth, after=True) for nth in range(1, 20) if dice.random() < 0.6)
    )
    report = simulate(app, steps["double"].step(x=3), steps["increase"], plans=[crashes], tiers=[tier], limit=5000)
    assert set(report.outputs) == {7}


@pytest.mark.parametrize("tier", TIERS)
def test_lost_leases_set_nothing_aside(app, steps, tier):
    """The broker takes the message back seven times while its body runs, and the process lives."""
    losses = FaultPlan(
        faults=tuple(Fault("expire", "invoke", nth=nth, of="increase", after=True) for nth in range(1, 8))
    )
    report = simulate(app, steps["double"].step(x=3), steps["increase"], plans=[losses], tiers=[tier], limit=5000)
    assert set(report.outputs) == {7}


def test_what_a_worker_puts_back_is_not_dropped_as_a_duplicate(app, steps):
    """The copy comes back before its worker has let go of the message that it replaces."""
    plan = FaultPlan(
        1003,
        (
            Fault("delay", "send", after=True, seconds=20.0),
            Fault("lose", "send", nth=2),
            Fault("expire", "look", nth=5, after=True),
            Fault("lose", "claim", nth=6),
        ),
    )
    given_steps = (steps["double"].step(x=2), sleep(3600), steps["second_try"], steps["count"], steps["total"])
    assert set(simulate(app, *given_steps, plans=[plan], tiers=["at_least_once"]).outputs) == {6}


def test_an_outage_can_outlast_the_workflow(app, steps):
    """Whoever asks how it ended is no worker."""
    plan = FaultPlan(faults=(Fault("outage", "look", after=True, seconds=20),))
    report = simulate(app, steps["double"].step(x=3), plans=[plan], tiers=["atomic"])
    assert (set(report.outputs), report.runs[1].seconds < 20) == ({6}, True)


@pytest.mark.parametrize("tier", TIERS)
def test_the_same_plan_is_the_same_history(app, steps, tier):
    """Fact for fact."""
    given_steps = steps["double"].step(x=3), sleep(60), steps["count"]
    first, second = (simulate(app, *given_steps, plans=[FaultPlan.drawn(7)], tiers=[tier]).runs[1] for _ in range(2))
    assert first.history == second.history


_PROGRAM = """
import hashlib
from paigeant import App, ActivityContext
from paigeant.testing import FaultPlan, simulate
app = App("p")
@app.activity
async def child(): return 1
@app.activity
async def parent(ctx: ActivityContext):
    one, two = ctx.dispatch(child), ctx.dispatch(child)
    return ctx.wait_for(one) + ctx.wait_for(two)
runs = simulate(app, parent, child, plans=[FaultPlan.drawn(3), FaultPlan.drawn(4)])
print(hashlib.sha256(repr([run.history for run in runs]).encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_plan_is_the_same_history_in_another_process():
    """Whatever the order of sets is there."""
    said = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_failure_tells_the_plan_that_replays_it(app, steps):
    """As code."""
    plan = FaultPlan(faults=(Fault("crash", "invoke", after=True),))

    def refuse(run):
        assert not any(isinstance(fact, Struck) for fact in run.history), "it crashed"

    with pytest.raises(SimulationFailed, match="check: it crashed") as failure:
        simulate(app, steps["double"].step(x=3), plans=[FaultPlan(), plan], tiers=["fenced"], check=refuse)
    told = next(line for line in str(failure.value).splitlines() if line.startswith("replay: "))
    assert eval(told.partition("plans=")[2].removesuffix(")")) == [plan]


def test_a_fault_that_cannot_be_is_refused():
    """With where it can."""
    with pytest.raises(ConfigurationError, match="no fault 'outage' at 'ack'") as failure:
        Fault("outage", "ack")
    assert "record" in str(failure.value.hint)


def test_a_crash_while_other_steps_take_the_place_of_a_failed_one(app, steps):
    """They run once the step has failed, whichever worker does so; the workflow ends as it does without faults."""
    fails = steps["refuse"].step().options(otherwise=[steps["increase"]])
    report = simulate(app, steps["reserve"].step(x=1), fails, steps["double"], crash_at="every_point")
    assert set(report.outputs) == {4}
    assert {run.tier for run in report} == set(TIERS)
    for run in report:
        assert [one.activity for one in run.record.steps if one.status == "failed"] == ["refuse"]


def test_a_crash_while_what_other_steps_did_is_taken_back(app, steps):
    """The steps in the place of the failed one are taken back like all others."""
    fails = steps["refuse"].step().options(otherwise=[steps["reserve"]])
    for run in simulate(app, steps["reserve"].step(x=1), fails, steps["refuse"], crash_at="settle"):
        assert run.status == "compensated"
        assert [one.status for one in run.record.steps if one.heading == "back"] == ["compensated"] * 2
