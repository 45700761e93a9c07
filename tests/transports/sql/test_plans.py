"""What the statements of the SQL transport cost when many messages wait: nothing walks over a backlog.

The statements are not listed here: whatever a session executes is explained, so that a new one is, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue

pytestmark = pytest.mark.slow

ROWS = 100_000
MOST = 3000
"""Rows that a statement may look at: some parts of housekeeping, and far less than wait."""

_FILL = """
INSERT INTO paigeant_message (queue, message_id, priority, enqueued_at, available_at, expires_at, owner, body)
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count})
SELECT {queue}, '{name}' || n, n % 10, 0, {due}, {end}, {owner}, {body} FROM number
"""
_KINDS: dict[str, dict[str, Any]] = {
    "ready": {"count": 30_000, "queue": "'q' || (n % 3)"},
    "later": {"count": 30_000, "queue": "'q' || (n % 3)", "due": "2e6 + n"},
    "due": {"count": 10_000, "queue": "'q' || (n % 3)", "due": "1e5"},
    "stale": {"count": 10_000, "queue": "'q' || (n % 3)", "end": "1e5"},
    "aging": {"count": 10_000, "queue": "'unread'", "end": "2e6"},
    "stray": {"count": 5_000, "queue": "'q' || (n % 3)", "owner": "'nobody' || (n % 3)"},
    "held": {"count": 5_000, "queue": "'q' || (n % 3)", "owner": "'alive'"},
}


def fill(queue: SqlQueue) -> None:
    """A backlog of every kind, in queues that are read and in one that is not."""
    body = "x'00'" if queue.database.is_sqlite else "'x'"
    with queue.database.writer() as writer:
        with writer.begin():
            for name, one in _KINDS.items():
                parts = {"due": "NULL", "end": "NULL", "owner": "NULL", "body": body} | one
                writer.execute(text(_FILL.format(name=name, **parts)))
            writer.execute(text("INSERT INTO paigeant_holder (id, expires_at) VALUES ('alive', 9e9), ('dead', 1)"))
        with writer.begin():
            writer.execute(text("ANALYZE"))


@contextmanager
def recorded() -> Iterator[dict[str, Any]]:
    """Every statement that is executed, with the parameters it had first."""
    seen: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.setdefault(statement, parameters[0] if many else parameters)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def session(queue: SqlQueue, other: SqlQueue) -> None:
    """All that a process does with its queues."""
    queue.declare(["new"])
    queue.declare(["arguments"], {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    for number in range(12):
        deliveries = queue.exchange([], 20)[1]
        assert len(deliveries) == 20
        first, second, third, *rest = deliveries
        follow = Outgoing(queue="next", body=b"n", id=f"n{number}")
        late = Outgoing(queue="q1", body=b"n", id=f"l{number}", delay=60.0)
        again = Settlement(outgoing=[Outgoing(queue="next", body=b"n", id=f"n{number}")], tried=True, expires=60.0)
        given_back = [Settlement(delivery=second, release_after=0.0), Settlement(delivery=third, release_after=9.0)]
        settled = [Settlement(delivery=one) for one in rest]
        queue.exchange([Settlement(delivery=first, outgoing=[follow, late]), again, *given_back, *settled], 10)
        queue.finish()
    assert queue.reject(queue.take("q1")[0])
    queue.renew()
    queue.beat()
    queue.ping("q0")
    assert queue.depth("empty") == 0
    assert queue.purge("next") == 12
    other.exchange([], 5)
    other.close()
    queue.close()


def walked(plan: dict[str, Any]) -> int:
    """How many rows the costliest step of a plan of PostgreSQL has looked at."""
    rows = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return max([int(rows * plan["Actual Loops"]), *(walked(one) for one in plan.get("Plans", []))])


def explain_postgresql(connection: Connection, statement: str, parameters: Any) -> str | None:
    found = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
    return f"looks at {walked(found[0]['Plan'])} rows" if walked(found[0]["Plan"]) > MOST else None


def explain_sqlite(connection: Connection, statement: str, parameters: Any) -> str | None:
    steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    scans = [step for step in steps if step.startswith("SCAN paigeant_") and "holder" not in step]
    return "; ".join(scans) or None


def is_explained(statement: str) -> bool:
    return statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))


def test_no_statement_walks_over_a_backlog(make_queue: Callable[..., SqlQueue]) -> None:
    """Neither a claim, nor a settlement, nor housekeeping, nor counting an empty queue."""
    queue, other = make_queue("q0", "q1", "q2"), make_queue("unread")
    fill(queue)
    with recorded() as seen:
        session(queue, other)
    judge = explain_sqlite if queue.database.is_sqlite else explain_postgresql
    dear = {}
    with queue.database.writer() as connection:
        for statement, parameters in seen.items():
            if is_explained(statement):
                transaction = connection.begin()
                if found := judge(connection, statement, parameters):
                    dear[statement] = found
                transaction.rollback()
    assert len(seen) > 25
    assert dear == {}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_explained_scan_is_found(make_queue: Callable[..., SqlQueue]) -> None:
    """The check itself: counting by a column without an index is told."""
    queue = make_queue()
    with queue.database.reader() as reader:
        statement = "SELECT count(*) FROM paigeant_message WHERE deliveries > ?"
        assert explain_sqlite(reader, statement, (1,)) == "SCAN paigeant_message"
