"""Apps that share a store and not a broker: each publishes its own messages, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert
from stores.builders import dispatched, outgoing, worker

from paigeant.decisions.limit import Limit, Lock
from paigeant.events import MessageHeld, SignalReceived
from paigeant.records.workflow import Owner
from paigeant.stores import owners
from paigeant.stores.sql import SqlStore
from paigeant.stores.tables import brokers

pytestmark = pytest.mark.anyio

SHOP, STAGING, BANK = Owner("shop", "b1", "amqp://one"), Owner("shop", "b2", "amqp://two"), Owner("bank", "b3", "x")


def held(id: str, owner: Owner | None, **fields: Any) -> MessageHeld:  # noqa: A002
    about: dict[str, Any] = {"correlation_id": id, "at": 1.0, "step_id": "1", "activity": "a", "wait_id": f"{id}-w"}
    about |= {"key": "timer", "queue": "shop.a", "body": b"{}", "due_at": 1.0, **owners.columns(owner)}
    return MessageHeld(**about | fields)


async def due(store: SqlStore, owner: Owner | None) -> list[str]:
    """What this App is given to publish."""
    store.owner = owner
    found, _ = await store.take_due()
    return sorted(one.correlation_id for one in found)


async def now_of(store: SqlStore) -> float:
    return await store.access.run(lambda: store.access.database.now_by(store.access.reader))


async def test_what_is_due_is_given_to_its_own_broker(store):
    """Another App may look first."""
    await store.record([dispatched("w1"), held("w1", SHOP), dispatched("w2"), held("w2", BANK, queue="bank.a")])
    assert await due(store, STAGING) == []
    assert await due(store, BANK) == ["w2"]
    assert await due(store, SHOP) == ["w1"]


async def test_a_signal_waits_for_the_broker_of_its_message(store):
    """It stays recorded."""
    wanted = {"key": "signal:go", "due_at": None}
    await store.record([dispatched("w1"), held("w1", SHOP, **wanted)])
    await store.record([SignalReceived(correlation_id="w1", at=2.0, key="signal:go", value=1)])
    store.owner = BANK
    assert list(await store.match("w1")) == list(await store.match()) == []
    store.owner = SHOP
    (one,) = await store.match()
    assert one.value == {"value": 1}


async def test_a_lock_is_granted_to_messages_of_the_same_broker(store):
    """One that nobody serves here keeps no other from it."""
    lock = Lock(key="lock:shop:x", holder="other", worker="w", limit=Limit(places=1))
    for id, owner in (("w1", BANK), ("w2", SHOP)):  # noqa: A001
        await store.record([dispatched(id), held(id, owner, key=lock.key, due_at=None)])
    store.owner = SHOP
    granted, _ = await store.grant_locks(60.0)
    assert [one.correlation_id for one in granted] == ["w2"]


async def test_a_lost_message_is_sent_again_by_its_own_broker(store):
    """Also when somebody recovers all queues."""
    store.owner = SHOP
    await store.record([dispatched("w1")], [outgoing("w1-1", queue="shop.a")])
    store.owner = STAGING
    assert await store.overdue(-1.0) == {}
    assert list(await store.take_overdue("shop.a", -1.0, 10)) == []
    store.owner = SHOP
    assert await store.overdue(-1.0) == {"shop.a": 1}
    assert [one.id for one in await store.take_overdue("shop.a", -1.0, 10)] == ["w1-1"]


async def test_rows_of_an_earlier_release_are_served_by_their_prefix(store):
    """And those for a queue of no App that is known, by anybody."""
    for owner in (SHOP, BANK):
        store.owner = owner
        await store.announce(worker(f"of {owner.prefix}"))
    await store.record([dispatched("w1"), held("w1", None), dispatched("w2"), held("w2", None, queue="far.a")])
    assert await due(store, BANK) == ["w2"]
    assert await due(store, SHOP) == ["w1"]


async def test_a_row_is_taken_over_when_its_broker_is_gone_for_long(store):
    """By Apps of the same prefix, which have workers; not while anybody has announced the old one of late."""
    now = await now_of(store)
    await store.record([dispatched("w1"), held("w1", SHOP, at=now - 2 * owners.MOVED_AFTER, due_at=now - 1)])
    assert await due(store, STAGING) == []
    store.owner = STAGING
    await store.announce(worker("new"))
    store.owner = BANK
    await store.announce(worker("bank"))
    await store.access.run(lambda: _seen(store, SHOP, now - owners.MOVED_AFTER + 60))
    assert await due(store, STAGING) == []
    await store.access.run(lambda: _seen(store, SHOP, now - owners.MOVED_AFTER - 60))
    assert await due(store, BANK) == []
    assert await due(store, STAGING) == ["w1"]


def _seen(store: SqlStore, owner: Owner, at: float) -> None:
    with store.access.writer.begin():
        store.access.writer.execute(brokers.delete().where(brokers.c.broker == owner.broker))
        row = {**owners.columns(owner), "address": owner.address, "seen_at": at}
        store.access.writer.execute(insert(brokers), row)


async def test_workers_say_which_broker_they_use(store):
    """Each App once, however many workers it has."""
    for owner in (SHOP, SHOP, BANK):
        store.owner = owner
        await store.announce(worker(f"of {owner.prefix}"))
    assert set(await store.brokers()) == {SHOP, BANK}


async def test_a_store_that_belongs_to_nobody_serves_all(store):
    """As simulations and plain tests use it."""
    await store.record([dispatched("w1"), held("w1", SHOP), dispatched("w2"), held("w2", None)])
    assert await due(store, None) == ["w1", "w2"]
