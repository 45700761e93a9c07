"""What is special about the SQL transport as a kombu transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers import until
from kombu import Connection
from sqlalchemy import text
from transports.kombu_programs import Backend, everything, get, put, sql

from paigeant.transports.sql.transport import LONGEST_STATEMENT, longest_statement


@pytest.fixture
def backend(database_url: str) -> Backend:
    """Empty SQL queues of each kind."""
    return sql(database_url)


def test_the_url_leads_back_to_the_same_database(connect: Callable[..., Connection], database_url: str) -> None:
    """By the transport's name or by the scheme; as a URI, a clone, or from a pool."""
    named = Connection(database_url.replace("+psycopg", ""), transport="paigeant.transports.sql:Transport")
    connections = [named, Connection(named.as_uri(include_password=True)), connect().clone()]
    pool = connect().Pool(2)
    connections.append(pool.acquire())
    for number, connection in enumerate(connections):
        put(connection, f"m{number}")
    assert everything(connect()) == ["m0", "m1", "m2", "m3"]
    for connection in connections:
        connection.release()
    pool.force_close_all()


def test_a_uri_does_not_show_the_password() -> None:
    """Unless it is asked to."""
    connection = Connection("paigeant+postgresql://user:secret@host/name")
    assert "secret" not in connection.as_uri()
    assert "user:secret@host/name" in connection.as_uri(include_password=True)


def test_a_driver_may_be_named(tmp_path: Any) -> None:
    """kombu takes what comes before the first plus sign for a transport."""
    with Connection(f"paigeant+sqlite+pysqlite:///{tmp_path / 'q.db'}") as connection:
        put(connection, "m")
        assert everything(connection) == ["m"]


def test_a_database_that_cannot_be_opened_is_a_connection_error(tmp_path: Any) -> None:
    """Found when connecting, not with the first message."""
    connection = Connection(f"paigeant+sqlite:///{tmp_path / 'missing' / 'q.db'}")
    with pytest.raises(connection.connection_errors):
        connection.connect()


def test_channels_share_a_database_in_memory() -> None:
    """For tests: one connection, one database."""
    with Connection("paigeant+sqlite://") as connection:
        put(connection, "m")
        assert connection.channel().basic_get("q", no_ack=True).payload == "m"


@pytest.mark.parametrize(
    "headers", ['{"x-kombu": 5}', '{"x-kombu": {"properties": []}}', '{"a": {"__type__": "?", "__value__": 1}}']
)
def test_strange_headers_do_not_stop_the_consumer(connection: Connection, headers: str) -> None:
    """Whoever can write to the database could write them."""
    put(connection, "m")
    queue = connection.default_channel._queue
    queue.write(lambda writer: writer.execute(text("UPDATE paigeant_message SET headers = :h"), {"h": headers}))
    assert get(connection).body == b'"m"' or get(connection) is None


def test_an_idle_channel_opens_nothing(connect: Callable[..., Connection]) -> None:
    """paigeant's bridge takes the pump and connects when it is used."""
    channel = connect().channel()
    assert not {"_writer", "_reader"} & channel.pump.__dict__.keys()
    assert channel.pump is channel.pump


def test_connections_are_made_anew_after_trouble(connection: Connection) -> None:
    """The same channel works again once the database does."""
    put(connection, "m")
    queue = connection.default_channel._queue
    queue._reader.invalidate()
    queue._writer.invalidate()
    for _ in range(2):
        try:
            message = get(connection)
            break
        except connection.connection_errors:
            continue
    assert message.payload == "m"


def test_a_busy_program_keeps_the_lease_without_draining(connect: Callable[..., Connection], database_url: str) -> None:
    """A thread does it for as long as the channel lives."""
    with Connection(f"paigeant+{database_url}", transport_options={"lease_seconds": 0.3}) as busy:
        put(busy, "m")
        message = get(busy, no_ack=False)
        queue = connect(clock=None).default_channel._queue
        ends = [queue.read(_lease_ends)]
        for _ in range(4):
            ends.append(until(lambda: _later(queue.read(_lease_ends), ends[-1])))
        assert ends == sorted(ends)
        message.ack()
        heartbeat = busy.default_channel._heartbeat
    until(lambda: not heartbeat.is_alive())


def _lease_ends(reader: Any) -> float:
    return float(reader.execute(text("SELECT max(expires_at) FROM paigeant_holder")).scalar_one() or 0)


def _later(found: float, before: float) -> float:
    return found if found > before else 0.0


@pytest.mark.parametrize(("lease", "seconds"), [(30.0, 8.0), (24.0, 6.0), (300.0, LONGEST_STATEMENT), (2.0, 5.0)])
def test_a_silent_server_is_found_out_while_leases_last(lease: float, seconds: float) -> None:
    """A third of the lease before the renewal, a third for the silence, a third to connect; never too short to work."""
    assert longest_statement(lease) == seconds
