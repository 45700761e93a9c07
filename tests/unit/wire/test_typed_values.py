from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, Optional, TypeVar, Union
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import Aliased, Order
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, SecretStr, create_model
from pydantic._internal import _generics
from typing_extensions import TypedDict

from paigeant.errors import NotSerializable
from paigeant.wire.typed_values import CLASS, difference, form_of, output_form, revive, serialize_for


class Approve(BaseModel):
    reason: str


class Reject(BaseModel):
    reason: str


class Late(Reject):
    days: int = 0


@dataclass
class Point:
    x: int


@dataclass
class Pixel:
    x: int


class Colour(StrEnum):
    RED = "red"


class Person(BaseModel):
    last: str = Field(serialization_alias="lastName")


class Hidden(BaseModel):
    limit: int = Field(exclude=True, default=0)


class Login(BaseModel):
    password: SecretStr


class Pair(NamedTuple):
    left: int


class Noted(BaseModel):
    n: int
    _note: str = PrivateAttr("")
    _double: int = PrivateAttr(0)
    _lock: object = PrivateAttr(default_factory=object)

    def model_post_init(self, context: Any, /) -> None:
        self._double = 2 * self.n


class Renoted(Noted):
    filled_on_reading: ClassVar = frozenset({"_note"})


def noted(kind: type[Noted]) -> Noted:
    made = kind(n=1)
    made._note = "mine"
    return made


class Verdicts(BaseModel):
    first: Approve | Reject


Cents = Annotated[int, AfterValidator(lambda euros: euros * 100)]


class Price(BaseModel):
    cents: Cents


def on_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def exact(one: Any, other: Any) -> bool:
    """Whether two values are the same, with the types of all their parts. Written apart from what it checks."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return exact(dict(one), dict(other))
    if is_dataclass(one):
        return all(exact(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(exact(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(exact, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


# --- what comes back -------------------------------------------------------------------------------------------------

COMES_BACK = {
    "the member of a union with equal fields": (Approve | Reject, Reject(reason="no")),
    "its first member": (Approve | Reject, Approve(reason="yes")),
    "an optional union": (Optional[Union[Approve, Reject]], Reject(reason="no")),  # noqa: UP007, UP045
    "a union in Annotated": (Annotated[Approve | Reject, "a note"], Reject(reason="no")),
    "a subclass": (Reject, Late(reason="no", days=2)),
    "a subclass of a member": (Approve | Reject, Late(reason="no")),
    "dataclasses with equal fields": (Point | Pixel, Pixel(1)),
    "a computed field and extra=forbid": (Order, Order(net=1)),
    "an alias for writing": (Person, Person(last="Lovelace")),
    "an alias for both ways": (Aliased, Aliased(lastName="Lovelace")),
    "an enumeration": (Colour, Colour.RED),
    "a literal": (Literal[Colour.RED], Colour.RED),
    "not a number": (float, math.nan),
    "an excluded field at its default": (Hidden, Hidden()),
    "a list of a union with equal fields": (list[Approve | Reject], [Reject(reason="no"), Approve(reason="yes")]),
    "lists in a list": (list[list[Approve | Reject]], [[Reject(reason="no")], []]),
    "a model beside a dictionary": (dict[str, Any] | Approve, Approve(reason="yes")),
    "a set of a union": (set[Colour | int], {Colour.RED, 1}),
}


@pytest.mark.parametrize(("annotation", "value"), COMES_BACK.values(), ids=COMES_BACK)
def test_a_value_comes_back_as_the_class_it_was(annotation, value):
    """Written by one process and read by another one."""
    form = form_of(annotation)
    assert exact(form.read(on_the_wire(form.write(value, "x"))), value)


def test_the_class_travels_only_where_the_fields_do_not_tell():
    """Other readers see plain objects."""
    assert form_of(Approve | Reject).write(Approve(reason="y"), "x") == {"reason": "y"}
    assert form_of(Approve | Point).write(Point(1), "x") == {"x": 1}
    assert form_of(Approve | Reject).write(Reject(reason="n"), "x") == {CLASS: "Reject", "reason": "n"}


@pytest.mark.parametrize("annotation", [Reject, Approve, dict, Any])
def test_a_reader_of_one_class_reads_what_it_asks_for(annotation):
    """The name of a class only chooses among those of the reader's own annotation."""
    read = revive({CLASS: "Reject", "reason": "n"}, annotation)
    assert type(read) is (annotation if annotation in (Reject, Approve) else dict)


def test_data_cannot_name_a_class_that_the_annotation_does_not_allow():
    """The name is looked up in the annotation and nowhere else."""
    read = revive({CLASS: "subprocess:Popen", "reason": "n"}, Approve | Reject)
    assert type(read) in (Approve, Reject)


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "a secret": (Login, Login(password="hunter2"), r"x\.password is a secret"),
    "a secret without an annotation": (
        Any,
        {"login": [Login(password="a")]},
        r"x\['login'\]\[0\]\.password is a secret",
    ),
    "an excluded field": (Hidden, Hidden(limit=5), r"x\.limit is excluded"),
    "an excluded field without an annotation": (Any, [Hidden(limit=5)], r"x\[0\]\.limit is excluded"),
    "a guessed member inside": (Verdicts, Verdicts(first=Reject(reason="n")), r"x\.first is a Reject .* an Approve"),
    "a validator that changes again": (Price, Price(cents=5), r"x\.cents .* another value"),
    "another type": (int, "five", "x cannot be read back as its declared type"),
    "None": (str, None, "x cannot be read back as its declared type"),
    "an enumeration that becomes text as a key": (
        dict[str | Colour, int],
        {Colour.RED: 1},
        r"x\[.*red.*\] as a key is a Colour and would be read as a str",
    ),
    "an enumeration that becomes text in a set": (
        set[str | Colour],
        {Colour.RED},
        r"x\[.*red.*\] is a Colour and would be read as a str",
    ),
    "a model that becomes a dictionary": (
        tuple[dict | Approve],
        (Approve(reason="y"),),
        r"\[0\] is an Approve .* dict",
    ),
    "a named tuple that becomes a list": (tuple[list | Pair], (Pair(1),), r"x\[0\] is a Pair .* a list"),
    "a private attribute": (Noted, noted(Noted), r"x\._note .* another value"),
    "a key with a lone surrogate": (dict[str, int], {"\ud800": 1}, r"x\['\\ud800'\] .* lone surrogate"),
    "an enumeration that becomes text": (str | Colour, Colour.RED, "x is a Colour and would be read as a str"),
}


@pytest.mark.parametrize(("annotation", "value", "why"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_would_not_come_back_is_refused_by_path(annotation, value, why):
    """Where it is written, not where it is read."""
    with pytest.raises(NotSerializable, match=why) as caught:
        form_of(annotation).write(value, "x")
    assert caught.value.hint


def test_a_given_secret_is_refused_as_plain_text_too():
    """The parameter says that it is one."""
    with pytest.raises(NotSerializable, match="x is a secret"):
        form_of(SecretStr).serialize("hunter2", "x")


def test_a_value_that_is_given_is_changed_once():
    """By the validators of its parameter, when it is read."""
    form = form_of(Cents)
    assert form.read(form.serialize(5, "x")) == 500


# --- lenience --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (float, 5, 5.0),
        (str, Colour.RED, "red"),
        (dict[str, int], OrderedDict(a=1), {"a": 1}),
        (list, [date(2026, 1, 1)], ["2026-01-01"]),
        (dict[str, Any], {"a": (1, 2)}, {"a": [1, 2]}),
        (Any, {1, 2}, [1, 2]),
    ],
    ids=repr,
)
def test_an_annotation_that_promises_no_type_keeps_none(annotation, value, read):
    """What is read is the JSON of what was written, or the builtin it was derived from."""
    form = form_of(annotation)
    assert form.read(on_the_wire(form.write(value, "x"))) == read


def test_an_annotation_that_pydantic_cannot_read_promises_nothing():
    """The step's output is written as JSON."""

    class Own: ...

    assert output_form(Own).write([1], "x") == [1]


def test_values_that_are_read_are_copies():
    """A step that changes them in place changes nothing in the message."""
    value = {"a": [1]}
    revive(value, Any)["a"].append(2)
    revive(value, dict[str, Any])["a"].append(2)
    assert value == {"a": [1]}


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), ([1], [True]), ({"a": 1}, {"a": 1, "b": 2}), ([1], [1, 2]), ((1,), [1]), (1, "1")]
)
def test_differences_are_seen(one, other):
    """In either direction."""
    assert difference(one, other) is not None or difference(other, one) is not None


# --- anything --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (str, TEXT),
    (float, st.floats()),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=5)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (UUID, st.uuids()),
    (date, st.dates()),
    (datetime, st.datetimes()),
    (timedelta, st.timedeltas(timedelta(days=-999), timedelta(days=999))),
    (Colour, st.sampled_from(Colour)),
    (type(None), st.none()),
]
NAMES = ("a", "b", "c")
Kind = tuple[Any, st.SearchStrategy[Any]]


def _model(kinds: list[Kind], name: str) -> Kind:
    parts = dict(zip(NAMES, kinds, strict=False))
    made = create_model(name, **{key: (kind, ...) for key, (kind, _) in parts.items()})
    return made, st.builds(made.model_construct, **{key: values for key, (_, values) in parts.items()})


def _dataclass(kinds: list[Kind], name: str) -> Kind:
    parts = dict(zip(NAMES, kinds, strict=False))
    made = make_dataclass(name, [(key, kind) for key, (kind, _) in parts.items()])
    return made, st.builds(made, **{key: values for key, (_, values) in parts.items()})


def _typed_dict(kinds: list[Kind], name: str) -> Kind:
    parts = dict(zip(NAMES, kinds, strict=False))
    made = TypedDict(name, {key: kind for key, (kind, _) in parts.items()})  # type: ignore[misc,operator]
    return made, st.fixed_dictionaries({key: values for key, (_, values) in parts.items()})


def _larger(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    several = st.lists(inner, min_size=1, max_size=3)
    names = st.sampled_from(["One", "Two", "Three"])
    return st.one_of(
        inner.map(lambda kind: (list[kind[0]], st.lists(kind[1], max_size=3))),
        inner.map(lambda kind: (dict[str, kind[0]], st.dictionaries(TEXT, kind[1], max_size=3))),
        inner.map(lambda kind: (tuple[kind[0], int], st.tuples(kind[1], st.integers()))),
        several.map(lambda kinds: (Union[tuple(kind for kind, _ in kinds)], st.one_of([one for _, one in kinds]))),  # noqa: UP007
        st.builds(_model, several, names),
        st.builds(_dataclass, several, names),
        st.builds(_typed_dict, several, names),
    )


KINDS = st.recursive(st.sampled_from(SCALARS), _larger, max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_written_is_read_as_the_same_or_refused(data):
    """For models, dataclasses, TypedDicts, unions and builtins, nested at random: never another value in silence."""
    annotation, values = data.draw(KINDS)
    value, form = data.draw(values), form_of(annotation)
    try:
        written = form.write(value, "x")
    except NotSerializable:
        return
    assert exact(form.read(on_the_wire(written)), value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_without_a_union_nothing_is_refused(data):
    """Pydantic reads all of these as they were. (Its models take no bytes but UTF-8, and no infinite numbers.)"""
    tame = {bytes: TEXT.map(str.encode), float: st.floats(allow_nan=False, allow_infinity=False)}
    plain = st.recursive(
        st.sampled_from([(kind, tame.get(kind, values)) for kind, values in SCALARS]),
        lambda inner: st.one_of(
            inner.map(lambda kind: (list[kind[0]], st.lists(kind[1], max_size=3))),
            st.builds(_model, st.lists(inner, min_size=1, max_size=3), st.just("One")),
            st.builds(_dataclass, st.lists(inner, min_size=1, max_size=3), st.just("Two")),
        ),
        max_leaves=5,
    )
    annotation, values = data.draw(plain)
    value, form = data.draw(values), form_of(annotation)
    assert exact(form.read(on_the_wire(form.write(value, "x"))), value)


def test_a_private_attribute_may_be_filled_where_it_is_read():
    """Its class says so, makes it of the fields, or it is nothing that can be compared."""
    form = form_of(Renoted)
    assert form.read(form.write(noted(Renoted), "x"))._note == ""
    form = form_of(Noted)
    assert form.read(form.write(Noted(n=1), "x"))._double == 2


@pytest.mark.parametrize("annotation", [list[Approve | Reject], Sequence[Approve | Reject], Iterable[Approve | Reject]])
def test_what_names_its_class_is_read_so_in_every_kind_of_list(annotation):
    """A generator's values are written one by one."""
    read = revive([{CLASS: "Reject", "reason": "n"}, {"reason": "y"}], annotation)
    assert read == [Reject(reason="n"), Approve(reason="y")]


def test_what_was_written_before_is_given_again_as_it_is():
    """As JSON that an earlier step left."""
    written = form_of(Approve | Reject).write(Reject(reason="n"), "x")
    assert form_of(Approve | Reject).serialize(written, "x") == written
    assert serialize_for([form_of(Approve | Reject)], written, "x") == written


def test_a_value_for_several_readers_is_written_for_all_of_them():
    """Those that it does not fit say so themselves."""
    readers = [form_of(one) for one in (Approve | Reject, Any, int)]
    assert serialize_for(readers, Reject(reason="n"), "x") == {CLASS: "Reject", "reason": "n"}
    assert serialize_for([], Reject(reason="n"), "x") == {"reason": "n"}
    with pytest.raises(NotSerializable, match=r"x\.cents"):
        serialize_for([form_of(Price)], Price(cents=5), "x")


def test_an_enumeration_of_numbers_is_kept():
    """As a member, not as its value."""

    class Size(Enum):
        SMALL = 1

    form = form_of(Size)
    assert form.read(form.write(Size.SMALL, "x")) is Size.SMALL


T = TypeVar("T")


class Twin(BaseModel, Generic[T]):
    value: T


def test_a_generic_model_that_was_made_twice_is_one_class():
    """As pydantic does for two threads that ask for it at the same time."""
    made, cache = Twin[int], _generics._GENERIC_TYPES_CACHE
    for key in [key for key, one in cache.items() if one is made]:
        del cache[key]
    again = Twin[int]
    assert made is not again
    assert form_of(made).write(again(value=1), "x") == {"value": 1}
    assert difference(Twin[str](value="1"), made(value=1)) is not None
