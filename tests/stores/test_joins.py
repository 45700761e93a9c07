"""A join is decided once, with the same value, however the ends of its branches arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from itertools import count, pairwise
from threading import Barrier, get_ident
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores.builders import dispatched, workflow_completed, workflow_failed

from paigeant.events import LAST, Cancellation, MessageHeld, WorkflowEnded
from paigeant.stores import joins as join_rows
from paigeant.stores import steering
from paigeant.stores.sql import SqlStore
from paigeant.wire.join import Branch, Join

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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
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
    branches = [dispatched(f"p-{i}", parent="p", branch=Branch(join="join:1", index=i)) for i in range(2)]
    await store.record([dispatched("p"), *branches, replace(held("p", Join(2, 2)), due_at=0.5)])
    await store.record([end("p", 0, completes=True)])
    due, _ = await store.take_due()
    assert [one.get("status") for one in due[0].value["value"]] == [None, "cancelled"]
    await store.record([end("p", 1, completes=True)])
    assert list(await store.match("p")) == []


@pytest.fixture
async def two_stores(_empty_postgres: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Two processes' stores on one PostgreSQL."""
    first, second = SqlStore(_empty_postgres), SqlStore(_empty_postgres)
    await first.connect()
    await second.connect()
    yield first, second
    await first.close()
    await second.close()


@pytest.mark.parametrize("compensate", [False, True], ids=["at once", "compensating"])
async def test_a_cancel_from_above_meets_a_decision_from_below(two_stores, monkeypatch, compensate):
    """One has locked the workflows, the other the join: PostgreSQL ends one of the two, and that one tries again."""
    above, below = two_stores
    branches = [dispatched(f"p-{i}", parent="p", branch=Branch(join="join:1", index=i)) for i in range(3)]
    await above.record([dispatched("p"), *branches, held("p", Join(3, 1))])
    both_hold = Barrier(2)
    waited = set[int]()

    def meeting(call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, and then a wait until the other one has locked something as well; each waits once."""

        def then_wait(*arguments: Any) -> Any:
            result = call(*arguments)
            if get_ident() not in waited:
                waited.add(get_ident())
                both_hold.wait(20)
            return result

        return then_wait

    monkeypatch.setattr(steering, "_family", meeting(steering._family))
    monkeypatch.setattr(join_rows, "lock", meeting(join_rows.lock))
    cancellation = Cancellation(at=5.0, reason="enough", by="ada", compensate=compensate)
    steered, _ = await asyncio.gather(above.cancel("p", cancellation), below.record([end("p", 0, completes=True)]))
    assert len(waited) == 2
    assert steered.recorded
    standing = {one.correlation_id: one.status.value for one in await above.workflows()}
    ends = [one.type for id_ in standing for one in await above.events(id_) if one.type in LAST]
    if compensate:  # each goes on to its end by itself; the one that had completed stays so
        assert standing == {"p": "running", "p-0": "completed", "p-1": "running", "p-2": "running"}
        assert ends == ["workflow_completed"]
        assert {*await above.cancellations(["p", "p-1", "p-2"])} == {"p", "p-1", "p-2"}
        assert len(await above.match("p") or (await above.take_due())[0]) == 1
    else:
        assert standing.pop("p-0") in ("completed", "cancelled")
        assert set(standing.values()) == {"cancelled"}
        assert len(ends) == 4
        assert await above.held() == []
        assert list(await above.match("p")) == []
