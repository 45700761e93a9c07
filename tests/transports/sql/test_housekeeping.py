"""Housekeeping of the SQL transport: in parts, outside of settlements and claims, queue by queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import until
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from paigeant.database import Database
from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql import housekeeping as sql_housekeeping
from paigeant.transports.sql import statements as sql
from paigeant.transports.sql.housekeeping import Pace
from paigeant.transports.sql.queue import SqlQueue

LEASE = 30.0
MANY = 3_000
"""Several parts."""


def plant(queue: SqlQueue, count: int, name: str, **columns: str) -> None:
    """Messages of one queue, with these columns."""
    body = "x'00'" if queue.database.is_sqlite else "'x'"
    statement = (
        f"INSERT INTO paigeant_message (queue, message_id, enqueued_at, body, {', '.join(columns)})"
        " WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)"
        f" SELECT :queue, :queue || n, 0, {body}, {', '.join(columns.values())} FROM number"
    )
    with queue.database.writer() as writer, writer.begin():
        writer.execute(text(statement), {"count": count, "queue": name})
        if not queue.database.is_sqlite:
            writer.execute(text("ANALYZE paigeant_message"))


def send(queue: SqlQueue, to: str, body: bytes = b"m", **options: Any) -> None:
    queue.exchange([Settlement(outgoing=[Outgoing(queue=to, body=body, **options)])], 0)
    queue.finish()


def rows_where(queue: SqlQueue, condition: str) -> int:
    statement = f"SELECT count(*) FROM paigeant_message WHERE {condition}"
    return int(queue.read(lambda reader: reader.execute(text(statement)).scalar_one()))


@contextlib.contextmanager
def failing(queue: SqlQueue, *statements: str) -> Iterator[list[str]]:
    """Statements that begin so fail, as when they take too long; the list tells how many did."""
    from sqlalchemy import event

    failed: list[str] = []

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(statements):
            failed.append(statement)
            driver: Any = queue.database.engine.dialect.loaded_dbapi
            raise driver.OperationalError("canceling statement due to statement timeout")

    event.listen(queue.database.engine, "before_cursor_execute", fail)
    try:
        yield failed
    finally:
        event.remove(queue.database.engine, "before_cursor_execute", fail)


def beginning_of(statement: Any, queue: SqlQueue) -> str:
    return str(statement.compile(dialect=queue.database.engine.dialect))[:80]


# --- in parts -----------------------------------------------------------------------------------------------------


def test_many_that_are_due_together_come_part_by_part(
    make_queue: Callable[..., SqlQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement changes more than a part, and in the end every message is ready."""
    monkeypatch.setattr(sql_housekeeping, "_ROUND", 0.0)
    queue = make_queue("later")
    plant(queue, MANY, "later", available_at="1")
    queue.exchange([], 0)
    assert 0 < rows_where(queue, "available_at IS NULL") < MANY
    until(lambda: queue.exchange([], 0) and not rows_where(queue, "available_at IS NOT NULL"), 30)


def test_a_backlog_of_one_queue_does_not_delay_another(
    make_queue: Callable[..., SqlQueue], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is due now comes in the next round, however many others were due before."""
    monkeypatch.setattr(Pace, "MOST", 100)
    monkeypatch.setattr(sql_housekeeping, "_ROUND", 0.0)
    queue = make_queue("later", "other")
    send(queue, "other", b"wanted", delay=1.0)
    plant(queue, MANY, "later", available_at="1")
    clock.advance(2)
    queue.exchange([], 0)
    assert rows_where(queue, "queue = 'other' AND available_at IS NULL") == 1
    assert rows_where(queue, "queue = 'later' AND available_at IS NOT NULL") >= MANY - 500


def test_every_queue_has_its_turn(make_queue: Callable[..., SqlQueue], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are more queues with a backlog than one round has parts."""
    monkeypatch.setattr(sql_housekeeping, "_ROUND", 0.0)
    names = [f"q{number}" for number in range(20)]
    queue = make_queue(*names)
    for name in names:
        plant(queue, 1000, name, available_at="1")
    moved = "SELECT count(DISTINCT queue) FROM paigeant_message WHERE available_at IS NULL"
    for _ in range(4):
        queue.exchange([], 0)
    assert queue.read(lambda reader: reader.execute(text(moved)).scalar_one()) == len(names)


@pytest.mark.parametrize(
    ("columns", "name"),
    [({"expires_at": "1"}, "unread"), ({"owner": "'gone'"}, "q")],
    ids=["expired messages of a queue nobody reads", "messages of a dead holder"],
)
def test_what_is_left_over_is_tidied_part_by_part(
    make_queue: Callable[..., SqlQueue],
    clock: Any,
    columns: dict[str, str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over several rounds, by a process that does not consume from the queue."""
    monkeypatch.setattr(sql_housekeeping, "_ROUND", 0.0)
    queue = make_queue("elsewhere")
    plant(queue, MANY, name, **columns)
    clock.advance(LEASE)
    condition = " OR ".join(f"{column} IS NOT NULL" for column in columns)
    queue.exchange([], 0)
    assert rows_where(queue, condition) < MANY
    until(lambda: queue.exchange([], 0) and not rows_where(queue, condition), 30)


def test_a_sender_drops_what_expired_in_a_queue_nobody_reads(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """A heartbeat with a time to live does not pile up while its consumer is away."""
    sender = make_queue("elsewhere")
    sender.subscribe([])
    for _ in range(60):
        sender.exchange([Settlement(outgoing=[Outgoing(queue="unread", body=b"m")], expires=1.0)], 0)
        sender.finish()
        clock.advance(LEASE / 10)
    assert sender.depth("unread") <= 2


def test_purging_goes_part_by_part(make_queue: Callable[..., SqlQueue]) -> None:
    """All that waits is gone, delayed or not, and it is told how much that was."""
    queue = make_queue("q")
    plant(queue, MANY, "q", priority="n % 3")
    send(queue, "q", delay=60.0)
    assert queue.purge("q") == MANY + 1
    plant(queue, MANY, "q", owner="'alive'")
    queue.delete("q")
    assert rows_where(queue, "queue = 'q'") == 0


def test_a_dead_letter_that_leads_nowhere_is_told_once(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Not for each message, and not in each round."""
    queue = make_queue("elsewhere")
    queue.declare(["q"], {"x-dead-letter-exchange": "nowhere"})
    plant(queue, 100, "q", expires_at="1")
    with capture_logs() as logs:
        for _ in range(5):
            clock.advance(LEASE)
            queue.exchange([], 0)
    assert [log["event"] for log in logs] == ["a dead letter stays where it is"]
    assert queue.depth("q") == 100


# --- what fails costs nobody anything -----------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["promote", "drop_overdue", "free_stray", "bury"])
def test_housekeeping_that_fails_costs_no_settlement(
    make_queue: Callable[..., SqlQueue], clock: Any, statement: str
) -> None:
    """Messages come and are settled, with one line in the log; what failed is done later."""
    queue = make_queue("q", "later")
    dead = make_queue()
    dead.renew()
    send(dead, "q", b"lost")
    assert dead.exchange([], 1)[1]
    dead.disconnect()
    dead.holder.id = ""
    clock.advance(LEASE + 1)
    plant(queue, 10, "later", available_at="1")
    plant(queue, 10, "stale", expires_at="1")
    plant(queue, 10, "strays", owner="'gone'")
    with capture_logs() as logs, failing(queue, beginning_of(getattr(sql, statement), queue)) as failed:
        for number in range(5):
            send(queue, "q", f"m{number}".encode())
            deliveries = queue.exchange([], 1)[1]
            assert deliveries
            assert queue.exchange([Settlement(delivery=one) for one in deliveries], 0)[0] == [True]
            clock.advance(LEASE / 5)
    assert failed
    assert len([log for log in logs if log["log_level"] == "warning"]) == 1
    until(lambda: queue.exchange([], 0) and not rows_where(queue, "owner IS NOT NULL OR expires_at IS NOT NULL"), 20)


def test_a_failing_part_becomes_smaller(make_queue: Callable[..., SqlQueue]) -> None:
    """Until the server manages it in its time, so that no limit of a statement stops the broker for ever."""
    pace = Pace()
    for _ in range(10):
        pace.took(0.0)
    assert pace.size == Pace.MOST
    for _ in range(10):
        pace.failed()
    assert pace.size == Pace.LEAST
    pace.took(1.0)
    assert pace.size == Pace.LEAST


@pytest.mark.slow
def test_a_short_statement_timeout_stops_nothing(postgres_url: str) -> None:
    """PostgreSQL, 50,000 messages due together, 150 ms a statement: another queue is served meanwhile, and all come."""
    joined = "&" if "?" in postgres_url else "?"
    database = Database(f"{postgres_url}{joined}options=-c%20statement_timeout%3D150", longest_statement=15.0)
    queue = SqlQueue(database, LEASE)
    queue.open()
    queue.subscribe(["later", "now"])
    plant_slowly(queue, 50_000)
    with pytest.raises(OperationalError, match="statement timeout"), database.writer() as writer:
        writer.execute(text("UPDATE paigeant_message SET available_at = NULL WHERE available_at <= 1"))
    send(queue, "now", b"now")
    first = []
    until(lambda: first.extend(one for one in queue.exchange([], 10)[1] if one.queue == "now") or first, 5)
    assert all(queue.exchange([Settlement(delivery=first[0])], 0)[0])
    until(lambda: queue.exchange([], 0) and not rows_where(queue, "available_at IS NOT NULL"), 60)
    queue.close()


def plant_slowly(queue: SqlQueue, count: int) -> None:
    """So many delayed messages, without the limit of the statement."""
    with queue.database.writer() as writer, writer.begin():
        writer.execute(text("SET LOCAL statement_timeout = 0"))
        writer.execute(
            text(
                "INSERT INTO paigeant_message (queue, message_id, priority, enqueued_at, available_at, body)"
                " SELECT 'later', 'd' || n, -1, 0, 1, convert_to(repeat('x', 300), 'UTF8')"
                " FROM generate_series(1, :count) AS n"
            ),
            {"count": count},
        )
        writer.execute(text("ANALYZE paigeant_message"))


# --- readers ------------------------------------------------------------------------------------------------------


@pytest.mark.endurance
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_reader_needs_no_turn_to_write(make_queue: Callable[..., SqlQueue], monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite: counting, listing, an idle look and a ping succeed while somebody else writes."""
    queue, writer = make_queue("q"), make_queue()
    send(writer, "other")
    queue.exchange([], 1)
    monkeypatch.setattr("paigeant.database.sqlite.BUSY_TIMEOUT", 0.0)
    with writer.database.writer() as connection, connection.begin():
        assert queue.depth("other") == 1
        assert queue.depths() == {"other": 1}
        assert queue.exchange([], 1) == ([], [])
        queue.ping("q")
        queue.finish()
        with pytest.raises(OperationalError, match="locked"):
            queue.declare(["another"])


def test_equal_messages_without_an_id_are_distinct(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """At once or delayed, in one settlement or in several."""
    queue = make_queue("q")
    for delay in (0.0, 5.0):
        queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"same", delay=delay)] * 3)], 0)
        send(queue, "q", b"same", delay=delay)
    clock.advance(6)
    assert len(queue.exchange([], 20)[1]) == 8


def test_a_process_whose_clock_is_wrong_costs_nobody_a_lease(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL: a minute ahead or behind, set while the process runs."""
    holder, other = (SqlQueue(Database(postgres_url), LEASE) for _ in range(2))
    for queue in (holder, other):
        queue.open()
        queue.subscribe(["q"])
    send(holder, "q")
    [delivery] = holder.exchange([], 1)[1]
    real = time.time
    for step in (60.0, -60.0):
        monkeypatch.setattr(time, "time", lambda step=step: real() + step)
        other.renew()
        other._house._tidied_at = float("-inf")
        assert other.exchange([], 1)[1] == []
        late = SqlQueue(Database(postgres_url), LEASE)  # a process that starts with the wrong clock
        late.open()
        late.subscribe(["q"])
        assert late.exchange([], 1)[1] == []
        late.close()
    assert holder.exchange([Settlement(delivery=delivery)], 0)[0] == [True]
    holder.close()
    other.close()
