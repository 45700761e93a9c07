"""Two Apps on one store, each with a broker of its own: an operator may use either for the workflows of both."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant import App
from paigeant.records.workflow import Owner, elsewhere
from paigeant.testing.broker import TIERS
from paigeant.testing.checker import broken_promises
from paigeant.testing.faults import FaultPlan
from paigeant.testing.history import Dispatched, Published, Started
from paigeant.testing.operators import Act
from paigeant.testing.witnesses import RequestRejected
from paigeant.testing.world import Scene, WorkflowRun, play

HERE, THERE = Owner("shop", "b1"), Owner("bank", "b2")


pytestmark = pytest.mark.usefixtures("quietly")


def acted(tier: Any, *acts: Act) -> WorkflowRun:
    """A workflow of the first App whose second step fails, and what operators do with the App beside it."""
    first, second = App("shop"), App("bank")

    @first.activity
    async def order() -> int:
        return 1

    @first.activity
    async def refuse() -> None:
        raise ValueError("no")

    @second.activity
    async def other() -> None:
        pass

    scene = Scene(first, [order, refuse], acts=acts, beside=second, is_attended=True, limit=120)
    run = play(scene, tier, FaultPlan())
    assert broken_promises(run.history, first.settings.max_deliveries) == []
    return run


@pytest.mark.parametrize("wish", ["retry", "redrive"])
@pytest.mark.parametrize("tier", TIERS)
def test_a_failed_step_is_tried_again_on_the_broker_of_its_app(tier, wish):
    """It was published to the broker of the App that the operator used, where nobody serves its queue."""
    run = acted(tier, Act(3, wish, is_beside=True))
    assert {fact.broker for fact in run.history if isinstance(fact, Published)} == {"shop"}
    assert sum(isinstance(fact, Started) and fact.step == "2" for fact in run.history) == 2


@pytest.mark.parametrize("tier", TIERS)
def test_a_fork_is_refused_by_an_app_on_another_broker(tier):
    """Nobody there would serve it. The App itself forks it."""
    forks = Act(3, "fork", is_beside=True, name="refuse"), Act(4, "fork", name="refuse")
    run = acted(tier, *forks)
    [refused] = [fact for fact in run.history if isinstance(fact, RequestRejected)]
    assert "queue shop.refuse is on another broker" in refused.why
    assert [fact.workflow for fact in run.history if isinstance(fact, Dispatched)] == [
        "workflow-1",
        "workflow-1-fork-4",
    ]


@pytest.mark.parametrize(
    ("queue", "mine", "known", "expected"),
    [
        ("bank.pay", HERE, [HERE, THERE], THERE),
        ("shop.pay", HERE, [HERE, THERE], None),
        ("bank.pay", HERE, [THERE, Owner("bank", "b1")], None),
        ("shop.pay", HERE, [Owner("shop", "b3"), Owner("shop", "b2")], Owner("shop", "b3")),
        ("other.pay", HERE, [HERE, THERE], None),
        ("banker.pay", HERE, [THERE], None),
        ("bank.pay", None, [THERE], None),
        ("bank.pay", HERE, [], None),
    ],
)
def test_a_queue_is_elsewhere_if_all_its_workers_are(queue, mine, known, expected):
    """Workers say which broker they use; of a queue that none has announced, nothing is known."""
    assert elsewhere(queue, mine, known) == expected
