"""Values of a declared type: written so that whoever reads them with that type gets the same value, or refused.

A value travels as plain JSON. Reading it is a validation, which may lose something: a secret becomes asterisks, an
excluded field its default, the wrong member of a union accepts it, a validator changes it a second time. So a value
that is not plain is read back before it is sent, and one that does not come back is refused where it is written.

Where only the class is lost, because several classes accept the same JSON, the name of the class travels in the object
under :data:`CLASS`. A reader looks it up among the classes that its own annotation allows and nowhere else.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypeAliasType

from paigeant.errors import NotSerializable
from paigeant.wire.values import checker, filled_on_reading, jsonable, listed, named_beside_any, reviver, says_any

CLASS = "paigeant:class"
"""The key under which an object names the class it was written from, where its JSON alone does not tell."""

_WAYS: tuple[dict[str, bool], ...] = ({}, {"round_trip": True}, {"round_trip": True, "by_alias": False})
"""How fields of models are written, the first way first: computed ones too, only real ones, by their names."""

_EXACT: tuple[Any, ...] = (str, int, float, bool, type(None))
_HINT = "give unions a discriminator, and leave validators out that change a value again when it is read"


class Form:
    """How values of one annotation are written and read. Built once for each annotation: see :func:`form_of`."""

    def __init__(self, annotation: Any) -> None:
        """Raises what pydantic raises for an annotation that it cannot read."""
        self.annotation = annotation
        self._read = reviver(annotation)
        self._check = checker(annotation)
        self._says_any = says_any(annotation)
        self._not_any = named_beside_any(annotation) if self._says_any else ()
        self._classes = tuple(_classes_of(annotation))
        self._items = _items_of(annotation)

    def read(self, value: Any) -> Any:
        """The JSON value as the annotated type.

        Raises:
            ValidationError: it does not fit.
        """
        if self._items is not None and isinstance(value, list) and _names_a_class(value):
            return [self._items.read(one) for one in value]
        if not (self._classes and isinstance(value, dict) and CLASS in value):
            return self._read(value)
        name, rest = value[CLASS], {key: one for key, one in value.items() if key != CLASS}
        found = self._named(name)
        return reviver(found)(rest) if found is not None else self._read(rest)

    def write(self, value: Any, path: str) -> Any:
        """The value as JSON types that :meth:`read` makes the same value of.

        Raises:
            NotSerializable: naming the part that would not come back, or cannot be written.
        """
        if self._is_sure(value):
            return jsonable(value, path)
        forms = [jsonable(value, path, **options) for options in _WAYS]
        if (name := self._name_of(type(value))) is not None:
            forms += [{CLASS: name, **one} for one in forms if isinstance(one, dict) and CLASS not in one]
        forms += self._by_items(value, path)
        troubles = []
        for form in forms:
            trouble = self._trouble(value, form)
            if trouble is None:
                return form
            troubles.append(trouble)
        raise NotSerializable(f"{path}{troubles[-1]}", hint=_HINT)

    def serialize(self, given: Any, path: str) -> Any:
        """A value that somebody gives for the annotated type, checked, as JSON types.

        It is written as pydantic makes it. If its validators would change that once more when it is read, it is written
        as it was given, and changed when it is read.

        Raises:
            ValidationError: it does not fit.
            NotSerializable: naming the part that would not come back, or cannot be written.
        """
        if self._is_sure(given):
            return jsonable(given, path)
        if _names_a_class(given):  # JSON that was written before
            self.read(given)
            return jsonable(given, path)
        checked = self._check(given)
        try:
            return self.write(checked, path)
        except NotSerializable:
            jsonable(checked, path)  # refuses a secret that was given as plain text
            written = jsonable(given, path)
            if self._trouble(checked, written) is not None:
                raise
            return written

    def serialize_if_it_fits(self, value: Any, path: str) -> Any:
        """A value that should be of the annotated type, as JSON types; a value of another type as plain JSON.

        So is a dict or a list of JSON types from which an object of the type could be made: nobody said that it is one.

        Raises:
            NotSerializable: naming the part that would not come back, or cannot be written.
        """
        if self.fits(value):
            try:
                return self.write(value, path)
            except NotSerializable:
                if type(value) not in (dict, list) or difference(value, plain := jsonable(value, path)) is not None:
                    raise
                return plain
        return jsonable(value, path)

    def fits(self, value: Any) -> bool:
        """Whether pydantic takes the value for the annotated type."""
        try:
            self._check(value)
        except ValidationError:
            return False
        return True

    def reads_as_given(self, written: Any, given: Any) -> bool:
        """Whether a reader of the JSON value gets what pydantic makes of the value that was given, which fits."""
        return self._is_sure(given) or self._trouble(self._check(given), written) is None

    def _by_items(self, value: Any, path: str) -> list[Any]:
        """The members of a list, each written by itself, if they can be."""
        if self._items is None or type(value) is not list:
            return []
        try:
            return [[self._items.write(one, f"{path}[{index}]") for index, one in enumerate(value)]]
        except NotSerializable:
            return []

    def _is_sure(self, value: Any) -> bool:
        """Whether the value surely comes back, without trying."""
        if self.annotation is Any:
            return True
        return self.annotation in _EXACT and type(value) is self.annotation

    def _trouble(self, value: Any, written: Any) -> str | None:
        """What a reader of the JSON value would not see as it is; None if it sees the same."""
        try:
            read = self.read(written)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = "".join(f".{part}" for part in first["loc"])
            return f"{where} cannot be read back as its declared type: {first['msg']}"
        if self.annotation in (int, float, str, bytes) and isinstance(value, self.annotation):
            return None if value == read or value != value else " is not read back as it was"
        return difference(value, read, says_any=self._says_any, named=self._not_any)

    # --- classes ---------------------------------------------------------------------------------------------

    def _named(self, name: Any) -> type | None:
        found = [kind for kind in self._known() if name in (kind.__qualname__, _full_name(kind))]
        return found[0] if len(found) == 1 else None

    def _name_of(self, kind: type) -> str | None:
        """By which name :meth:`read` finds this class, if it may."""
        if kind not in self._known():
            return None
        return next((name for name in (kind.__qualname__, _full_name(kind)) if self._named(name) is kind), None)

    def _known(self) -> list[type]:
        """The classes that the annotation allows, and their subclasses of this moment."""
        known = dict.fromkeys(one for kind in self._classes for one in _with_subclasses(kind))
        return list(known)


@lru_cache(maxsize=2048)
def _cached_form(annotation: Any) -> Form:
    return Form(annotation)


def form_of(annotation: Any) -> Form:
    """How values of this annotation are written and read."""
    try:
        return _cached_form(annotation)
    except TypeError:  # the annotation cannot be hashed
        return Form(annotation)


def serialize_for(forms: Iterable[Form], value: Any, path: str) -> Any:
    """A value of no declared type as JSON types, from which each of these forms that it fits reads the same value.

    Raises:
        NotSerializable: naming the part that would not come back, or cannot be written.
    """
    plain = jsonable(value, path)
    if type(value) in _EXACT or _names_a_class(value):
        return plain
    readers = [one for one in dict.fromkeys(forms) if one.fits(value)]
    wrong = next((one for one in readers if not one.reads_as_given(plain, value)), None)
    if wrong is None:
        return plain
    written = wrong.serialize(value, path)
    if all(one.reads_as_given(written, value) for one in readers):
        return written
    raise NotSerializable(f"{path} cannot be written so that each step reads it as it is", hint=_HINT)


def revive(value: Any, annotation: Any) -> Any:
    """A JSON value as the annotated type again (bytes from base64, datetimes from ISO 8601, models from objects).

    Raises:
        ValidationError: it does not fit.
    """
    return form_of(annotation).read(value)


def output_form(annotation: Any) -> Form:
    """The same for what is returned: an annotation that pydantic cannot read promises nothing."""
    try:
        return form_of(annotation)
    except (PydanticUserError, TypeError, NameError):
        return form_of(Any)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    below: list[type] = kind.__subclasses__()
    for one in below:
        yield from _with_subclasses(one)


def _classes_of(annotation: Any) -> Iterator[type]:
    """The models and dataclasses that an annotation allows at its top."""
    if isinstance(annotation, TypeAliasType) or type(annotation).__name__ == "TypeAliasType":
        yield from _classes_of(annotation.__value__)
    elif (origin := get_origin(annotation)) is Annotated:
        yield from _classes_of(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _classes_of(one)
    elif isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        yield annotation


def _items_of(annotation: Any) -> Form | None:
    """How the members of a list are written and read, if the annotation is that of a list of something."""
    annotation = listed(annotation)
    return form_of(get_args(annotation)[0]) if get_origin(annotation) in (list, Sequence) else None


def _names_a_class(value: Any) -> bool:
    """Whether a member of a list, or of a list in it, names the class that it was written from."""
    if isinstance(value, list):
        return any(map(_names_a_class, value))
    return isinstance(value, dict) and CLASS in value


# --- the same value? -------------------------------------------------------------------------------------------------


def difference(
    given: Any, read: Any, path: str = "", *, says_any: bool = False, named: tuple[type, ...] = ()
) -> str | None:
    """Where and how what was read differs from what was given; None where both are the same, their types included.

    An int may come back as an equal float, and a subclass of a builtin as the builtin: annotations promise no more.
    Where the annotation ``says_any`` somewhere, what is read may be the JSON of what was given, unless its class is
    one that the annotation ``named`` beside that.
    """
    if not _is_same_class(type(given), type(read)):
        if _is_close_enough(given, read) or (says_any and not isinstance(given, named) and _is_json_of(given, read)):
            return None
        return f"{path} is {_a(given)} and would be read as {_a(read)}"
    if (parts := _parts(given)) is not None:
        step, ours = parts
        _, theirs = _parts(read) or (step, {})
        return _first(ours, theirs, path, step, says_any=says_any, named=named)
    return None if _equal(given, read) else f"{path} ({_a(given)}) would be read as another value"


def _is_same_class(one: type, other: type) -> bool:
    """Whether both are one class; pydantic makes ``Result[int]`` twice if two threads ask for it at the same time."""
    if one is other:
        return True
    ours, theirs = (getattr(kind, "__pydantic_generic_metadata__", None) for kind in (one, other))
    return bool(ours and theirs and ours["origin"] is not None) and ours == theirs


def _first(given: Mapping[Any, Any], read: Mapping[Any, Any], path: str, step: str, **lenience: Any) -> str | None:
    names = {name: name for name in read}
    for name, one in given.items():
        where = path + step.format(name)
        if name not in read:
            return f"{where} would be missing"
        as_key = where if one is name else f"{where} as a key"  # members of a set are both
        if (found := difference(name, names[name], as_key, **lenience)) is not None:
            return found
        if (found := difference(one, read[name], where, **lenience)) is not None:
            return found
    return next((f"{path}{step.format(name)} would be added" for name in read if name not in given), None)


def _parts(value: Any) -> tuple[str, Mapping[Any, Any]] | None:
    """What the value consists of, and how a path leads to a part; None for a value without parts."""
    if isinstance(value, Mapping):
        return "[{!r}]", value
    if isinstance(value, list | tuple):
        return "[{}]", dict(enumerate(value))
    if isinstance(value, set | frozenset):
        return "[{!r}]", {one: one for one in value}
    if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
        return ".{}", _fields(value)
    return None


def _fields(value: Any) -> dict[str, Any]:
    """What a model or a dataclass holds, by name, without private attributes that have no equality: locks, clients."""
    if isinstance(value, BaseModel):
        filled = filled_on_reading(value)
        own = {name: value.__dict__.get(name) for name in type(value).model_fields if name not in filled}
        private = (value.__pydantic_private__ or {}).items()
        kept = {name: one for name, one in private if name not in filled and not _has_no_equality(one)}
        return own | dict(value.__pydantic_extra__ or {}) | kept
    return {field.name: getattr(value, field.name, None) for field in fields(value)}


def _is_close_enough(given: Any, read: Any) -> bool:
    if isinstance(given, Enum) or isinstance(read, Enum):
        return False
    if type(read) is float and isinstance(given, int):
        return bool(given == read)
    is_builtin = type(read) in (str, int, float, bytes, list, dict, tuple, set, frozenset)
    return is_builtin and isinstance(given, type(read)) and _equal(given, read)


def _is_json_of(given: Any, read: Any) -> bool:
    try:
        return bool(jsonable(given) == read)
    except NotSerializable:
        return False


def _equal(given: Any, read: Any) -> bool:
    try:
        if given == read or (given != given and read != read):
            return True
        return _has_no_equality(given) and bool(jsonable(given) == jsonable(read))
    except Exception:  # noqa: BLE001 - whatever a class makes of ==, what is not known to be the same is refused
        return False


def _has_no_equality(value: Any) -> bool:
    equals: Any = type(value).__eq__
    return equals is object.__eq__


def _a(value: Any) -> str:
    name = type(value).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
