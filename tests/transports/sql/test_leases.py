"""Leases of an SqlQueue: when the messages of another process become free, and who is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from transports.sql_queues import LEASE, TIDY, RememberingLedger, bodies, claim, completed, kill, send, settle

from paigeant.database import Database
from paigeant.transport import Outgoing
from paigeant.transports.sql.queue import SqlQueue


def test_the_messages_of_a_dead_holder_are_free_after_the_lease(
    make_queue: Callable[..., SqlQueue], clock: Any
) -> None:
    """They are not free earlier, and the delivery is counted."""
    dead, heir = make_queue(), make_queue()
    send(dead, b"m")
    claim(dead)
    kill(dead)
    clock.advance(LEASE - 1)
    assert claim(heir) == []
    clock.advance(1 + TIDY)
    [delivery] = claim(heir)
    assert delivery.deliveries == 2


def test_deliveries_are_counted_death_by_death(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """The count of a message that kills its workers rises each time."""
    send(make_queue(), b"poison")
    counts = []
    for _ in range(4):
        victim = make_queue()
        counts += [delivery.deliveries for delivery in claim(victim)]
        kill(victim)
        clock.advance(LEASE + 1)
    assert counts == [1, 2, 3, 4]


def test_a_live_holder_keeps_its_leases_for_ever(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """One heartbeat row renews all of them, however long a step takes."""
    busy, other = make_queue(), make_queue()
    send(busy, b"a", b"b")
    deliveries = claim(busy)
    for _ in range(20):
        clock.advance(LEASE / 2)
        busy.exchange([], 0)
        assert claim(other) == []
    assert settle(busy, *deliveries) == [True, True]


def test_a_beat_from_another_thread_keeps_the_leases(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Some programs are busy with a message and do not return to drain."""
    busy, other = make_queue(), make_queue()
    send(busy, b"m")
    [delivery] = claim(busy)
    for _ in range(5):
        clock.advance(LEASE - 1)
        busy.beat()
        assert claim(other) == []
    assert settle(busy, delivery) == [True]


def test_a_stale_holder_is_refused(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Its result is neither published nor recorded, and the delivery says that the lease is lost."""
    ledger = RememberingLedger()
    stale, heir = make_queue(ledger=ledger), make_queue()
    send(stale, b"m")
    [old] = claim(stale)
    clock.advance(LEASE + 1)
    [new] = claim(heir)
    follow = [Outgoing(queue="next", body=b"n")]
    assert settle(stale, old, outgoing=follow, record=[completed("m")]) == [False]
    assert old.lease.lost
    assert (stale.depth("next"), ledger.events) == (0, [])
    assert settle(heir, new, outgoing=follow) == [True]


def test_a_holder_that_was_found_dead_begins_anew(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """It may claim its own lost message again; only the new delivery counts."""
    sleeper, other = make_queue(), make_queue("elsewhere")
    send(sleeper, b"m")
    [old] = claim(sleeper)
    before = sleeper.holder.id
    clock.advance(LEASE + 1)
    claim(other)
    [new] = claim(sleeper)
    assert sleeper.holder.id != before
    assert old.lease.lost
    assert not new.lease.lost
    assert settle(sleeper, old, new) == [False, True]


def test_a_message_whose_owner_has_no_row_is_free(queue: SqlQueue, clock: Any) -> None:
    """Whatever the cause, no message stays owned by a holder that does not exist."""
    send(queue, b"m")
    queue.write(lambda writer: writer.execute(text("UPDATE paigeant_message SET owner = 'nobody'")))
    clock.advance(6)
    assert bodies(claim(queue)) == [b"m"]


def test_a_clock_that_goes_back_does_not_stop_the_heartbeat(queue: SqlQueue, clock: Any) -> None:
    """After a step of one hour back, the holder renews the lease by the new time."""
    send(queue, b"m")
    claim(queue)
    clock.advance(-3600)
    queue.exchange([], 0)
    expires = queue.read(lambda reader: reader.execute(text("SELECT expires_at FROM paigeant_holder")).scalar_one())
    assert expires == pytest.approx(queue.database.now() + LEASE)


def test_renewing_tells_whether_the_lease_is_lost(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """The transport's ``extend`` relies on it."""
    sleeper, other = make_queue(), make_queue()
    send(sleeper, b"m")
    [delivery] = claim(sleeper)
    sleeper.renew()
    assert not delivery.lease.lost
    clock.advance(LEASE + 1)
    claim(other)
    sleeper.renew()
    assert delivery.lease.lost


def test_leases_outlive_a_lost_connection(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Steps that run during a short outage of the database do not run again."""
    queue, other = make_queue(), make_queue()
    send(queue, b"m")
    [delivery] = claim(queue)
    queue.disconnect()
    clock.advance(LEASE / 2)
    assert claim(other) == []
    assert settle(queue, delivery) == [True]


def test_a_server_that_became_a_standby_is_left(postgres_url: str, clock: Any) -> None:
    """After a failover, old connections may lead to a read-only server; the queue settles over a new one."""
    queue = SqlQueue(Database(postgres_url, clock), LEASE)
    queue.open()
    queue.subscribe(["q"])
    send(queue, b"m")
    [delivery] = claim(queue)
    with queue._writer.begin():
        queue._writer.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    with pytest.raises(DBAPIError, match="read-only") as raised:
        settle(queue, delivery)
    assert not queue.diagnose(raised.value).is_narrow
    queue.disconnect()
    assert settle(queue, delivery) == [True]
    queue.close()
