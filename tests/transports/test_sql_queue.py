"""SqlQueue by itself: leases, fencing, and what a broken transaction leaves behind."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from paigeant.database import Database
from paigeant.events import Event, StepCompleted, WorkflowCompleted
from paigeant.transport import Delivery, Outgoing
from paigeant.transports.settlement import Settlement
from paigeant.transports.sql_queue import SqlQueue

LEASE = 30.0
TIDY = LEASE / 10
"""Seconds after which a process looks again for what the dead left."""


def send(queue: SqlQueue, *bodies: bytes, to: str = "q", **options: Any) -> None:
    outgoing = [Outgoing(queue=to, body=body, id=body.decode(), **options) for body in bodies]
    queue.exchange([Settlement(outgoing=outgoing)], 0)


def claim(queue: SqlQueue, limit: int = 10) -> list[Delivery]:
    return queue.exchange([], limit)[1]


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def settle(queue: SqlQueue, *deliveries: Delivery, **options: Any) -> list[bool]:
    return queue.exchange([Settlement(delivery=one, **options) for one in deliveries], 0)[0]


def release(queue: SqlQueue, delivery: Delivery, after: float = 0.0) -> None:
    queue.exchange([Settlement(delivery=delivery, release_after=after)], 0)


def kill(queue: SqlQueue) -> None:
    """What is left of a killed process: broken connections and a heartbeat row."""
    queue.disconnect()
    queue.holder.id = ""


@contextlib.contextmanager
def broken(queue: SqlQueue, when: str | None) -> Iterator[None]:
    """The next commit fails as when the connection breaks: before the database has it, or after."""
    dialect: Any = queue.database.engine.dialect
    commit = dialect.do_commit

    def fail(connection: Any) -> None:
        dialect.do_commit = commit
        if when == "after":
            commit(connection)
        raise dialect.loaded_dbapi.OperationalError("the connection broke")

    if when:
        dialect.do_commit = fail
    yield
    dialect.do_commit = commit


# --- delivering ---------------------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_was_sent(queue: SqlQueue) -> None:
    """Body, id, headers and queue arrive unchanged; the first delivery is number one."""
    outgoing = Outgoing(queue="q", body=b"\x00\xff odd", id="m1", headers={"a": "\x00\U0001f600"})
    queue.exchange([Settlement(outgoing=[outgoing])], 0)
    [delivery] = claim(queue)
    assert (delivery.queue, delivery.body, delivery.id, delivery.deliveries) == ("q", b"\x00\xff odd", "m1", 1)
    assert delivery.headers == {"a": "\x00\U0001f600"}


@pytest.mark.parametrize("body", [b"", b"\x00" * 1000, bytes(range(256)), b"x" * 20_000_000], ids=len)
def test_any_body_survives(queue: SqlQueue, body: bytes) -> None:
    """Nothing, NUL bytes, every byte, twenty megabytes."""
    queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=body)])], 0)
    [delivery] = claim(queue)
    assert delivery.body == body


def test_the_most_urgent_comes_first_then_the_oldest(make_queue: Callable[..., SqlQueue]) -> None:
    """Priority 9 goes before 0, over all queues; within a priority the oldest goes first."""
    queue = make_queue("q", "other")
    send(queue, b"a", b"b")
    send(queue, b"c", to="other")
    send(queue, b"urgent", to="other", priority=9)
    assert bodies(claim(queue, 1)) == [b"urgent"]
    assert bodies(claim(queue)) == [b"a", b"b", b"c"]


def test_only_subscribed_queues_are_claimed_from(queue: SqlQueue) -> None:
    """A message elsewhere stays there; ``take`` gets it all the same."""
    send(queue, b"elsewhere", to="other")
    assert claim(queue) == []
    assert bodies(queue.take("other")) == [b"elsewhere"]


def test_hundreds_of_queues_can_be_subscribed_to(make_queue: Callable[..., SqlQueue]) -> None:
    """SQLite joins 500 selects at most; nobody should find that out in production."""
    queue = make_queue(*(f"q{number}" for number in range(1200)))
    send(queue, b"first", to="q3")
    send(queue, b"last", to="q1199")
    assert bodies(claim(queue)) == [b"first", b"last"]


def test_thousands_of_deliveries_are_settled_at_once(queue: SqlQueue) -> None:
    """A group is not limited by how many values a statement takes."""
    send(queue, *(f"m{number}".encode() for number in range(3000)))
    deliveries = claim(queue, 3000)
    assert len(deliveries) == 3000
    assert all(settle(queue, *deliveries))
    assert queue.depths() == {"q": 0}


def test_a_delayed_message_is_not_delivered_before_it_is_due(queue: SqlQueue, clock: Any) -> None:
    """It waits, is counted, and comes when its time has come."""
    send(queue, b"later", delay=60.0)
    clock.advance(59)
    assert claim(queue) == []
    assert queue.depth("q") == 1
    clock.advance(1.5)
    assert bodies(claim(queue)) == [b"later"]


def test_a_message_that_expired_is_never_delivered(queue: SqlQueue, clock: Any) -> None:
    """Not even before somebody tidies up; then it is gone."""
    assert claim(queue) == []
    outgoing = Outgoing(queue="q", body=b"stale", id="s")
    queue.exchange([Settlement(outgoing=[outgoing], expires=TIDY / 2)], 0)
    clock.advance(TIDY / 2)
    assert claim(queue) == []
    assert queue.depth("q") == 1
    clock.advance(TIDY)
    claim(queue)
    assert queue.depth("q") == 0


def test_a_delayed_message_ages_when_it_is_due(queue: SqlQueue, clock: Any) -> None:
    """A delay longer than the time to live does not kill the message."""
    outgoing = Outgoing(queue="q", body=b"m", id="m", delay=60.0)
    queue.exchange([Settlement(outgoing=[outgoing], expires=10.0)], 0)
    clock.advance(65)
    assert bodies(claim(queue)) == [b"m"]


def test_the_same_id_waits_in_a_queue_once(queue: SqlQueue) -> None:
    """Publishing again what waits changes nothing; another queue and messages without an id are not concerned."""
    send(queue, b"m", b"m")
    send(queue, b"m")
    send(queue, b"m", to="other")
    queue.exchange([Settlement(outgoing=[Outgoing(queue="free", body=b"m")] * 2)], 0)
    assert queue.depths() == {"q": 1, "other": 1, "free": 2}


def test_queues_are_listed_counted_and_purged(queue: SqlQueue) -> None:
    """Declared or only published to; what is out is neither counted nor purged."""
    queue.declare(["empty"])
    send(queue, b"a", b"b", b"c")
    send(queue, b"d", delay=10)
    [delivery] = claim(queue, 1)
    assert queue.depths() == {"empty": 0, "q": 3}
    assert queue.purge("q") == 3
    assert settle(queue, delivery) == [True]


# --- settling -----------------------------------------------------------------------------------------------------


def test_settling_publishes_what_follows_in_the_same_commit(queue: SqlQueue) -> None:
    """The message is gone and its successor is there."""
    send(queue, b"m")
    [delivery] = claim(queue)
    assert settle(queue, delivery, outgoing=[Outgoing(queue="next", body=b"n")]) == [True]
    assert queue.depths() == {"q": 0, "next": 1}
    assert claim(queue) == []


def test_a_group_is_settled_one_by_one(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """One refused settlement does not spoil the others of its group."""
    ours, theirs = make_queue(), make_queue()
    send(ours, b"old")
    [old] = claim(ours)
    clock.advance(LEASE + 1)
    assert bodies(claim(theirs)) == [b"old"]
    send(ours, b"new")
    [new] = claim(ours)
    follow = [Outgoing(queue="next", body=b"n")]
    accepted, _ = ours.exchange(
        [Settlement(delivery=old, outgoing=follow), Settlement(delivery=new, outgoing=follow), Settlement()], 0
    )
    assert accepted == [False, True, True]
    assert ours.depth("next") == 1


def test_the_second_settlement_of_a_delivery_is_refused(queue: SqlQueue) -> None:
    """In the same group and later."""
    send(queue, b"m")
    [delivery] = claim(queue)
    assert settle(queue, delivery, delivery, outgoing=[Outgoing(queue="next", body=b"n")]) == [True, False]
    assert settle(queue, delivery) == [False]
    assert queue.depth("next") == 1


def test_releasing_makes_the_delivery_uncounted(queue: SqlQueue, clock: Any) -> None:
    """It is as if it had never been handed out, due after the delay."""
    send(queue, b"m")
    [delivery] = claim(queue)
    release(queue, delivery, after=5.0)
    assert claim(queue) == []
    clock.advance(5)
    [again] = claim(queue)
    assert again.deliveries == 1
    assert again.token > delivery.token


def test_a_released_delivery_cannot_be_settled(queue: SqlQueue) -> None:
    """Not even when this very holder has claimed the message again."""
    send(queue, b"m")
    [first] = claim(queue)
    release(queue, first)
    [second] = claim(queue)
    assert settle(queue, first) == [False]
    assert settle(queue, second) == [True]


def test_closing_gives_everything_back_at_once(make_queue: Callable[..., SqlQueue]) -> None:
    """An orderly stop keeps nobody waiting and counts no delivery."""
    leaving, staying = make_queue(), make_queue()
    send(leaving, b"m")
    assert claim(leaving)
    assert claim(staying) == []
    leaving.close()
    [delivery] = claim(staying)
    assert delivery.deliveries == 1


# --- noticing -----------------------------------------------------------------------------------------------------


def test_what_another_process_publishes_is_noticed(make_queue: Callable[..., SqlQueue]) -> None:
    """Also when the last look found nothing."""
    ours, theirs = make_queue(), make_queue()
    for number in range(3):
        assert claim(ours) == []
        send(theirs, f"m{number}".encode())
        assert bodies(claim(ours)) == [f"m{number}".encode()]


def test_what_came_while_there_was_no_room_is_noticed_later(make_queue: Callable[..., SqlQueue]) -> None:
    """A look with no room must not make the message seen."""
    ours, theirs = make_queue(), make_queue()
    assert claim(ours) == []
    send(theirs, b"m")
    assert claim(ours, 0) == []
    assert bodies(claim(ours)) == [b"m"]


def test_what_another_process_delays_or_gives_back_is_noticed(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Time passes without a commit: the due time was noted before."""
    ours, theirs = make_queue(), make_queue()
    send(theirs, b"later", delay=10)
    assert claim(ours) == []
    clock.advance(11)
    [delivery] = claim(ours)
    assert claim(theirs) == []
    release(ours, delivery)
    assert bodies(claim(theirs)) == [b"later"]


def test_an_idle_look_writes_nothing(make_queue: Callable[..., SqlQueue]) -> None:
    """Idle workers do not wake each other: no commit, no version."""
    ours, theirs = make_queue(), make_queue()
    claim(ours), claim(theirs)
    before = ours.database.version_of(ours._reader)
    assert claim(theirs) == []
    if ours.database.is_sqlite:
        assert ours.database.version_of(ours._reader) == before


# --- leases -------------------------------------------------------------------------------------------------------


def test_the_messages_of_a_dead_holder_are_free_after_the_lease(
    make_queue: Callable[..., SqlQueue], clock: Any
) -> None:
    """Not before; and the delivery is counted."""
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
    """A message that kills its worker cannot hide it."""
    send(make_queue(), b"poison")
    counts = []
    for _ in range(4):
        victim = make_queue()
        counts += [delivery.deliveries for delivery in claim(victim)]
        kill(victim)
        clock.advance(LEASE + 1)
    assert counts == [1, 2, 3, 4]


def test_a_live_holder_keeps_its_leases_for_ever(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """One heartbeat row renews them all, however long a step takes."""
    busy, other = make_queue(), make_queue()
    send(busy, b"a", b"b")
    deliveries = claim(busy)
    for _ in range(20):
        clock.advance(LEASE / 2)
        busy.exchange([], 0)
        assert claim(other) == []
    assert settle(busy, *deliveries) == [True, True]


def test_a_beat_from_another_thread_keeps_the_leases(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """For programs that are busy with a message and do not come back to drain."""
    busy, other = make_queue(), make_queue()
    send(busy, b"m")
    [delivery] = claim(busy)
    for _ in range(5):
        clock.advance(LEASE - 1)
        busy.beat()
        assert claim(other) == []
    assert settle(busy, delivery) == [True]


def test_a_stale_holder_is_refused(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Its result is neither published nor recorded, and it learns that the lease was lost."""
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
    """Whatever went wrong: nothing is owned by nobody for long."""
    send(queue, b"m")
    queue.write(lambda writer: writer.execute(text("UPDATE paigeant_message SET owner = 'nobody'")))
    clock.advance(6)
    assert bodies(claim(queue)) == [b"m"]


def test_a_clock_that_goes_back_does_not_stop_the_heartbeat(queue: SqlQueue, clock: Any) -> None:
    """An hour back, and the lease is renewed by the new time."""
    send(queue, b"m")
    claim(queue)
    clock.advance(-3600)
    queue.exchange([], 0)
    expires = queue.read(lambda reader: reader.execute(text("SELECT expires_at FROM paigeant_holder")).scalar_one())
    assert expires == pytest.approx(queue.database.now() + LEASE)


def test_renewing_tells_whether_the_lease_is_lost(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """What the transport's ``extend`` asks for."""
    sleeper, other = make_queue(), make_queue()
    send(sleeper, b"m")
    [delivery] = claim(sleeper)
    sleeper.renew()
    assert not delivery.lease.lost
    clock.advance(LEASE + 1)
    claim(other)
    sleeper.renew()
    assert delivery.lease.lost


# --- broken transactions ------------------------------------------------------------------------------------------


class RememberingLedger:
    """A store's part in the transaction, kept in memory; the first ``failures`` writes fail."""

    database_url = "unused"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.events: list[Event] = []

    def write(self, connection: Any, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("the store cannot take this")
        self.events += events

    def finished(self, connection: Any, message_ids: Sequence[str]) -> dict[str, str]:
        done = {event.message_id: event.worker for event in self.events if isinstance(event, StepCompleted)}
        return {message_id: done[message_id] for message_id in message_ids if message_id in done}


def completed(message_id: str, worker: str = "us") -> StepCompleted:
    return StepCompleted(
        correlation_id="c",
        at=0.0,
        message_id=message_id,
        step_id="s",
        activity="a",
        attempt=1,
        worker=worker,
        started_at=0.0,
    )


def test_a_failing_record_leaves_nothing(make_queue: Callable[..., SqlQueue]) -> None:
    """Record, publish and acknowledge are one: all of it, or none of it and the delivery is still held."""
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
    """Whether the database has it or not: the message comes with the next look, counted once."""
    send(queue, b"m")
    with broken(queue, when), pytest.raises(OperationalError):
        claim(queue)
    queue.disconnect()
    [delivery] = claim(queue)
    assert delivery.deliveries == 1
    assert settle(queue, delivery) == [True]


def test_a_claim_that_is_committed_late_is_not_lost(queue: SqlQueue, clock: Any) -> None:
    """A server may carry out what it was sent over a connection that was given up, after all that came over others."""
    send(queue, b"first", b"second")
    [first] = claim(queue, 1)
    assert claim(queue, 0) == []
    late = text("UPDATE paigeant_message SET owner = :me, token = 1, deliveries = 1 WHERE message_id = 'second'")
    queue.write(lambda writer: writer.execute(late, {"me": queue.holder.id}))
    assert claim(queue) == []
    clock.advance(LEASE / 3)
    [second] = claim(queue)
    assert (second.body, second.deliveries) == (b"second", 1)
    assert settle(queue, first, second) == [True, True]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("claims", [0, 10], ids=["settling only", "claiming too"])
def test_a_settlement_whose_commit_broke_happens_once(queue: SqlQueue, when: str, claims: int) -> None:
    """Tried again it is accepted, and what follows is published once even if it is consumed meanwhile."""
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
    """It was ours and it is recorded: accepted. Somebody else's record: refused."""
    ledger = RememberingLedger()
    queue, other = make_queue(ledger=ledger), make_queue()
    send(queue, b"m", b"theirs")
    first, second = claim(queue)
    with broken(queue, "after"), pytest.raises(OperationalError):
        settle(queue, first, record=[completed("m")])
    queue.disconnect()
    clock.advance(LEASE + 1)
    [again] = claim(other)
    settle(other, again)
    ledger.events.append(completed("theirs", worker="them"))
    settlements = [
        Settlement(delivery=first, record=[completed("m")], tried=True),
        Settlement(delivery=second, record=[completed("theirs")], tried=True),
    ]
    assert queue.exchange(settlements, 0)[0] == [True, False]


def test_a_settlement_that_broke_is_refused_when_nobody_has_recorded_it(
    make_queue: Callable[..., SqlQueue], clock: Any
) -> None:
    """Its lease was lost meanwhile: somebody else runs the step. That the workflow ends with it proves nothing."""
    queue, other = make_queue(ledger=RememberingLedger()), make_queue()
    send(queue, b"m")
    [delivery] = claim(queue)
    clock.advance(LEASE + 1)
    assert bodies(claim(other)) == [b"m"]
    record = [completed("m"), WorkflowCompleted(correlation_id="c", at=0.0, output=None)]
    assert queue.exchange([Settlement(delivery=delivery, record=record, tried=True)], 0)[0] == [False]


def test_a_send_whose_commit_broke_is_not_sent_twice(make_queue: Callable[..., SqlQueue]) -> None:
    """Neither while it waits nor after a worker has finished it, and it is recorded once."""
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
    """Else what it claims afterwards would be owned by nobody."""
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


def test_leases_outlive_a_lost_connection(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Steps that run while the database is away for a moment are not run again."""
    queue, other = make_queue(), make_queue()
    send(queue, b"m")
    [delivery] = claim(queue)
    queue.disconnect()
    clock.advance(LEASE / 2)
    assert claim(other) == []
    assert settle(queue, delivery) == [True]


def test_a_server_that_became_a_standby_is_left(postgres_url: str, clock: Any) -> None:
    """After a failover old connections may lead to a server that only reads; the settlement is made over a new one."""
    queue = SqlQueue(Database(postgres_url, clock), LEASE)
    queue.open()
    queue.subscribe(["q"])
    send(queue, b"m")
    [delivery] = claim(queue)
    with queue._writer.begin():
        queue._writer.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    with pytest.raises(DBAPIError, match="read-only") as raised:
        settle(queue, delivery)
    assert queue.is_recoverable(raised.value)
    queue.disconnect()
    assert settle(queue, delivery) == [True]
    queue.close()


# --- against a model ----------------------------------------------------------------------------------------------


@dataclass
class Expected:
    """What is known of a message. ``counts`` are the delivery counts it may have: a lease that ran out is uncertain."""

    priority: int
    age: int
    due: float
    counts: set[int] = field(default_factory=lambda: {0})
    holder: Process | None = None
    delivery: Delivery | None = None
    valid_until: float = 0.0


@dataclass(eq=False)
class Process:
    """A holder, with the deliveries it has not settled and when its lease was renewed at the latest."""

    queue: SqlQueue
    renewed: float = float("-inf")
    out: list[Delivery] = field(default_factory=list)


BREAKS = st.sampled_from([None, None, None, "before", "after"])


class Machine(RuleBasedStateMachine):
    """Two processes on one queue, and a dictionary. Commits break, processes die, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.time = 1_000_000.0
        self.sent = 0
        self.waiting: dict[str, Expected] = {}
        self.processes: list[Process] = []

    def now(self) -> float:
        return self.time

    @initialize()
    def start(self) -> None:
        self.processes = [self.new_process(), self.new_process()]

    def new_process(self) -> Process:
        queue = SqlQueue(Database(f"sqlite:///{Path(self.folder.name) / 'queue.db'}", self), LEASE)
        queue.open()
        queue.subscribe(["q"])
        return Process(queue)

    def teardown(self) -> None:
        self.time += 10_000
        heir = self.new_process()
        found: set[str] = set()
        for _ in range(3):
            found |= {str(delivery.id) for delivery in claim(heir.queue, 1000)}
            self.time += 10
        for process in [*self.processes, heir]:
            process.queue.close()
        self.folder.cleanup()
        assert found == set(self.waiting), "every message that was not settled is delivered, and no other"

    # --- what may happen

    @rule(who=st.integers(0, 1), priority=st.integers(0, 2), delay=st.sampled_from([0.0, 5.0, 45.0]), breaks=BREAKS)
    def publish(self, who: int, priority: int, delay: float, breaks: str | None) -> None:
        self.sent += 1
        name = f"m{self.sent}"
        outgoing = Outgoing(queue="q", body=b"", id=name, priority=priority, delay=delay)
        self.exchange(self.processes[who], Settlement(outgoing=[outgoing]), breaks)
        self.waiting[name] = Expected(priority, self.sent, self.time + delay)

    @rule(who=st.integers(0, 1), limit=st.integers(1, 3), breaks=BREAKS)
    def take(self, who: int, limit: int, breaks: str | None) -> None:
        process = self.processes[who]
        with broken(process.queue, breaks):
            try:
                deliveries = claim(process.queue, limit)
            except OperationalError:
                process.queue.disconnect()
                deliveries = claim(process.queue, limit)
        self.beat(process)
        self.check(deliveries, limit)
        for delivery in deliveries:
            one = self.waiting[str(delivery.id)]
            assert delivery.deliveries - 1 in one.counts
            one.counts = {delivery.deliveries}
            one.holder, one.delivery, one.valid_until = process, delivery, process.renewed + LEASE
            process.out.append(delivery)

    def check(self, deliveries: Sequence[Delivery], limit: int) -> None:
        """Taken is what is free or may be; nothing that is free is passed over."""
        due = {name: one for name, one in self.waiting.items() if one.due <= self.time}
        taken = [str(delivery.id) for delivery in deliveries]
        assert all(name in due and self.may_be_free(due[name]) for name in taken)
        order = [(-due[name].priority, due[name].age) for name in taken]
        assert order == sorted(order)
        left = [(-one.priority, one.age) for name, one in due.items() if one.holder is None and name not in taken]
        assert not left or (len(taken) == limit and order[-1] < min(left))

    @precondition(lambda self: any(process.out for process in self.processes))
    @rule(data=st.data(), follow=st.booleans(), breaks=BREAKS)
    def settle(self, data: st.DataObject, follow: bool, breaks: str | None) -> None:
        process, delivery = self.draw_delivery(data)
        name = str(delivery.id)
        one = self.waiting.get(name)
        is_current = one is not None and one.delivery is delivery
        is_certain = is_current and not self.may_be_free(one)
        outgoing = [Outgoing(queue="q", body=b"", id=f"{name}+")] if follow else []
        accepted = self.exchange(process, Settlement(delivery=delivery, outgoing=outgoing), breaks)
        assert accepted or not is_certain, "who has the lease is not refused"
        assert is_current or not accepted, "who has not the latest delivery is"
        if accepted:
            del self.waiting[name]
            if follow:
                self.sent += 1
                self.waiting[f"{name}+"] = Expected(0, self.sent, self.time)

    @precondition(lambda self: any(process.out for process in self.processes))
    @rule(data=st.data(), after=st.sampled_from([0.0, 20.0]), breaks=BREAKS)
    def give_back(self, data: st.DataObject, after: float, breaks: str | None) -> None:
        process, delivery = self.draw_delivery(data)
        freed = self.freed_by(process, [delivery], after)
        self.exchange(process, Settlement(delivery=delivery, release_after=after), breaks)
        freed()

    @rule(seconds=st.sampled_from([0.5, 4.0, 9.0, 11.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @rule(who=st.integers(0, 1))
    def idle(self, who: int) -> None:
        self.processes[who].queue.exchange([], 0)
        self.beat(self.processes[who])

    @rule(who=st.integers(0, 1))
    def die(self, who: int) -> None:
        kill(self.processes[who].queue)
        self.processes[who] = self.new_process()

    @rule(who=st.integers(0, 1))
    def stop(self, who: int) -> None:
        process = self.processes[who]
        freed = self.freed_by(process, process.out, 0.0)
        process.queue.close()
        freed()
        self.processes[who] = self.new_process()

    # --- what is known

    def exchange(self, process: Process, settlement: Settlement, breaks: str | None) -> bool:
        """As the bridge does: after a broken connection the same settlement again, marked as tried."""
        with broken(process.queue, breaks):
            try:
                [accepted], _ = process.queue.exchange([settlement], 0)
            except OperationalError:
                process.queue.disconnect()
                [accepted], _ = process.queue.exchange([replace(settlement, tried=True)], 0)
        self.beat(process)
        return accepted

    def draw_delivery(self, data: st.DataObject) -> tuple[Process, Delivery]:
        process = data.draw(st.sampled_from([process for process in self.processes if process.out]))
        return process, process.out.pop(data.draw(st.integers(0, len(process.out) - 1)))

    def may_be_free(self, one: Expected) -> bool:
        return one.holder is None or self.time > one.valid_until

    def beat(self, process: Process) -> None:
        """Whatever a process does, it renews its lease when a third of it is over."""
        if self.time - process.renewed >= LEASE / 3:
            process.renewed = self.time
            for one in self.waiting.values():
                if one.holder is process and self.time <= one.valid_until:
                    one.valid_until = self.time + LEASE

    def freed_by(self, process: Process, deliveries: Sequence[Delivery], after: float) -> Callable[[], None]:
        """What giving back does: it is certain where the lease is."""
        current = [one for one in self.waiting.values() if any(one.delivery is delivery for delivery in deliveries)]
        certain = [one for one in current if not self.may_be_free(one)]

        def freed() -> None:
            for one in current:
                one.counts |= {count - 1 for count in one.counts}
                one.delivery = None
            for one in certain:
                one.counts = {min(one.counts)}
                one.holder, one.due = None, self.time + after

        return freed


Machine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAgainstAModel = Machine.TestCase
