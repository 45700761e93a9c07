"""Headers that came as JSON: what readers may read differently counts as absent."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant.transports.redis.exchange import claim
from paigeant.transports.sql.rows import json_object

GOOD = {
    '{"a": 1}': {"a": 1},
    '{"a": {"b": [1, 2]}, "c": null}': {"a": {"b": [1, 2]}, "c": None},
    "{}": {},
}
BAD = ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', "[1]", "1", "", "{", "[" * 100_000, '{"a": "\\ud800"}']


def of_redis(text: str) -> Any:
    return claim([b"q", b"s:0", b"1-0", 1, 1, 0, 0, b"b", b"body", b"h", text.encode()]).delivery.headers


@pytest.mark.parametrize("read", [json_object, of_redis])
@pytest.mark.parametrize(("text", "headers"), GOOD.items())
def test_headers_are_read(read: Any, text: str, headers: dict[str, Any]) -> None:
    """As they were written."""
    assert read(text) == headers


@pytest.mark.parametrize("read", [json_object, of_redis])
@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_headers_that_readers_read_differently_are_absent(read: Any, text: str) -> None:
    """The message itself is delivered."""
    assert read(text) == {}


@pytest.mark.parametrize("found", [None, 5, b"\xff", memoryview(b"{}"), 1.5])
def test_a_column_of_another_type_has_none(found: Any) -> None:
    """SQLite stores a value of any type in any column."""
    assert json_object(found) == {}
