"""How many overdue messages are sent again at once, and what a worker says that it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from paigeant.records.workflow import SAID_WITHIN
from paigeant.runner.holding import Holding, late_after, period_of, to_report
from paigeant.transport import Delivery
from paigeant.worker.recovery import FEW, MOST, allowance

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("overdue", "depth", "sent"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 1),  # what waits may be delayed, and not the one that is overdue
        (3, 10**6, 3),
        (100, 100, FEW),  # all of them may wait
        (100, 60, 40),  # so many do not wait
        (100, 99, FEW),
        (10_000, 0, MOST),
        (10_000, 9_900, 100),
    ],
)
def test_as_many_are_sent_again_as_surely_do_not_wait_and_a_few_more(overdue, depth, sent):
    """Bounded, so that a long queue is not flooded with copies."""
    assert allowance(overdue, depth) == sent


@pytest.mark.parametrize("grace", [1.0, 2.0, 5.0, 60.0, 3600.0])
def test_what_is_held_is_said_before_it_counts_as_lost(grace):
    """A message that is taken before it is late is reported within two periods; one that is late is claimed."""
    assert late_after(grace) + 2 * period_of(grace) <= grace
    assert 2 * period_of(grace) <= SAID_WITHIN


def test_only_what_was_there_at_the_report_before_is_said():
    """Short steps cost no report."""
    assert to_report({"old": 1.0, "new": 4.5}, now=6.0, period=5.0) == {"old"}


class FakeStore:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    async def holds(self, worker_id: str, message_ids: Collection[str]) -> None:
        await asyncio.sleep(0)
        self.told.append(sorted(message_ids))

    async def claim(self, worker_id: str, message_id: str, *, take_over: bool) -> bool:
        return True


async def test_the_store_is_told_when_something_changes():
    """What was claimed is said as well, until it is settled."""
    store, long, late = FakeStore(), delivery(), delivery()
    holding = Holding(store, "w", 60.0)  # type: ignore[arg-type]
    holding.add("long", long)
    await holding.report(frozenset({"long"}))
    await holding.report(frozenset({"long"}))
    holding.add("late", late)
    assert await holding.claim("late", take_over=False)
    await holding.report(frozenset({"long"}))
    holding.remove("late", late)
    await holding.report(frozenset({"long"}))
    holding.remove("long", long)
    await holding.report(frozenset())
    assert store.told == [["long"], ["long"], []]


def test_two_deliveries_of_one_message_are_told_apart():
    """A copy of a message that is here already is dropped."""
    holding = Holding(FakeStore(), "w", 60.0)  # type: ignore[arg-type]
    first, second = delivery(), delivery()
    holding.add("m", first)
    assert not holding.leaves("m", first)
    holding.add("m", second)
    assert holding.leaves("m", second)
    holding.remove("m", second)
    assert not holding.leaves("m", first)


def test_of_several_deliveries_of_a_message_one_stays():
    """Two copies of which each leaves the message to the other would both be gone."""
    holding = Holding(FakeStore(), "w", 60.0)  # type: ignore[arg-type]
    first, second, third = deliveries = [delivery() for _ in range(3)]
    for one in deliveries:
        holding.add("m", one)
    assert [holding.leaves("m", one) for one in deliveries] == [True, True, False]
    holding.remove("m", first)
    holding.remove("m", second)
    assert not holding.leaves("m", third)
    holding.add("m", first)
    assert holding.leaves("m", first)


def test_no_delivery_waits_for_one_that_leaves():
    """The delivery that stayed has ended, and the other one leaves: the next one must stay."""
    holding = Holding(FakeStore(), "w", 60.0)  # type: ignore[arg-type]
    first, second, third = delivery(), delivery(), delivery()
    holding.add("m", first)
    assert not holding.leaves("m", first)
    holding.add("m", second)
    assert holding.leaves("m", second)
    holding.remove("m", first)
    holding.add("m", third)
    assert not holding.leaves("m", third)


def delivery() -> Delivery:
    return Delivery(queue="q", body=b"", tag=1)
