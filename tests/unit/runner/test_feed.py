"""What a running step shows is written in groups, beside it, and left out rather than waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from paigeant.errors import StoreError
from paigeant.events import Event
from paigeant.runner import feed as module
from paigeant.runner.feed import Feed

pytestmark = pytest.mark.anyio


def event(number: int) -> Event:
    return Event(correlation_id="w", at=float(number))


class FakeStore:
    """Notes each group it is given; it is as slow, and as broken, as it is told."""

    def __init__(self, has: int = 0) -> None:
        self.groups: list[list[float]] = []
        self.has = has
        self.open = asyncio.Event()
        self.open.set()
        self.broken = 0

    async def write(self, group: Sequence[Event]) -> None:
        await self.open.wait()
        if self.broken:
            self.broken -= 1
            raise StoreError
        self.groups.append([one.at for one in group])

    async def count(self) -> int:
        return self.has


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_gathers_while_a_group_is_written_is_the_next_group():
    """One is on its way at a time, so they stay in order."""
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    feed.put(event(0))
    await turn()
    for number in (1, 2, 3):
        feed.put(event(number))
    store.open.set()
    await turn()
    assert store.groups == [[0], [1, 2, 3]]
    feed.put(event(4))
    await turn()
    assert store.groups[2:] == [[4]]
    assert await feed.end() == []


async def test_what_was_not_written_is_left_for_the_end_of_the_attempt():
    """In order behind the group that was on its way; what comes later is too late."""
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    feed.put(event(0))
    await turn()
    feed.put(event(1))
    ending = asyncio.ensure_future(feed.end())
    await turn()
    assert not ending.done()
    store.open.set()
    assert [one.at for one in await ending] == [1]
    feed.put(event(2))
    await turn()
    assert store.groups == [[0]]


async def test_an_attempt_that_is_broken_off_leaves_nothing_behind():
    """Its worker may be about to close the store."""
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    feed.put(event(0))
    await turn()
    feed.put(event(1))
    feed.drop()
    feed.put(event(2))
    store.open.set()
    await turn()
    assert store.groups == []
    assert feed._writing is None


async def test_a_store_that_hangs_is_not_waited_for(monkeypatch):
    """Neither while the step runs, beyond a second in all, nor at its end."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "PATIENCE_AT_END", 0.05)
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    for number in range(1000):
        feed.put(event(number))
        await feed.pace()
    assert len(await feed.end()) == 3
    assert store.groups == []
    store.open.set()
    await turn()


async def test_what_was_reported_is_written_before_the_step_goes_on():
    """A step that computes leaves the loop no time for it later."""
    store = FakeStore()
    feed = Feed(store.write, store.count)
    for number in range(3):
        feed.put(event(number))
        await feed.recorded()
        assert store.groups == [[float(at)] for at in range(number + 1)]


async def test_a_report_does_not_wait_for_a_store_that_hangs(monkeypatch):
    """But once."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    for number in range(1000):
        feed.put(event(number))
        await feed.recorded()
    store.open.set()
    assert len(await feed.end()) == 999


async def test_a_step_that_is_faster_than_the_store_waits_a_little():
    """So that nothing is lost while the store keeps up at all."""
    store = FakeStore()
    feed = Feed(store.write, store.count)
    for number in range(5000):
        feed.put(event(number))
        await feed.pace()
    left = [one.at for one in await feed.end()]
    assert [at for group in store.groups for at in group] + left == list(range(5000))


async def test_large_values_do_not_pile_up(monkeypatch):
    """All of them may have to be recorded at once, with the end of the attempt."""
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    feed.put(event(0), 60)
    await turn()
    for number in (1, 2, 3):
        feed.put(event(number), 60)
    ending = asyncio.ensure_future(feed.end())
    store.open.set()
    assert [one.at for one in await ending] == [1, 2]
    assert store.groups == [[0]]


async def test_trouble_with_the_store_loses_a_group_and_nothing_else():
    """Written again it might be there twice."""
    store = FakeStore()
    store.broken = 1
    feed = Feed(store.write, store.count)
    for number in range(3):
        feed.put(event(number))
        await turn()
    assert store.groups == [[1], [2]]


async def test_the_end_of_an_attempt_does_not_overtake_what_is_on_its_way(monkeypatch):
    """However slow the store is: both are written to it."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    store = FakeStore()
    feed = Feed(store.write, store.count)
    store.open.clear()
    feed.put(event(0))
    await turn()
    feed.put(event(1))
    ending = asyncio.ensure_future(feed.end())
    await asyncio.wait([ending], timeout=0.1)
    assert not ending.done()
    store.open.set()
    left = [one.at for one in await ending]
    assert [*store.groups, left] == [[0], [1]]


async def test_what_may_not_be_written_now_is_kept_for_later():
    """Its lease is lost, say, and comes again: nothing is left out, and the order stays."""
    store, may_write = FakeStore(), [False]
    feed = Feed(store.write, store.count, lambda: may_write[0])
    feed.put(event(0))
    await turn()
    feed.put(event(1))
    assert store.groups == []
    may_write[0] = True
    feed.put(event(2))
    await turn()
    may_write[0] = False
    feed.put(event(3))
    assert [one.at for one in await feed.end()] == [3]
    assert store.groups == [[0, 1, 2]]


async def test_what_an_earlier_attempt_showed_comes_first():
    """It was not written when that attempt ended, and the next one followed in place."""
    store = FakeStore()
    feed = Feed(store.write, store.count, earlier=[event(0), event(1)])
    feed.put(event(2))
    await turn()
    assert store.groups == [[0, 1, 2]]
    assert [one.at for one in await Feed(store.write, store.count, earlier=[event(3)]).end()] == [3]


async def test_a_workflow_has_so_many_events_and_no_more(monkeypatch):
    """Those of earlier steps and attempts count, and so do those that are left for the end."""
    monkeypatch.setattr(module, "MOST_OF_A_WORKFLOW", 10)
    store = FakeStore(has=6)
    feed = Feed(store.write, store.count)
    feed.put(event(0))
    feed.put(event(1))
    await turn()
    store.open.clear()
    feed.put(event(2))
    await turn()
    for number in range(3, 9):
        feed.put(event(number))
    ending = asyncio.ensure_future(feed.end())
    store.open.set()
    assert [one.at for one in await ending] == [3]
    assert store.groups == [[0, 1], [2]]
