from __future__ import annotations

import json
import math
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict
from unit.builders import entry, json_values, slip

from paigeant.errors import NotSerializable
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.typed_values import revive
from paigeant.wire.values import jsonable, printable


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Mood(StrEnum):
    GOOD = "good"


class Address(BaseModel):
    street: str
    zip: bytes = b""


class Customer(BaseModel):
    id: UUID
    born: datetime
    balance: Decimal
    addresses: list[Address] = []
    colour: Colour | None = None


@dataclass
class Line:
    amount: Decimal
    raw: bytes


@dataclass
class Bill:
    lines: list[Line] = dataclass_field(default_factory=list)
    due: date | None = None


@pydantic_dataclass
class Paid:
    raw: bytes
    at: datetime


class Named(NamedTuple):
    raw: bytes
    size: Size


class Typed(TypedDict):
    raw: bytes


ID = UUID("12345678-1234-5678-1234-567812345678")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

ROUND_TRIPS = [
    (None, None),
    (True, bool),
    (0, int),
    (-(2**70), int),
    (1.5, float),
    (math.inf, float),
    (-math.inf, float),
    ("naïve \U0001f600 \x00", str),
    (b"plain", bytes),
    (b"\xff\xfe\x00not utf-8", bytes),
    (MOMENT, datetime),
    (MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))), datetime),
    (datetime(2026, 1, 2), datetime),  # noqa: DTZ001 - a naive one stays naive
    (date(2026, 1, 2), date),
    (time(1, 2, 3), time),
    (timedelta(days=-1, seconds=5, microseconds=7), timedelta),
    (ID, UUID),
    (Decimal("10.50"), Decimal),
    (Decimal("1e-30"), Decimal),
    (Colour.RED, Colour),
    (Size.SMALL, Size),
    (Mood.GOOD, Mood),
    (Path("/a/b"), Path),
    ({1, 2}, set[int]),
    (frozenset({b"\xff"}), frozenset[bytes]),
    ((1, "a", b"\xff"), tuple[int, str, bytes]),
    ([MOMENT, None], list[datetime | None]),
    ({ID: [Decimal("1.0")]}, dict[UUID, list[Decimal]]),
    ({1: "a"}, dict[int, str]),
    (Address(street="x", zip=b"0123"), Address),
    (Customer(id=ID, born=MOMENT, balance=Decimal(1), addresses=[Address(street="x")], colour=Colour.RED), Customer),
    ([Address(street="x")], list[Address]),
    ({"home": Address(street="x")}, dict[str, Address]),
    (Line(Decimal("0.1"), b"\xff"), Line),
    (Bill([Line(Decimal("0.1"), b"abc")], date(2026, 1, 1)), Bill),
    ([Line(Decimal("0.1"), b"\xff")], list[Line]),
    (Line(Decimal("0.1"), b"\xff"), Line | None),
    (Paid(b"abc", MOMENT), Paid),
    (Named(b"\xff", Size.SMALL), Named),
    (Typed(raw=b"\xff"), Typed),
    ("a", Literal["a", "b"]),
]


@pytest.mark.parametrize(("value", "annotation"), ROUND_TRIPS, ids=lambda one: repr(one)[:40])
def test_a_value_comes_back_as_what_it_was(value, annotation):
    """Written, sent as JSON text, read by another process and given its annotated type again."""
    wire = json.loads(json.dumps(jsonable(value), allow_nan=False))
    assert revive(wire, annotation) == value


def test_nan_comes_back():
    """It is not equal to itself, so it needs a test of its own."""
    assert math.isnan(revive(jsonable(math.nan), float))


@given(st.binary())
def test_any_bytes_come_back(value):
    """UTF-8 or not, alone or in a dataclass."""
    assert revive(jsonable(value), bytes) == value
    assert revive(jsonable(Line(Decimal(1), value)), Line) == Line(Decimal(1), value)


@given(json_values)
def test_json_types_are_written_as_they_are(value):
    """Without an annotation what arrives is what was sent."""
    assert revive(jsonable(value), Any) == value


@given(json_values)
def test_writing_twice_changes_nothing(value):
    """What is on the wire already is not written differently by the next worker."""
    assert jsonable(jsonable(value)) == jsonable(value)


# --- refusals --------------------------------------------------------------------------------------------------------


def _nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value


def _cyclic() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@dataclass
class Holder:
    inner: Any


class Loose(BaseModel):
    inner: Any


REFUSED = [
    (object(), "value cannot"),
    ({"a": {"b": [1, object()]}}, "value['a']['b'][1] cannot"),
    (Holder({"x": object()}), "value.inner['x'] cannot"),
    (Loose(inner=[object()]), "value.inner[0] cannot"),
    ([lambda: None], "value[0] cannot"),
    ({"a": "\ud800"}, "value['a'] cannot be written as JSON: it is text with a lone surrogate"),
    ([10**5000], "value[0] cannot be written as JSON: it is a number with too many digits"),
    (_nested(500), "nested too deeply"),
    (_cyclic(), "contains itself"),
    (Address(street="x", zip=b"\xff"), "it is an Address"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_written_is_refused_by_its_path(value, words):
    """The developer sees which part of which argument is meant."""
    with pytest.raises(NotSerializable) as caught:
        jsonable(value)
    assert words in str(caught.value)
    assert caught.value.hint


def test_the_path_begins_with_the_name_that_was_given():
    """For an argument: the activity's name and the parameter's."""
    with pytest.raises(NotSerializable, match=r"^validate\.email\[0\] cannot"):
        jsonable([object()], "validate.email")


@given(st.integers(1, 400))
def test_what_is_written_can_be_read_inside_a_message(depth):
    """A value nested as deep as is allowed still fits below the reader's limit with the message around it."""
    try:
        value = jsonable(_nested(depth))
    except NotSerializable:
        assert depth > 150
        return
    moved = slip("a", "b").completed(entry("1", output=value), {"x": {"y": value}})
    sent = PaigeantMessage(routing_slip=moved)
    assert PaigeantMessage.from_json(sent.to_json()).routing_slip == moved


# --- how strict reviving is ------------------------------------------------------------------------------------------

FITS = [
    (1, int, 1),
    (1.0, int, 1),
    ("5", int, 5),
    (1, float, 1.0),
    ("1.5", float, 1.5),
    ("Infinity", float, math.inf),
    (True, bool, True),
    (1, bool, True),
    ("yes", bool, True),
    (True, int, 1),
    ([], list[int], []),
    (None, int | None, None),
    (3, Annotated[int, Field(gt=2)], 3),
    ("x", Any, "x"),
    ("secret", SecretStr, SecretStr("secret")),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), FITS, ids=repr)
def test_what_fits_becomes_the_annotated_type(value, annotation, expected):
    """pydantic's lax rules: nothing is lost by the conversion."""
    revived = revive(value, annotation)
    assert (type(revived), revived) == (type(expected), expected)


MISFITS = [
    (1.5, int),
    ("five", int),
    ("", int),
    (None, int),
    (5, str),
    (True, str),
    (None, str),
    (2, bool),
    ("maybe", bool),
    (None, bool),
    ("many", float),
    (0, type(None)),
    (2, Annotated[int, Field(gt=2)]),
    ({"street": 5}, Address),
    ({}, Address),
    ("???", bytes),
    ("2026-13-01", date),
    ([1, "x"], list[int]),
]


@pytest.mark.parametrize(("value", "annotation"), MISFITS, ids=repr)
def test_what_does_not_fit_is_refused(value, annotation):
    """Nothing is guessed: a fraction is no int, a number no text, 2 no bool."""
    with pytest.raises(ValidationError):
        revive(value, annotation)


@given(st.text(st.characters(), max_size=20))
def test_printable_text_is_taken_by_every_database(text):
    """No lone surrogates and no NUL; letters and line breaks stay."""
    shown = printable(text)
    assert "\x00" not in shown
    assert shown.encode().decode() == shown
