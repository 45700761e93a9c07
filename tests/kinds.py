"""Types and values of them for Hypothesis, and a strict comparison. Nothing here knows how paigeant writes values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar, Union
from uuid import UUID

from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    ValidationError,
    computed_field,
    create_model,
)
from typing_extensions import TypedDict

T = TypeVar("T")

# --- the same value? -------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and have the same types, and so do all of their parts. NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return all(map(same, _held(one), _held(other)))
    if is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    if isinstance(one, Mapping):
        return _all_found(one.items(), other.items())
    if isinstance(one, set | frozenset):
        return _all_found(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | Decimal) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, datetime):  # the class of a time zone is not part of the value, its offset is
        return one.isoformat() == other.isoformat()
    return bool(one == other) and repr(one) == repr(other)


def _held(model: BaseModel) -> tuple[Any, ...]:
    return model.__dict__, model.__pydantic_extra__, model.__pydantic_private__


def _all_found(ones: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether both have the same members, in any order."""
    left = list(others)
    for one in ones:
        found = next((at for at, other in enumerate(left) if same(one, other)), None)
        if found is None:
            return False
        del left[found]
    return not left


# --- classes with something special about them ------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Mark(Enum):
    FIRST = (1, 2)
    OTHER = "red"


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Approve(BaseModel):
    reason: str


class Reject(BaseModel):
    reason: str


class Late(Reject):
    days: int = 0


class Person(BaseModel):
    last: str = Field(serialization_alias="lastName")


class Aliased(BaseModel):
    last: str = Field(alias="lastName")


class Renamed(BaseModel):
    last: str = Field(validation_alias="familyName", serialization_alias="lastName")


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    net: int

    @computed_field
    @property
    def gross(self) -> int:
        return self.net * 2


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int


class Hidden(BaseModel):
    limit: int = Field(exclude=True, default=0)


class Private(BaseModel):
    n: int
    _note: int = PrivateAttr(0)


def _private(n: int, note: int) -> Private:
    made = Private(n=n)
    made._note = note
    return made


class Login(BaseModel):
    password: SecretStr


class Price(BaseModel):
    cents: Annotated[int, AfterValidator(lambda euros: euros * 100)]


class Names(RootModel[list[str]]):
    pass


class Tree(BaseModel):
    name: str
    below: list[Tree] = []
    beside: Approve | Reject | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    n: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    n: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Box(BaseModel, Generic[T]):
    inside: T


@dataclass(frozen=True)
class Point:
    x: int


@dataclass(frozen=True)
class Pixel:
    x: int


@dataclass
class Counted:
    n: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.n


class Pair(NamedTuple):
    left: int
    right: str = ""


class Options(TypedDict):
    rent: int
    food: NotRequired[date]


# --- types with values -----------------------------------------------------------------------------------------------

Kind = tuple[Any, st.SearchStrategy[Any]]
"""An annotation, and values of it."""

TEXT = st.text(max_size=4)
"""Lone surrogates included."""

NUMBERS = st.integers(-3, 3) | st.integers()
ZONES = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))

KEYS: list[Kind] = [
    (str, TEXT),
    (int, NUMBERS),
    (float, st.floats()),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=4)),
    (Decimal, st.decimals(allow_nan=False) | st.just(Decimal("NaN"))),
    (UUID, st.uuids()),
    (date, st.dates()),
    (time, st.times().map(lambda one: one.replace(fold=0))),
    (datetime, st.datetimes(timezones=ZONES).map(lambda one: one.replace(fold=0))),
    (timedelta, st.timedeltas(timedelta(days=-999), timedelta(days=999))),
    (Path, st.sampled_from([Path("a/b"), Path("/"), Path()])),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Mark, st.sampled_from(Mark)),
    (Rights, st.sampled_from([Rights.READ, Rights.WRITE, Rights.READ | Rights.WRITE, Rights(0)])),
    (Literal["red", 1, True], st.sampled_from(["red", 1, True])),
    (Point, st.builds(Point, NUMBERS)),
    (Frozen, st.builds(Frozen, n=NUMBERS)),
    (Pair, st.builds(Pair, NUMBERS, TEXT)),
    (type(None), st.none()),
]
"""Those that can be the keys of dictionaries and the members of sets."""

SPECIAL: list[Kind] = [
    (Approve | Reject, st.builds(Approve, reason=st.just("a")) | st.builds(Late, reason=st.just("b"), days=NUMBERS)),
    (Reject, st.builds(Late, reason=st.just("b"), days=NUMBERS)),
    (Person, st.builds(Person, last=st.just("L"))),
    (Aliased, st.builds(Aliased, lastName=st.just("L"))),
    (Renamed, st.builds(Renamed, familyName=st.just("L"))),
    (Order, st.builds(Order, net=NUMBERS)),
    (Loose, st.builds(Loose, known=NUMBERS, more=st.one_of(NUMBERS, st.dates(), st.just("x")))),
    (Hidden, st.builds(Hidden, limit=st.integers(0, 1))),
    (Private, st.builds(_private, NUMBERS, st.integers(0, 1))),
    (Login, st.builds(Login, password=st.just("p"))),
    (SecretStr, st.builds(SecretStr, st.just("p"))),
    (Price, st.builds(Price, cents=st.integers(0, 2))),
    (Names, st.builds(Names, st.lists(st.just("n"), max_size=2))),
    (Tree, st.builds(Tree, name=st.just("t"), below=st.just([Tree(name="u", beside=Reject(reason="r"))]))),
    (Tree, st.builds(Tree, name=st.just("t"), below=st.just([Tree(name="u", beside=Approve(reason="r"))]))),
    (Pet, st.builds(Dog, n=NUMBERS) | st.builds(Cat, n=NUMBERS)),
    (Point | Pixel, st.builds(Point, NUMBERS) | st.builds(Pixel, NUMBERS)),
    (Counted, st.builds(Counted, NUMBERS)),
    (Options, st.fixed_dictionaries({"rent": NUMBERS}, optional={"food": st.dates()})),
    (list, st.lists(NUMBERS, max_size=2)),
]

_NAMES = ("a", "b", "c")


def _parts(kinds: list[Kind]) -> tuple[dict[str, Any], dict[str, st.SearchStrategy[Any]]]:
    return (
        {name: annotation for name, (annotation, _) in zip(_NAMES, kinds, strict=False)},
        {name: values for name, (_, values) in zip(_NAMES, kinds, strict=False)},
    )


def _model(kinds: list[Kind], name: str) -> Kind:
    annotations, values = _parts(kinds)
    made = create_model(name, **{key: (one, ...) for key, one in annotations.items()})
    return made, st.fixed_dictionaries(values).map(lambda given: _valid(made, given))


def _valid(made: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    """As a program makes it; what the class would not take is put in unchecked."""
    try:
        return made(**given)
    except ValidationError:
        return made.model_construct(**given)


def _dataclass(kinds: list[Kind], name: str) -> Kind:
    annotations, values = _parts(kinds)
    made = make_dataclass(name, list(annotations.items()))
    return made, st.builds(made, **values)


def _typed_dict(kinds: list[Kind], name: str) -> Kind:
    annotations, values = _parts(kinds)
    return TypedDict(name, annotations), st.fixed_dictionaries(values)  # type: ignore[operator]


def _named_tuple(kinds: list[Kind], name: str) -> Kind:
    annotations, values = _parts(kinds)
    made = NamedTuple(name, list(annotations.items()))  # type: ignore[misc]
    return made, st.builds(made, **values)


def _union(kinds: list[Kind]) -> Kind:
    return Union[tuple(one for one, _ in kinds)], st.one_of([values for _, values in kinds])  # noqa: UP007


def _box(kind: Kind) -> Kind:
    made = Box[kind[0]]  # type: ignore[misc]
    return made, kind[1].map(lambda given: _valid(made, {"inside": given}))


def _larger(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    several = st.lists(inner, min_size=1, max_size=3)
    names = st.sampled_from(["One", "Two", "Three"])
    keys = st.sampled_from(KEYS) | st.lists(st.sampled_from(KEYS), min_size=2, max_size=3).map(_union)
    return st.one_of(
        inner.map(lambda kind: (list[kind[0]], st.lists(kind[1], max_size=2))),
        inner.map(lambda kind: (tuple[kind[0], ...], st.lists(kind[1], max_size=2).map(tuple))),
        inner.map(lambda kind: (tuple[kind[0], int], st.tuples(kind[1], NUMBERS))),
        inner.map(lambda kind: (Optional[kind[0]], st.none() | kind[1])),  # noqa: UP045
        inner.map(_box),
        keys.map(lambda kind: (set[kind[0]], st.sets(kind[1], max_size=2))),
        keys.map(lambda kind: (frozenset[kind[0]], st.frozensets(kind[1], max_size=2))),
        st.builds(lambda key, one: (dict[key[0], one[0]], st.dictionaries(key[1], one[1], max_size=2)), keys, inner),
        several.map(_union),
        st.builds(_model, several, names),
        st.builds(_dataclass, several, names),
        st.builds(_typed_dict, several, names),
        st.builds(_named_tuple, several, names),
    )


KINDS: st.SearchStrategy[Kind] = st.recursive(st.sampled_from(KEYS + SPECIAL), _larger, max_leaves=5)
"""Types nested at random, each with values of it."""


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """An annotation, and a value of it."""
    annotation, values = draw(KINDS)
    return annotation, draw(values)
