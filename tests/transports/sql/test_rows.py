"""Rows that paigeant did not write: each is handed out, for what it is worth, and none of them stops a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Queue
from sqlalchemy import text

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue
from paigeant.transports.sql.rows import as_number, json_object

DEEP = "[" * 100_000
GOOD: dict[str, Any] = {
    "queue": "q",
    "message_id": "hostile",
    "priority": 0,
    "enqueued_at": 0.0,
    "available_at": None,
    "expires_at": None,
    "token": 0,
    "deliveries": 0,
    "headers": "{}",
    "body": b"hostile",
}

ANYWHERE: dict[str, dict[str, Any]] = {
    "headers that are no JSON": {"headers": "hello?"},
    "no headers": {"headers": ""},
    "a list for headers": {"headers": "[1]"},
    "null for headers": {"headers": "null"},
    "headers without end": {"headers": DEEP},
    "deep headers": {"headers": '{"a":' * 300 + "1" + "}" * 300},
    "an unknown type in headers": {"headers": '{"a": {"__type__": "os.system", "__value__": "true"}}'},
    "a wrong type in headers": {"headers": '{"a": {"__type__": "decimal", "__value__": "one"}}'},
    "an envelope that is none": {"headers": '{"x-kombu": 3}'},
    "an envelope of nothing": {"headers": '{"x-kombu": {"properties": {"delivery_info": "q"}}}'},
    "no message id": {"message_id": None},
    "an empty body": {"body": b""},
    "a token that cannot grow": {"token": 2**63 - 1},
    "deliveries that cannot grow": {"deliveries": 2**31 - 1},
    "fewer than no deliveries": {"deliveries": -(2**31)},
    "a priority nobody has": {"priority": -(2**31)},
    "an owner that is gone": {"owner": "nobody"},
    "an odd time": {"enqueued_at": float("inf"), "expires_at": float("inf")},
}
SQLITE_ONLY: dict[str, dict[str, Any]] = {
    "text for a body": {"body": "text"},
    "a number for a body": {"body": 10**12},
    "text for a priority": {"priority": "urgent"},
    "bytes for a priority": {"priority": b"\xff"},
    "text for counts": {"token": "many", "deliveries": "many"},
    "bytes for a message id": {"message_id": b"\xff\xfe"},
    "bytes for headers": {"headers": b"\xff\xfe"},
    "an owner in bytes": {"owner": b"\xff"},
}
NOT_TEXT = ("headers", "message_id", "owner")


def plant(queue: SqlQueue, values: dict[str, Any]) -> None:
    """Write a row without any of our code."""
    row = GOOD | values
    statement = f"INSERT INTO paigeant_message ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"
    with queue.database.writer() as connection, connection.begin():
        connection.execute(text(statement), row)


def all_that_comes(queue: SqlQueue) -> list[bytes]:
    """Everything that waits, settled one after another as by a worker."""
    came = []
    while deliveries := queue.exchange([], 10)[1]:
        for delivery in deliveries:
            assert isinstance(delivery.body, bytes)
            assert isinstance(delivery.headers, dict)
            assert delivery.deliveries
            came.append(delivery.body)
        assert all(queue.exchange([Settlement(delivery=one) for one in deliveries], 0)[0])
    return came


def send_good(queue: SqlQueue) -> None:
    queue.exchange([Settlement(outgoing=[Outgoing(queue="q", body=b"good", id="good")])], 0)


@pytest.mark.parametrize("values", ANYWHERE.values(), ids=ANYWHERE)
def test_no_row_stops_a_worker(queue: SqlQueue, values: dict[str, Any]) -> None:
    """The row before a good message is handed out, and so is the good one."""
    plant(queue, values)
    send_good(queue)
    came = all_that_comes(queue)
    assert b"good" in came
    assert len(came) == 2


@pytest.mark.parametrize("values", SQLITE_ONLY.values(), ids=SQLITE_ONLY)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_value_of_a_wrong_type_stops_a_worker(queue: SqlQueue, values: dict[str, Any]) -> None:
    """SQLite keeps any value in any column."""
    plant(queue, values)
    send_good(queue)
    came = all_that_comes(queue)
    assert b"good" in came
    assert len(came) == 2


@pytest.mark.parametrize("column", NOT_TEXT)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_text_that_is_no_text_stops_nobody(queue: SqlQueue, column: str) -> None:
    """SQLite takes any bytes for text."""
    plant(queue, {})
    with queue.database.writer() as connection, connection.begin():
        connection.execute(text(f"UPDATE paigeant_message SET {column} = CAST(x'fffe' AS TEXT)"))
    send_good(queue)
    assert b"good" in all_that_comes(queue)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_time_that_is_none_stops_nobody(queue: SqlQueue) -> None:
    """A message due at ``soon`` is never due, and keeps no other one waiting."""
    plant(queue, {"available_at": "soon"})
    send_good(queue)
    assert all_that_comes(queue) == [b"good"]


@pytest.mark.parametrize(
    "arguments",
    [
        "hello?",
        "[]",
        "3",
        DEEP,
        '{"x-delivery-limit": "many", "x-dead-letter-exchange": ""}',
        '{"x-delivery-limit": 1, "x-dead-letter-exchange": {}}',
        '{"x-dead-letter-exchange": "nowhere", "x-message-ttl": "soon"}',
    ],
    ids=lambda value: value[:40],
)
def test_no_arguments_of_a_queue_stop_a_worker(make_queue: Callable[..., SqlQueue], clock: Any, arguments: str) -> None:
    """Not when its messages are claimed, and not when one of them expires."""
    queue = make_queue("q")
    with queue.database.writer() as connection, connection.begin():
        connection.execute(
            text("INSERT INTO paigeant_queue (name, arguments) VALUES ('q', :arguments)"), {"arguments": arguments}
        )
    plant(queue, {"expires_at": clock.now() + 1, "headers": '{"x-death": [{"queue": "q", "reason": "expired"}]}'})
    clock.advance(100)
    send_good(queue)
    assert b"good" in all_that_comes(queue)


@pytest.mark.parametrize("values", ANYWHERE.values(), ids=ANYWHERE)
def test_a_kombu_program_gets_every_row(queue: SqlQueue, database_url: str, values: dict[str, Any]) -> None:
    """As a message, with whatever of it can be read."""
    plant(queue, values)
    with Connection(f"paigeant+{database_url}") as connection, connection.channel() as channel:
        message: Any = Queue("q", channel=channel).get()
        assert message is not None or "owner" in values
        if message is not None:
            message.ack()


@given(st.text() | st.binary() | st.none() | st.integers() | st.recursive(st.none(), st.lists).map(str))
def test_headers_are_an_object_or_none(value: Any) -> None:
    """Whatever stands in the column."""
    assert isinstance(json_object(value), dict)


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1), (1.5, 1.5), (float("nan"), None), ("1", None), (None, None), (b"1", None)]
)
def test_a_number_is_a_number(value: Any, number: float | None) -> None:
    """And nothing else is."""
    assert as_number(value) == number
