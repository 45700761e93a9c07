"""What the store asks costs the same however much has happened: no statement walks through a table of the history."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import event, text
from stores.builders import (
    completed,
    dead_lettered,
    dispatched,
    failed,
    outgoing,
    started,
    worker,
    workflow_completed,
    workflow_failed,
)

from paigeant.decisions.limit import Lock
from paigeant.events import Cancellation, MessageHeld, SignalReceived
from paigeant.records.workflow import Owner
from paigeant.stores.sql import SqlStore

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROWS = 100_000

NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows) ",
    "postgresql": "WITH numbers(n) AS (SELECT generate_series(1, :rows)) ",
}

HISTORY = (
    "INSERT INTO paigeant_workflow (correlation_id, name, app, status, created_at, updated_at, finished_at, itinerary,"
    " variables) {numbers} SELECT 'old' || n, 'name', 'app', 'completed', n, n, n, '[]', '{{}}' FROM numbers",
    "INSERT INTO paigeant_step (message_id, correlation_id, step_id, activity, attempt, deliveries, status, worker,"
    " started_at, finished_at) {numbers} SELECT 'm' || n, 'old' || n, '1', 'a', 1, 1, 'completed', 'w', n, n"
    " FROM numbers",
    "INSERT INTO paigeant_event (correlation_id, type, at, data) {numbers}"
    " SELECT 'old' || n, 'step_completed', n, '{{}}' FROM numbers",
    "INSERT INTO paigeant_dead_letter (correlation_id, message_id, queue, reason, body, worker, deliveries, at)"
    " {numbers} SELECT 'old' || n, 'm' || n, 'q', 'no', '', 'w', 1, n FROM numbers",
    "INSERT INTO paigeant_outbox (message_id, cause_id, queue, body, headers, priority, due_at) {numbers}"
    " SELECT 'p' || n, 'm' || n, 'queue' || (n % 10), '', '{{}}', 0, 1e10 + n FROM numbers",
    "INSERT INTO paigeant_wait (wait_id, correlation_id, step_id, activity, key, due_at, queue, body, priority, since,"
    " prefix, broker)"
    " {numbers} SELECT 'w' || n, 'old' || n, '1', 'a', 'sleep', 1e10 + n, 'q', '', 0, n, 'app', 'b' FROM numbers",
    "INSERT INTO paigeant_lock (key, holder, worker, until, places) {numbers}"
    " SELECT 'lock:' || n, 'h', 'w', 1e10, 1 FROM numbers",
)

GROWING = "workflow|step|event|dead_letter|outbox|wait|lock"

LEFT_OPEN = {
    "GROUP BY paigeant_workflow.status": "counts by status: an index is read from end to end",
    "count(*) AS count_1 FROM paigeant_dead_letter": "counts dead letters",
    "ORDER BY paigeant_dead_letter.id DESC": "lists dead letters from the last one on",
    'ORDER BY paigeant_workflow.correlation_id COLLATE "C"': "finds a workflow by the beginning of its id",
    "DISTINCT paigeant_outbox.queue": "the queues of the outbox: an index is read from end to end",
}
"""Statements that only people ask for, or that read one small index, and why they may."""


@pytest.fixture(params=["sqlite file", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    if request.param == "sqlite file":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    """A store with a long history."""
    made = SqlStore(url)
    made.owner = Owner("app", "b", "amqp://b")
    await made.connect()
    database = made.access.database
    with database.writer() as connection, connection.begin():
        for statement in HISTORY:
            numbers = NUMBERS[connection.dialect.name]
            connection.execute(text(statement.format(numbers=numbers)), {"rows": ROWS})
    if not database.is_sqlite:  # which has no statistics unless somebody asks for them
        with database.reader() as connection:
            connection.exec_driver_sql("ANALYZE")
    yield made
    await made.close()


@pytest.fixture
def statements(store: SqlStore) -> Iterator[dict[str, Any]]:
    """What the store executes from now on, each with the parameters it had first."""
    seen: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.setdefault(statement, parameters[0] if many else parameters)

    engines = {store.access.database.engine, store.access.database._reading}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def held(id: str, **fields: Any) -> MessageHeld:  # noqa: A002
    about = {"correlation_id": id, "at": 3.0, "step_id": "1", "activity": "a", "wait_id": f"{id}-w"}
    return MessageHeld(**about | {"key": "signal:go", "queue": "q", "body": b"{}"} | fields)


async def work(store: SqlStore) -> None:
    """Call what dispatchers and workers call: record, park, claim, lock, cancel."""
    await store.record([dispatched("w1")], [outgoing("w1-1")])
    await store.standing("w1-1", "w1")
    await store.knows("w1")
    await store.record([started("w1")])
    await store.record([completed("w1")], [outgoing("w1-2")], cause="w1-1")
    await store.successors("w1-1")
    await store.standing("w1-1", "w1")
    await store.record([completed("w1", "2"), workflow_completed("w1")], cause="w1-2")
    await store.record([dispatched("w2", parent="w1"), failed("w2"), workflow_failed("w2"), dead_lettered()])
    await store.record([dispatched("w3"), held("w3")])
    await store.record([SignalReceived(correlation_id="w3", at=4.0, key="signal:go", value=1, by=None)])
    await store.match("w3")
    await store.match()
    await store.take_due()
    await store.held(limit=10)
    await store.held("w3")
    await store.overdue(5.0)
    await store.overdue(5.0, ["queue1", "queue2"])
    await store.take_overdue("queue1", 5.0, 10)
    await store.holds("w", ["m1", "m2"])
    await store.claim("w", "m1")
    await store.claim("w", "m1", take_over=True)
    await store.postpone(outgoing("w1-2"))
    lock = Lock(key="lock:one", holder="m1", worker="w")
    await store.take_locks([lock], 30.0)
    await store.renew_locks([lock], 30.0)
    await store.grant_locks(30.0)
    await store.free_locks([lock])
    await store.cancel("w3", Cancellation(at=5.0, reason=None, by=None, compensate=False))
    await store.cancellations(["w1", "w2"])
    await store.announce(worker())


async def look(store: SqlStore) -> None:
    """Call what people and callers call: list, show, wait, retry dead letters, prune."""
    await store.workers()
    await store.workflow("w1")
    await store.workflows(limit=20)
    await store.workflows(status="running", limit=20)
    await store.find("w")
    await store.events("w1")
    await store.passing("w1")
    await store.courses(["w1", "w2"])
    await store.plans(["w1", "w2"])
    await store.counts()
    await store.await_end("w1")
    await store.await_event("w1", 0)
    letters = await store.dead_letters(limit=10)
    await store.dead_letter(letters[0].id)
    await store.count_dead_letters()
    await store.take_dead_letter(letters[0].id, None, [])
    families = await store.ended(1e12, (), None, 5)
    await store.forget(families[:1], 1e12)
    store.output("w1-2", "w1")


def plans(store: SqlStore, statements: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of the plan of each statement."""
    explain = "EXPLAIN QUERY PLAN " if store.access.database.is_sqlite else "EXPLAIN "
    for statement, parameters in statements.items():
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)", statement):
            with store.access.database.reader() as reader:
                for row in reader.exec_driver_sql(explain + statement, parameters):
                    yield statement, str(row[-1])


def walks(statement: str, line: str) -> bool:
    """Whether this line of a plan reads a growing table, or an index of it, from end to end."""
    if "LIMIT" in statement and re.search("USING (COVERING )?INDEX|Index", line):
        return False
    return bool(re.search(rf"(SCAN|Seq Scan on) paigeant_({GROWING})\b", line))


async def test_no_statement_walks_through_the_history(store: SqlStore, statements: dict[str, Any]) -> None:
    """Every statement of a session finds its rows by an index."""
    await work(store)
    await look(store)
    known = dict(statements)
    assert len(known) > 50
    found = [
        f"{line.strip()}   <-   {' '.join(statement.split())}"
        for statement, line in plans(store, known)
        if walks(statement, line) and not any(part in " ".join(statement.split()) for part in LEFT_OPEN)
    ]
    for one in found:
        print(one)
    assert not found
