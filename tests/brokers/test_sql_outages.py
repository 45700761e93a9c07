"""PostgreSQL away for longer than a lease, or silent: nobody is taken for dead, and work goes on soon afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from brokers.servers import PostgresServer
from helpers import until
from sqlalchemy.exc import SQLAlchemyError

from paigeant.database import Database
from paigeant.transport import Delivery, Outgoing
from paigeant.transports import new_transport
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEASE = 6.0


def process(url: str) -> SqlQueue:
    """What one worker has of the transport."""
    queue = SqlQueue(Database(url, longest_statement=5.0), LEASE)
    queue.open()
    queue.subscribe(["q"])
    return queue


def after_an_outage(queue: SqlQueue) -> list[Delivery]:
    """As the transport's thread does: drop the connections after trouble, and look again."""
    try:
        return queue.exchange([], 10)[1]
    except SQLAlchemyError:
        queue.disconnect()
        return []


def is_settled(queue: SqlQueue, delivery: Delivery) -> bool:
    try:
        return queue.exchange([Settlement(delivery=delivery)], 0)[0] == [True]
    except SQLAlchemyError:
        queue.disconnect()
        return False


@pytest.mark.parametrize("is_new", [False, True], ids=["a worker that was there before", "a new worker"])
def test_no_lease_runs_out_while_the_server_is_away(own_postgres: PostgresServer, is_new: bool) -> None:
    """The step ran through the outage; its result counts, and nobody else runs it."""
    holder, other = process(own_postgres.url), process(own_postgres.url)
    holder.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"m", id="m")])], 0)
    [delivery] = holder.exchange([], 1)[1]
    assert other.exchange([], 1)[1] == []
    own_postgres.kill()
    gone = time.monotonic()
    until(lambda: time.monotonic() - gone > LEASE + 1, 2 * LEASE)
    own_postgres.start()
    if is_new:
        other.disconnect()
        other = process(own_postgres.url)
    back = time.monotonic()
    until(lambda: after_an_outage(other) or time.monotonic() - back > LEASE / 4, LEASE)
    assert not other.holder.held
    assert not delivery.lease.lost
    until(lambda: is_settled(holder, delivery), 10)
    holder.close()
    other.close()


def test_whoever_died_in_an_outage_is_noticed_one_lease_after_it(own_postgres: PostgresServer) -> None:
    """Its message comes again, counted as delivered twice, though the server was restarted again and again."""
    dead, heir = process(own_postgres.url), process(own_postgres.url)
    dead.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"m", id="m")])], 0)
    assert dead.exchange([], 1)[1]
    dead.disconnect()
    for _ in range(3):
        own_postgres.restart()
    found: list[Delivery] = []
    until(lambda: found.extend(after_an_outage(heir)) or found, 6 * LEASE)
    assert found[0].deliveries == 2
    heir.close()


# --- a server that says nothing -----------------------------------------------------------------------------------


def processes_of(server: PostgresServer) -> list[int]:
    """The server and what it has started."""
    assert server.process is not None
    parent = str(server.process.pid)
    stats = [entry.read_text().rpartition(")")[2].split()[1] == parent and int(entry.parent.name) for entry in _stats()]
    return [server.process.pid, *(pid for pid in stats if pid)]


def _stats() -> Iterator[Path]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        if entry.exists():
            yield entry


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Connections stay open, new ones are accepted, and nobody answers: as behind a black hole."""
    stopped = processes_of(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def consuming(url: str) -> AsyncIterator[asyncio.Queue[Delivery]]:
    """A worker's transport; what it is handed, as it is handed it."""
    transport, came = new_transport(url, lease_seconds=15.0), asyncio.Queue[Delivery]()

    async def consume() -> None:
        async for batch in transport.consume(["q"], 10):
            for delivery in batch:
                came.put_nowait(delivery)

    consumer = asyncio.create_task(consume())
    yield came
    consumer.cancel()
    await asyncio.gather(consumer, return_exceptions=True)
    await transport.close()


async def test_work_goes_on_soon_after_a_silent_server_speaks_again(own_postgres: PostgresServer) -> None:
    """The first message comes within a few seconds: neither time-outs nor pauses add up."""
    sender = new_transport(own_postgres.url, lease_seconds=15.0)
    await sender.declare("q")
    async with consuming(own_postgres.url) as came:
        await sender.send([Outgoing(queue="q", body=b"before", id="before")])
        assert (await asyncio.wait_for(came.get(), 10)).id == "before"
        with frozen(own_postgres):
            sending = asyncio.create_task(sender.send([Outgoing(queue="q", body=b"after", id="after")]))
            await asyncio.wait([sending], timeout=25)
        ended = time.monotonic()
        await asyncio.gather(sending, return_exceptions=True)
        if not sending.done() or sending.exception() is not None:
            await sender.send([Outgoing(queue="q", body=b"after", id="after")])
        assert (await asyncio.wait_for(came.get(), 30)).id == "after"
        assert time.monotonic() - ended < 6
    await sender.close()
