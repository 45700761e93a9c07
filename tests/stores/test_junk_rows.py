"""Rows that paigeant did not write: nobody who reads the store is stopped by one, and what is good is read as ever."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Table, Text, text
from sqlalchemy import types as sql_types
from sqlalchemy.exc import IntegrityError
from stores.builders import completed, dispatched, outgoing

from paigeant.records.workflow import Status
from paigeant.stores.sql import SqlStore
from paigeant.stores.tables import JsonText, metadata

pytestmark = pytest.mark.anyio

DEEP = "[" * 100_000
JSONS = ["junk", "", "5", "[5]", '"text"', "null", '{"a": 1}', DEEP]
ANYTHING: list[Any] = ["junk", b"\xff\xfe", 5, -1.5, None]
"""What SQLite keeps in a column of any type."""


def values(table: Table, junk: Any, json: str) -> dict[str, Any]:
    """A row of junk in the columns that are no key, with one that is of its kind in those that are."""
    return {
        column.name: json if isinstance(column.type, JsonText) else junk
        for column in table.columns
        if not column.primary_key and column.name not in ("correlation_id", "cause_id")
    }


def plant(connection: Connection, table: Table, number: int, row: dict[str, Any]) -> None:
    """Without any of our code."""
    keys: dict[str, Any] = {
        column.name: f"junk-{number}" if isinstance(column.type, Text) else number
        for column in table.columns
        if column.name in ("correlation_id", "cause_id")
        or (column.primary_key and not isinstance(column.type, sql_types.BigInteger))  # the database counts those
    }
    row = keys | row
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table.name} ({names}) VALUES ({places})"), row)


def typed(table: Table) -> dict[str, Any]:
    """What a server that checks types takes in the columns that are not JSON."""
    of_kind = {sql_types.LargeBinary: b"\xff", sql_types.Text: "junk", sql_types.Integer: -(2**31)}
    return {
        column.name: next((value for kind, value in of_kind.items() if isinstance(column.type, kind)), -1.0)
        for column in table.columns
        if not isinstance(column.type, JsonText)
    }


def junk_for(table: Table, is_sqlite: bool) -> list[dict[str, Any]]:
    if is_sqlite:
        return [values(table, junk, json) for junk in ANYTHING for json in JSONS]
    keep = values(table, None, "")
    return [{name: typed(table).get(name, json) for name in keep} for json in JSONS]


def plant_everywhere(store: SqlStore) -> int:
    """In every table; how many rows in each at most."""
    is_sqlite = store.access.database.is_sqlite
    planted = 0
    with store.access.database.writer() as connection:
        for table in metadata.sorted_tables:
            for number, row in enumerate(junk_for(table, is_sqlite), 10_000):
                with suppress(IntegrityError), connection.begin():  # a column that must not be empty
                    plant(connection, table, number, row)
                    planted = max(planted, number - 9_999)
    return planted


async def test_no_reader_is_stopped_by_a_row_of_junk(store: SqlStore) -> None:
    """Every question is answered, for what the rows are worth, and the good ones are as they were."""
    await store.record([dispatched("good")], [outgoing("good-1")])
    assert plant_everywhere(store) > 5
    junk = "junk-10000"

    assert "good" in {one.correlation_id for one in await store.workflows(limit=1000)}
    assert (await store.workflow(junk)) is not None
    assert sum((await store.counts()).values()) > 5
    assert await store.find("junk")
    for name in [f"junk-{number}" for number in range(10_000, 10_045, 4)]:
        await store.workflow(name)
        await store.events(name)
        await store.standing(name, name)
        await store.successors(name)
    for letter in await store.dead_letters(1000):
        assert isinstance(letter.body, bytes)
    assert all(isinstance(worker.queues, tuple) for worker in await store.workers())
    assert all(isinstance(held.body, bytes) for held in await store.held(limit=1000))
    await store.match()
    await store.take_due()
    for queue in await store.overdue(0.0):
        await store.take_overdue(queue, 0.0, 1000)

    assert await store.record([completed("good")], cause="good-1") is True
    good = await store.workflow("good")
    assert good is not None
    assert (good.status, good.steps[0].status) == (Status.RUNNING, "completed")
