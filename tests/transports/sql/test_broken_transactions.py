"""What a broken transaction of an SqlQueue leaves behind: nothing lost, nothing done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from transports.sql_queues import LEASE, RememberingLedger, bodies, broken, claim, completed, kill, send, settle

from paigeant.events import StepCompleted, WorkflowCompleted
from paigeant.stores.history import SqlLedger
from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue


def test_a_failing_record_leaves_nothing(make_queue: Callable[..., SqlQueue]) -> None:
    """Record, publish and acknowledge happen together; if one fails, none happens and the delivery is still held."""
    queue = make_queue(ledger=RememberingLedger(failures=1))
    send(queue, b"m")
    [delivery] = claim(queue)
    settlement = Settlement(
        delivery=delivery, outgoing=[Outgoing(queue="next", body=b"n", id="n")], record=[completed("m")]
    )
    with pytest.raises(ValueError, match="cannot take"):
        queue.exchange([settlement], 10)
    assert queue.depths() == {"q": 0}
    assert queue.exchange([settlement], 0) == ([True], [])
    assert queue.depths() == {"q": 0, "next": 1}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_claim_whose_commit_broke_is_not_lost(queue: SqlQueue, when: str) -> None:
    """Whether or not it was committed, the next poll returns the message, counted once."""
    send(queue, b"m")
    with broken(queue, when), pytest.raises(OperationalError):
        claim(queue)
    queue.disconnect()
    [delivery] = claim(queue)
    assert delivery.deliveries == 1
    assert settle(queue, delivery) == [True]


def test_a_claim_that_is_committed_late_is_not_lost(queue: SqlQueue, clock: Any) -> None:
    """A server may execute a statement of an abandoned connection after those of newer ones."""
    send(queue, b"first", b"second")
    [first] = claim(queue, 1)
    assert claim(queue, 0) == []
    late = text("UPDATE paigeant_message SET owner = :me, token = 1, deliveries = 1 WHERE body = :body")
    queue.write(lambda writer: writer.execute(late, {"me": queue.holder.id, "body": b"second"}))
    assert claim(queue) == []
    clock.advance(LEASE / 3)
    [second] = claim(queue)
    assert (second.body, second.deliveries) == (b"second", 1)
    assert settle(queue, first, second) == [True, True]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("claims", [0, 10], ids=["settling only", "claiming too"])
def test_a_settlement_whose_commit_broke_happens_once(queue: SqlQueue, when: str, claims: int) -> None:
    """The second attempt is accepted; the successor is published once, even if it is consumed in between."""
    queue.subscribe(["q", "next"])
    send(queue, b"m")
    [delivery] = claim(queue)
    settlement = Settlement(delivery=delivery, outgoing=[Outgoing(queue="next", body=b"n", id="n")])
    with broken(queue, when), pytest.raises(OperationalError):
        queue.exchange([settlement], claims)
    queue.disconnect()
    if when == "after":
        [follower] = claim(queue)
        assert settle(queue, follower) == [True]
    settlement.tried = True
    accepted, deliveries = queue.exchange([settlement], 10)
    assert accepted == [True]
    assert len(deliveries) == (0 if when == "after" else 1)


def test_a_broken_settlement_is_known_by_the_ledger_after_the_lease_was_lost(
    make_queue: Callable[..., SqlQueue], clock: Any
) -> None:
    """If its own end is recorded it is accepted; if the end of another run is, it is refused."""
    ledger = RememberingLedger()
    queue, other = make_queue(ledger=ledger), make_queue()
    send(queue, b"m", b"theirs", b"namesake")
    first, second, third = claim(queue)
    with broken(queue, "after"), pytest.raises(OperationalError):
        settle(queue, first, record=[completed("m")])
    queue.disconnect()
    clock.advance(LEASE + 1)
    for again in claim(other):
        settle(other, again)
    ledger.events += [completed("theirs", worker="them"), completed("namesake", started_at=1.0)]
    settlements = [
        Settlement(delivery=first, record=[completed("m")], tried=True),
        Settlement(delivery=second, record=[completed("theirs")], tried=True),
        Settlement(delivery=third, record=[completed("namesake")], tried=True),
    ]
    assert queue.exchange(settlements, 0)[0] == [True, False, False]


def test_the_store_tells_two_runs_of_one_worker_apart(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """A worker does not hear of two settlements, and loses its lease: one was committed, the other it makes anew.

    The second run ends the step, so the first one is refused, although the recorded worker is its own.
    """
    queue, namesake = make_queue(), make_queue()
    queue.database.migrate("stores")
    for one in (queue, namesake):
        one.enlist(SqlLedger(str(queue.database.url)))
    send(queue, b"m", b"n")
    first, second = claim(queue)
    with broken(queue, "after"), pytest.raises(OperationalError):
        settle(queue, first, record=[completed("m", started_at=0.1 + 0.2)])
    queue.disconnect()
    clock.advance(LEASE + 1)
    [again] = claim(namesake)
    assert settle(namesake, again, record=[completed("n", started_at=LEASE)]) == [True]
    settlements = [
        Settlement(delivery=first, record=[completed("m", started_at=0.1 + 0.2)], tried=True),
        Settlement(delivery=second, record=[completed("n")], tried=True),
    ]
    assert queue.exchange(settlements, 0)[0] == [True, False]


def test_a_settlement_that_broke_is_refused_when_nobody_has_recorded_it(
    make_queue: Callable[..., SqlQueue], clock: Any
) -> None:
    """Its lease was lost, so another worker runs the step. That the workflow ends with it proves nothing."""
    queue, other = make_queue(ledger=RememberingLedger()), make_queue()
    send(queue, b"m")
    [delivery] = claim(queue)
    clock.advance(LEASE + 1)
    assert bodies(claim(other)) == [b"m"]
    record = [completed("m"), WorkflowCompleted(correlation_id="c", at=0.0, output=None)]
    assert queue.exchange([Settlement(delivery=delivery, record=record, tried=True)], 0)[0] == [False]


def test_a_send_whose_commit_broke_is_not_sent_twice(make_queue: Callable[..., SqlQueue]) -> None:
    """This holds while the message waits and after a worker has settled it; it is recorded once."""
    ledger = RememberingLedger()
    queue, other = make_queue(ledger=ledger), make_queue(ledger=ledger)
    settlement = Settlement(outgoing=[Outgoing(queue="q", body=b"m", id="m")], record=[completed("before")])
    with broken(queue, "after"), pytest.raises(OperationalError):
        queue.exchange([settlement], 0)
    queue.disconnect()
    settlement.tried = True
    assert queue.exchange([settlement], 0)[0] == [True]
    [delivery] = claim(other)
    assert settle(other, delivery, record=[completed("m")]) == [True]
    assert queue.exchange([settlement], 0)[0] == [True]
    assert queue.depth("q") == 0
    assert [event.message_id for event in ledger.events if isinstance(event, StepCompleted)] == ["before", "m"]


def test_a_first_claim_that_was_rolled_back_leaves_no_holder_without_a_row(
    make_queue: Callable[..., SqlQueue], clock: Any
) -> None:
    """Its later claims would otherwise belong to a holder that does not exist."""
    queue, heir = make_queue(), make_queue()
    send(queue, b"m")
    with broken(queue, "before"), pytest.raises(OperationalError):
        claim(queue)
    assert claim(queue)
    owners = queue.read(lambda reader: reader.execute(text("SELECT owner FROM paigeant_message")).scalars().all())
    rows = queue.read(lambda reader: reader.execute(text("SELECT id FROM paigeant_holder")).scalars().all())
    assert owners == rows
    kill(queue)
    clock.advance(LEASE + 1)
    assert bodies(claim(heir)) == [b"m"]
