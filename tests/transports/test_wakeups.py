"""PostgreSQL wakes who waits. No test here looks again and again: what nobody wakes it for, it would never see."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from helpers import until, until_async
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from paigeant.database import Database
from paigeant.database import listener as listening
from paigeant.database.listener import END, EVENT, QUEUE, Listener
from paigeant.events import StepCompleted, WorkflowCompleted, WorkflowDispatched
from paigeant.stores.history import SqlLedger
from paigeant.stores.sql import SqlStore
from paigeant.transport import Delivery, Outgoing
from paigeant.transports import get_transport
from paigeant.transports.kombu import KombuTransport
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue

NEVER = 10_000.0
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _nobody_looks_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any test: only a wake-up, or a time that is known, brings anything."""
    for module in ("database.listener", "transports.sql.session", "transports.sql.queue", "stores.watch"):
        monkeypatch.setattr(f"paigeant.{module}.LONGEST_SLEEP", NEVER)
    monkeypatch.setattr(listening, "_PROBE_PATIENCE", PATIENCE)


@pytest.fixture
def make(made: Callable[..., SqlQueue], postgres_url: str) -> Callable[..., SqlQueue]:
    return partial(made, postgres_url, lease=10 * NEVER)


def asleep(queue: SqlQueue) -> SqlQueue:
    """The worker after it has found nothing to do."""
    assert queue.exchange([], 1) == ([], [])
    until(lambda: queue.exchange([], 1) == ([], []) and queue.patience != 0.0)
    return queue


def send(queue: SqlQueue, to: str, body: bytes = b"x", **options: Any) -> None:
    exchange(queue, Settlement(outgoing=[Outgoing(queue=to, body=body, **options)]))


def exchange(queue: SqlQueue, settlement: Settlement, limit: int = 0) -> None:
    """As the transport's thread does it."""
    queue.exchange([settlement], limit)
    queue.finish()


def woken(queue: SqlQueue) -> list[Delivery]:
    """What it claims once its socket has something for it."""
    fileno = queue.fileno()
    assert fileno is not None
    heard, _, _ = select.select([fileno], [], [], PATIENCE)
    assert heard, "nobody woke it"
    return queue.exchange([], 1)[1]


def all_that(ear: Listener, last: str) -> set[str]:
    """The names that were heard until ``last`` was among them."""
    names: set[str] = set()

    def heard() -> bool:
        for _, some in ear.take():
            names.update(some or ())
        return last in names

    until(heard)
    return names


@pytest.fixture
def ear(postgres_url: str) -> Iterator[Listener]:
    """Somebody who listens to everything."""
    database = Database(postgres_url)
    database.migrate("transports")
    one = Listener(database)
    with database.reader() as reader:
        one.listen(reader, QUEUE, END, EVENT)
        yield one


# --- queues -------------------------------------------------------------------------------------------------------


def test_a_message_wakes_an_idle_worker(make: Callable[..., SqlQueue]) -> None:
    """It sleeps for hours, and has the message at once."""
    worker, sender = asleep(make("q")), make()
    assert (worker.patience or 0) > 1000
    send(sender, "q")
    assert [one.body for one in woken(worker)] == [b"x"]


def test_a_message_for_others_is_not_looked_for(make: Callable[..., SqlQueue]) -> None:
    """The wake-up says which queue it is about."""
    worker, sender = asleep(make("q")), make()
    looks: list[float] = []
    worker._claims._look = lambda reader, now: (None, bool(looks.append(now)))  # type: ignore[method-assign]
    send(sender, "other")
    assert woken(worker) == []
    assert looks == []
    send(sender, "q")
    assert woken(worker) == []
    assert len(looks) == 1


@pytest.mark.parametrize("how", ["released", "closed"])
def test_what_is_given_back_wakes_others(make: Callable[..., SqlQueue], how: str) -> None:
    """A worker that ends, or releases, hands over at once."""
    holder = make("q")
    send(holder, "q")
    [delivery] = holder.exchange([], 1)[1]
    worker = asleep(make("q"))
    if how == "released":
        exchange(holder, Settlement(delivery=delivery, release_after=0.0))
    else:
        holder.close()
    assert [one.body for one in woken(worker)] == [b"x"]


def test_a_delayed_message_is_waited_for_exactly(make: Callable[..., SqlQueue]) -> None:
    """One wake-up says that there is a message; then everyone knows when it is due, and nobody asks before."""
    worker, sender = asleep(make("q")), make()
    send(sender, "q", delay=3000.0)
    assert woken(worker) == []
    asleep(worker)
    assert 2000 < (worker.patience or 0) <= 3000


def test_one_who_takes_its_own_message_wakes_nobody(make: Callable[..., SqlQueue], ear: Listener) -> None:
    """A hop from a worker to itself takes no NOTIFY, for a server makes those wait for each other."""
    worker = make("q")
    exchange(worker, Settlement(outgoing=[Outgoing(queue="q", body=b"mine")]), 5)
    send(make(), "marker")
    assert all_that(ear, "marker") == {"marker"}


def test_one_who_cannot_take_it_all_wakes_others(make: Callable[..., SqlQueue], ear: Listener) -> None:
    """Two messages, room for one."""
    worker = make("q")
    outgoing = [Outgoing(queue="q", body=body) for body in (b"1", b"2")]
    exchange(worker, Settlement(outgoing=outgoing), 1)
    assert all_that(ear, "q") == {"q"}


@pytest.mark.parametrize("payload", ["", "junk", "{}", "[" * 7000, '[["q"]]', '[null, "q"]', "\U0001f600"])
def test_anything_may_be_in_a_wake_up(make: Callable[..., SqlQueue], postgres_url: str, payload: str) -> None:
    """Whoever may connect may notify."""
    worker = asleep(make("q"))
    with psycopg.connect(postgres_url, autocommit=True) as anybody:
        anybody.execute("SELECT pg_notify('paigeant_queue_public', %s)", [payload])
    assert woken(worker) == []
    asleep(worker)
    send(make(), "q")
    assert [one.body for one in woken(worker)] == [b"x"]


def test_very_many_names_are_told_as_any(make: Callable[..., SqlQueue], ear: Listener) -> None:
    """A payload has a limit; the wake-up comes all the same."""
    outgoing = [Outgoing(queue=f"a queue with a rather long name {number}", body=b"") for number in range(1000)]
    exchange(make(), Settlement(outgoing=outgoing))
    assert until(ear.take) == [(QUEUE, None)]


# --- trouble ------------------------------------------------------------------------------------------------------


def terminate_others(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_lost_connection_is_noticed_and_replaced(make: Callable[..., SqlQueue], postgres_url: str) -> None:
    """The socket speaks when it breaks; the next exchange says so, and the one after listens again."""
    worker = asleep(make("q"))
    terminate_others(postgres_url)
    with pytest.raises(OperationalError) as raised:
        until(lambda: woken(worker))
    assert not worker.diagnose(raised.value).is_narrow
    worker.disconnect()
    assert worker.fileno() is None
    asleep(worker)
    send(make(), "q")
    assert [one.body for one in woken(worker)] == [b"x"]


def test_a_connection_that_breaks_while_it_wakes_others_is_replaced(
    make: Callable[..., SqlQueue], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was settled is settled. There is no socket to sleep on, and the next exchange says so at once."""
    worker = asleep(make("q"))
    publish = worker._publishing.publish

    def cut(*arguments: Any) -> None:
        publish(*arguments)
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute("SELECT pg_terminate_backend(%s)", [worker._listener._connection.info.backend_pid])

    with monkeypatch.context() as patched:
        patched.setattr(worker._publishing, "publish", cut)
        send(worker, "other")
    assert (worker.fileno(), worker.patience) == (None, 0.0)
    with pytest.raises(OperationalError) as raised:
        worker.exchange([], 1)
    assert not worker.diagnose(raised.value).is_narrow
    worker.disconnect()
    assert worker.depth("other") == 1
    asleep(worker)
    assert worker.fileno() is not None


def test_without_wake_ups_the_database_is_polled(
    make: Callable[..., SqlQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that gives the listening session to somebody else: one warning, then as on SQLite."""
    monkeypatch.setattr(listening, "_PROBE_PATIENCE", 0.01)
    monkeypatch.setattr(listening, "_PROBE_EVERY", 0.0)
    probe = Listener._try_it

    def through_a_pooler(self: Listener) -> None:
        self._connection.execute("UNLISTEN *")
        probe(self)

    monkeypatch.setattr(Listener, "_try_it", through_a_pooler)
    worker = make("q")
    with capture_logs() as logs:
        for _ in range(10):
            worker.exchange([], 1)
    assert [log["log_level"] for log in logs] == ["warning"]
    assert worker.patience in worker.poll
    send(make(), "q")
    assert [one.body for one in worker.exchange([], 1)[1]] == [b"x"]


# --- over the bridge and in the store -----------------------------------------------------------------------------


@pytest.fixture
async def open_transport(postgres_url: str) -> AsyncIterator[Callable[[], KombuTransport]]:
    made: list[Any] = []

    def open_one() -> Any:
        from paigeant import transports

        one = get_transport(postgres_url, lease_seconds=10 * NEVER)
        transports.forget(one)
        made.append(one)
        return one

    yield open_one
    for one in made:
        await one.close()


async def is_asleep(transport: KombuTransport) -> bool:
    patience = await transport._call(lambda pump: pump.patience)
    return patience is not None and patience > 1000


@pytest.mark.anyio
async def test_a_worker_is_woken_over_the_bridge(
    open_transport: Callable[[], KombuTransport], postgres_url: str
) -> None:
    """Before and after every connection there is was terminated."""
    worker, sender = open_transport(), open_transport()
    deliveries = worker.consume(["q"], 10)
    arriving = asyncio.ensure_future(anext(deliveries))
    for body in (b"1", b"2", b"3"):
        await until_async(lambda: is_asleep(worker), PATIENCE)
        await sender.send([Outgoing(queue="q", body=body)])
        [delivery] = await asyncio.wait_for(arriving, PATIENCE)
        assert delivery.body == body
        arriving = asyncio.ensure_future(anext(deliveries))
        await worker.settle(delivery)
        terminate_others(postgres_url)
        await until_async(lambda: _works(sender), PATIENCE)
    arriving.cancel()
    await asyncio.gather(arriving, return_exceptions=True)
    await deliveries.aclose()


async def _works(transport: KombuTransport) -> bool:
    try:
        await transport.depth("q")
    except Exception:  # noqa: BLE001 - any: it was disconnected
        return False
    return True


def begun(correlation_id: str) -> WorkflowDispatched:
    return WorkflowDispatched(correlation_id=correlation_id, at=1.0, name="w", app="a", message_id=correlation_id)


def ended(correlation_id: str) -> WorkflowCompleted:
    return WorkflowCompleted(correlation_id=correlation_id, at=2.0, output=1)


def step(correlation_id: str) -> StepCompleted:
    ids: dict[str, Any] = {"message_id": f"m-{correlation_id}", "step_id": "s", "activity": "a", "worker": "w"}
    return StepCompleted(correlation_id=correlation_id, at=2.0, attempt=1, started_at=1.0, output=1, **ids)


@pytest.mark.anyio
@pytest.mark.parametrize("written_by", ["the store", "the transport"])
async def test_the_end_of_a_workflow_wakes_who_waits_for_it(
    postgres_url: str, make: Callable[..., SqlQueue], written_by: str
) -> None:
    """And an event wakes who waits for events; whether the store wrote them or the transport did in passing."""
    waiting, writing = SqlStore(postgres_url), SqlStore(postgres_url)
    await writing.record([begun("one"), begun("other")])
    end = asyncio.ensure_future(waiting.await_end("one"))
    event = asyncio.ensure_future(waiting.await_event("other", (await writing.events("other"))[-1].offset))
    await until_async(lambda: _listens_for_events(waiting), PATIENCE)
    if written_by == "the store":
        await writing.record([ended("one"), step("other")])
    else:
        queue = make()
        queue.enlist(SqlLedger(postgres_url))
        exchange(queue, Settlement(record=[ended("one"), step("other")]))
    await asyncio.wait_for(asyncio.gather(end, event), PATIENCE)
    assert waiting.access.watch.fileno() is None
    for store in (waiting, writing):
        await store.close()


async def _listens_for_events(store: SqlStore) -> bool:
    return await store.access.thread.run(
        lambda: EVENT in store.access.watch._listener._topics and (store.access.watch.pause or 0) > 1000
    )
