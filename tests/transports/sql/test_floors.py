"""Looking from floors: what an old snapshot costs on PostgreSQL, and that no message is passed over for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from helpers import until
from sqlalchemy import event

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql import floors as sql_floors
from paigeant.transports.sql.floors import Looks, walks
from paigeant.transports.sql.queue import SqlQueue

DEAR, FAIR = 0.5, 0.005
"""Seconds a full look takes."""


def learned(cost: float, *found: tuple[str, Any, int]) -> Looks:
    """After a cheap look from floors and a full one that took so long, at second 100."""
    looks = Looks()
    looks.learn({"q": {0: 1}}, (), 0.0, 100.0)
    looks.learn({}, found, cost + 0.0002 * len(found), 100.0)
    return looks


# --- deciding how to look -----------------------------------------------------------------------------------------


def test_a_cheap_look_is_always_full() -> None:
    """As nearly everywhere: floors are never used."""
    looks = learned(0.0001, ("q", 0, 7))
    assert looks.floors(["q"], 100.001) == {}


def test_a_dear_look_is_made_for_a_twentieth_of_the_time() -> None:
    """In between the walk begins at the lowest message that was found."""
    looks = learned(DEAR, ("q", 0, 9), ("q", 0, 7), ("q", 3, 8))
    assert looks.floors(["q"], 109.9) == {"q": {0: 7, 3: 8}}
    assert looks.floors(["q"], 110.1) == {}


def test_a_queue_without_floors_is_looked_at_fully() -> None:
    """It was empty when it was looked at."""
    looks = learned(DEAR, ("q", 0, 7))
    assert looks.floors(["other"], 101.0) == {}
    assert looks.floors(["q", "other"], 101.0) == {"q": {0: 7}}


def test_a_full_look_follows_where_floors_find_too_little() -> None:
    """Unless it is dear."""
    floors = {"q": {0: 7}}
    assert learned(FAIR, ("q", 0, 7)).is_enough(floors, 5, 5)
    assert not learned(FAIR, ("q", 0, 7)).is_enough(floors, 4, 5)
    assert learned(DEAR, ("q", 0, 7)).is_enough(floors, 0, 5)
    assert learned(DEAR, ("q", 0, 7)).is_enough({}, 0, 5)


def test_a_message_below_the_floor_lowers_it() -> None:
    """A full look has found one that was given back."""
    looks = learned(DEAR, ("q", 0, 700))
    looks.learn({}, [("q", 0, 5)], DEAR, 111.0)
    assert looks.floors(["q"], 112.0) == {"q": {0: 5}}


def test_a_program_with_countless_priorities_has_no_floors() -> None:
    """They would cost more than they save."""
    looks = learned(DEAR, *(("q", priority, 1) for priority in range(100)))
    assert len(looks.floors(["q"], 101.0).get("q", {})) <= 20


def test_no_priority_is_left_out() -> None:
    """Between, above and below those with a floor all of the queue is looked at."""
    parameters = walks(["q", "r"], {"q": {0: 7, 1: 8, 5: 9}})
    assert list(zip(parameters["floor_queue"], parameters["floor_priority"], parameters["floor_id"], strict=True)) == [
        ("q", 0, 7),
        ("q", 1, 8),
        ("q", 5, 9),
    ]
    gaps = zip(parameters["gap_queue"], parameters["gap_above"], parameters["gap_below"], strict=True)
    end = 2**40
    assert list(gaps) == [("q", -end, 0), ("q", 1, 5), ("q", 5, end), ("r", -end, end)]


# --- on a server --------------------------------------------------------------------------------------------------


@contextmanager
def old_snapshot(url: str) -> Iterator[None]:
    """Somebody reads for a long time, as ``pg_dump`` does."""
    with psycopg.connect(url) as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT count(*) FROM paigeant_message")
        yield


@pytest.fixture
def make(made: Callable[..., SqlQueue], postgres_url: str) -> Callable[..., SqlQueue]:
    return partial(made, postgres_url)


def send(queue: SqlQueue, count: int, **options: Any) -> None:
    queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"m", **options) for _ in range(count)])], 0)


def run_through(queue: SqlQueue, count: int, batch: int = 10) -> float:
    """Send and settle so many messages; how many a second, counting the claims alone."""
    took = 0.0
    for _ in range(count // batch):
        send(queue, batch)
        began = time.perf_counter()
        deliveries = queue.exchange([], batch)[1]
        took += time.perf_counter() - began
        assert len(deliveries) == batch
        queue.exchange([Settlement(delivery=one) for one in deliveries], 0)
    return count / took


def test_what_becomes_ready_below_a_floor_is_found(
    make: Callable[..., SqlQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back, delayed, more urgent: with floors in use all the time each comes in the end."""
    monkeypatch.setattr(sql_floors, "_CHEAP", -1.0)
    monkeypatch.setattr(sql_floors, "_AFFORDABLE", -1.0)
    worker, other = make("q"), make("q")
    send(other, 3, priority=5)
    held = other.exchange([], 3)[1]
    send(worker, 10)
    assert len(worker.exchange([], 5)[1]) == 5
    other.exchange([Settlement(delivery=held[0], release_after=0.0)], 0)
    other.exchange([Settlement(delivery=held[1], release_after=0.05)], 0)
    send(other, 1, priority=9, id="urgent")
    assert [one.id for one in worker.exchange([], 1)[1]] == ["urgent"]
    found: list[Delivery] = []
    until(lambda: found.extend(worker.exchange([], 10)[1]) or len(found) == 7, 20)
    assert {held[0].tag[0], held[1].tag[0]} <= {one.tag[0] for one in found}


def buffers_of_a_claim(queue: SqlQueue) -> int:
    """How many pages PostgreSQL reads for one more claim."""
    seen: list[Any] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    send(queue, 1)
    event.listen(queue.database.engine, "before_cursor_execute", note)
    [delivery] = queue.exchange([], 1)[1]
    event.remove(queue.database.engine, "before_cursor_execute", note)
    queue.exchange([Settlement(delivery=delivery)], 0)
    statement, parameters = next(one for one in reversed(seen) if one[0].startswith("WITH ready"))
    with queue.database.writer() as writer, writer.begin() as transaction:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        [plan] = writer.exec_driver_sql(explain, parameters).scalar_one()
        transaction.rollback()
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


@pytest.mark.slow
def test_an_old_snapshot_does_not_slow_claims_down(make: Callable[..., SqlQueue], postgres_url: str) -> None:
    """20,000 messages pass while somebody reads; at the end most claims read as few pages as before."""
    queue = make("q")
    run_through(queue, 500)
    with old_snapshot(postgres_url):
        before = run_through(queue, 500)
        run_through(queue, 20_000, 100)
        after = run_through(queue, 500)
        assert sorted(buffers_of_a_claim(queue) for _ in range(9))[4] < 100
    assert after > before / 4
