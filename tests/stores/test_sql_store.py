"""What is special about a store in a SQL database: many writers, trouble with the database, URLs."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from stores.builders import completed, dispatched, outgoing, worker, workflow_completed

from paigeant.errors import ConfigurationError, StoreError, StoreRefused
from paigeant.events import Cancellation
from paigeant.stores import open_store, present, store_url, waiting
from paigeant.stores.sql import SqlStore


async def _run_workflows(url: str, names: list[str]) -> list[bool]:
    store = SqlStore(url)
    accepted = []
    for name in names:
        await store.record([dispatched(name)], [outgoing(f"{name}-1")])
        accepted.append(await store.record([completed(name), workflow_completed(name)], cause=f"{name}-1"))
    await store.close()
    return accepted


def test_eight_writers_never_see_a_locked_database(tmp_path):
    """Each with connections of its own, as eight processes have: they wait for their turn."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    shares = [[f"t{thread}-{n}" for n in range(15)] for thread in range(8)]
    with ThreadPoolExecutor(8) as threads:
        accepted = list(threads.map(lambda names: asyncio.run(_run_workflows(url, names)), shares))
    assert accepted == [[True] * 15] * 8
    assert asyncio.run(_counts(url)) == {"completed": 120}


async def _counts(url: str) -> dict[str, int]:
    store = SqlStore(url)
    counts = await store.counts()
    await store.close()
    return counts


@pytest.mark.anyio
async def test_what_one_turn_asks_is_answered_together(tmp_path, monkeypatch):
    """A hundred steps that come together cost the thread one look, not a hundred."""
    store = SqlStore(f"sqlite:///{tmp_path / 'store.db'}")
    await store.record([dispatched()])
    asked = []
    answer = store._standings
    monkeypatch.setattr(store, "_standings", lambda doubts: asked.append(len(doubts)) or answer(doubts))
    await asyncio.gather(*(store.standing(f"m{number}", "w1") for number in range(100)))
    assert asked == [100]
    await store.close()


@pytest.mark.anyio
async def test_whether_something_has_come_is_asked_for_many_together(tmp_path, monkeypatch):
    """A hundred steps that begin to wait: the tasks that ask must not pile up behind the store."""
    store = SqlStore(f"sqlite:///{tmp_path / 'store.db'}")
    await store.record([dispatched()])
    asked = []
    answer = waiting.have_come
    monkeypatch.setattr(waiting, "have_come", lambda reader, ids: asked.append(len(ids)) or answer(reader, ids))
    found = await asyncio.gather(*(store.match(f"w{number}") for number in range(100)))
    assert (asked, [*map(list, found)]) == ([100], [[]] * 100)
    await store.close()


@pytest.mark.anyio
async def test_the_workers_are_read_once_for_all_who_ask_together(tmp_path, monkeypatch):
    """Programs that wait for many results ask at the same moment whether the next steps are served."""
    store = SqlStore(f"sqlite:///{tmp_path / 'store.db'}")
    read, listed = [], present.listed
    monkeypatch.setattr(present, "listed", lambda reader, now: read.append(now) or listed(reader, now))
    await store.announce(worker("w"))
    found = await asyncio.gather(*(store.workers() for _ in range(100)))
    assert [[one.id for one in workers] for workers in found] == [["w"]] * 100
    assert len(read) == 1
    await store.close()


@pytest.mark.anyio
async def test_what_is_recorded_while_the_store_closes_is_written(tmp_path):
    """Whatever was handed over before the call; and nothing stays open."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = SqlStore(url)
    recording = asyncio.ensure_future(store.record([dispatched()]))
    closing = asyncio.ensure_future(store.close())
    assert await recording is True
    await closing
    assert store.access.thread._thread is None
    assert "writer" not in store.access.__dict__
    again = SqlStore(url)
    assert await again.find("w") == ["w1"]
    await again.close()


@pytest.mark.anyio
async def test_a_lock_that_is_held_for_a_while_is_waited_for(tmp_path):
    """For example by a backup; the write comes after it."""
    path = tmp_path / "store.db"
    store = SqlStore(f"sqlite:///{path}")
    await store.connect()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.record([dispatched()]))
    done, _ = await asyncio.wait([writing], timeout=0.3)
    assert not done
    lock.execute("COMMIT")
    lock.close()
    assert await asyncio.wait_for(writing, 10) is True
    await store.close()


@pytest.mark.anyio
async def test_readers_do_not_wait_for_writers(tmp_path):
    """A long write blocks no look at the store."""
    path = tmp_path / "store.db"
    store = SqlStore(f"sqlite:///{path}")
    await store.record([dispatched()])
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert (await asyncio.wait_for(store.workflow("w1"), 5)).name == "onboarding"
    lock.execute("ROLLBACK")
    lock.close()
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    ["sqlite:////no/such/folder/store.db", "postgresql://me:secret@127.0.0.1:1/none"],
    ids=["no folder", "no server"],
)
async def test_an_unreachable_database_is_a_store_error(url):
    """One line that names it, without its password."""
    store = open_store(url)
    with pytest.raises(StoreError, match="cannot use the store") as caught:
        await store.connect()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    await store.close()


@pytest.mark.anyio
async def test_the_store_goes_on_when_the_database_is_back(tmp_path):
    """A failed call leaves no broken connection behind."""
    folder = tmp_path / "later"
    store = SqlStore(f"sqlite:///{folder / 'store.db'}")
    with pytest.raises(StoreError):
        await store.record([dispatched()])
    folder.mkdir()
    assert await store.record([dispatched()]) is True
    await store.close()


@pytest.mark.anyio
async def test_a_lost_server_connection_is_made_again(postgres_url):
    """The next call finds a new one."""
    from sqlalchemy import text

    store = SqlStore(postgres_url)
    await store.record([dispatched()])
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")
    with pytest.raises(StoreError):
        await store.access.run(lambda: store.access.reader.execute(kill).all())
    assert (await store.workflow("w1")).name == "onboarding"
    assert await store.record([completed()], cause="w1-1") is True
    await store.close()


@pytest.mark.anyio
async def test_a_store_serves_more_than_one_event_loop(tmp_path):
    """Plain code runs a loop for each call."""
    store = SqlStore(f"sqlite:///{tmp_path / 'store.db'}")
    await store.record([dispatched()])
    found = await asyncio.to_thread(lambda: asyncio.run(store.workflow("w1")))
    assert found.name == "onboarding"
    await store.close()


@pytest.mark.parametrize(
    ("broker", "wanted", "expected"),
    [
        ("sqlite:///a.db", None, "sqlite:///a.db"),
        ("postgresql://h/d", None, "postgresql://h/d"),
        ("sqlite:///a.db", "sqlite:///b.db", "sqlite:///b.db"),
        ("sqlite:///a.db", "none", None),
        ("amqp://h", None, None),
        ("amqp://h", "postgresql://h/d", "postgresql://h/d"),
        ("memory://", None, "sqlite://"),
        ("inmemory", None, "sqlite://"),
        ("in-memory", None, "sqlite://"),
        ("memory://", "none", None),
    ],
)
def test_the_store_is_where_it_is_wanted_or_beside_the_messages(broker, wanted, expected):
    """In the broker's database if it is one, in memory if the broker is."""
    assert store_url(broker, wanted) == expected


@pytest.mark.parametrize("url", ["redis://:secret@h", "store.db", "mysql://h/d"])
def test_what_is_no_database_cannot_be_a_store(url):
    """The hint says what can."""
    with pytest.raises(ConfigurationError, match="cannot be a store") as caught:
        open_store(url)
    assert "sqlite://" in caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.anyio
async def test_what_cannot_be_written_does_not_hold_up_what_is_written_with_it(postgres_url):
    """PostgreSQL takes no NUL; the neighbours in the same transaction must not suffer for it."""
    store = SqlStore(postgres_url)
    await store.connect()
    writes = [store.record([dispatched("good")]), store.record([dispatched("bad", name="\0")])]
    first, second = await asyncio.gather(*writes, return_exceptions=True)
    counts = await store.counts()
    await store.close()
    assert first is True
    assert isinstance(second, StoreRefused)
    assert counts == {"running": 1}


@pytest.mark.anyio
async def test_ids_that_no_database_takes_are_refused_alone(store):
    """Some other program wrote them: questions that are answered together do not suffer from one of them."""
    await store.record([dispatched("w"), completed("w")], cause="w-1")
    questions = [store.standing("w-1", "w"), store.standing("\ud800", "w"), store.standing("w-1\0x", "w")]
    known, broken, odd = await asyncio.gather(*questions, return_exceptions=True)
    assert known.done == []
    assert isinstance(broken, StoreRefused)
    assert isinstance(odd, StoreRefused) or odd.done is None
    with pytest.raises(StoreRefused):
        await store.cancel("\ud800", Cancellation(at=0.0))
