"""A join is decided once, with the same value, however the ends of its branches arrive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores.builders import dispatched, workflow_completed, workflow_failed

from paigeant.events import MessageHeld, WorkflowEnded
from paigeant.join import Branch, Join

pytestmark = pytest.mark.anyio

_numbers = count()


@dataclass(frozen=True)
class Case:
    """Branches that complete or fail, and the batches in which their ends are recorded; some more than once."""

    outcomes: list[bool]
    needed: int | None
    batches: list[list[int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    outcomes = draw(st.lists(st.booleans(), min_size=1, max_size=6))
    needed = draw(st.none() | st.integers(1, len(outcomes)))
    arrivals = draw(st.permutations(list(range(len(outcomes))) + draw(st.lists(st.sampled_from(range(len(outcomes)))))))
    cuts = sorted(draw(st.sets(st.integers(1, len(arrivals)), max_size=3)) | {0, len(arrivals)})
    return Case(outcomes, needed, [arrivals[a:b] for a, b in pairwise(cuts)])


def expected(case: Case) -> list[str]:
    """The statuses when the join is decided, by a count of its own: batch after batch."""
    seen: set[int] = set()
    join = Join(len(case.outcomes), case.needed)
    for batch in case.batches:
        seen |= set(batch)
        completed = sum(case.outcomes[place] for place in seen)
        if join.is_decided(completed, len(seen) - completed):
            break
    return [
        ("completed" if case.outcomes[place] else "failed") if place in seen else "cancelled"
        for place in range(len(case.outcomes))
    ]


def held(parent: str, join: Join) -> MessageHeld:
    about = {"step_id": "1", "activity": "paigeant.scatter", "queue": "q", "body": b"{}"}
    return MessageHeld(correlation_id=parent, at=1.0, wait_id=f"{parent}-wait", key="join:1", join=join, **about)


def end(parent: str, place: int, completes: bool) -> WorkflowEnded:
    made = workflow_completed if completes else workflow_failed
    return made(f"{parent}-{place}", parent=parent, branch=Branch(join="join:1", index=place))


@pytest.mark.parametrize("url", ["sqlite in memory"], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(case=cases())
async def test_it_is_decided_once(store, case):
    """In any order, in any batches, with repetitions, and with ends that come after it."""
    parent = f"p{next(_numbers)}"
    branches = [
        dispatched(f"{parent}-{place}", parent=parent, branch=Branch(join="join:1", index=place))
        for place in range(len(case.outcomes))
    ]
    await store.record([dispatched(parent), *branches, held(parent, Join(len(case.outcomes), case.needed))])
    fired = []
    for batch in case.batches:
        await store.record([end(parent, place, case.outcomes[place]) for place in batch])
        fired += await store.match(parent)
    assert len(fired) == 1
    statuses = [one.get("status", "completed") for one in fired[0].value["value"]]
    assert statuses == expected(case)


async def test_a_deadline_takes_what_there_is_and_nothing_comes_later(store):
    """On every database; an end after it changes nothing."""
    branches = [dispatched(f"b{i}", parent="p", branch=Branch(join="join:1", index=i)) for i in range(2)]
    await store.record([dispatched("p"), *branches, replace(held("p", Join(2, 2)), due_at=0.5)])
    await store.record([end("p", 0, completes=True)])
    due, _ = await store.take_due()
    assert [one.get("status") for one in due[0].value["value"]] == [None, "cancelled"]
    await store.record([end("p", 1, completes=True)])
    assert list(await store.match("p")) == []
