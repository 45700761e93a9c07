"""Values on the wire: anything pydantic can write as JSON, refused by path when it cannot."""

from __future__ import annotations

import collections.abc
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationInfo
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypeAliasType

from paigeant.errors import NotSerializable

_SCALARS = (str, int, float, bool, type(None))
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")

# Readers refuse JSON nested deeper than 200; the message around a value takes its share of that.
_AROUND, _CLOSED = b"[" * 16, b"]" * 16


def jsonable(value: Any, path: str = "value", *, by_alias: bool = True, round_trip: bool = False) -> Any:
    """The value as plain JSON types: datetimes, UUIDs, Decimals, bytes (base64), models and dataclasses included.

    ``by_alias`` and ``round_trip`` (without computed fields) are pydantic's, for the fields of models.

    Raises:
        NotSerializable: naming the path of the part that cannot be written, or of which something would be lost: a
            secret, or a field with ``exclude=True`` that is not at its default.
    """
    if _is_plain(value):
        return value
    try:
        serialized = _serialized(value, by_alias=by_alias, round_trip=round_trip)
    except _UNWRITABLE as error:
        where, culprit = _culprit(value, path, depth=0)
        says_no_more = "Unable to serialize unknown type" in str(error)
        raise NotSerializable(f"{where} cannot be written as JSON: it is {_what(culprit)}", hint=_hint(culprit)) from (
            None if says_no_more else error
        )
    if not _is_same(serialized, value):
        _refuse_losses(value, path, depth=0)
    return serialized


def jsonable_each(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """:func:`jsonable` for values by name; ``what`` they are, for people.

    Raises:
        NotSerializable: naming one that cannot be written as JSON, and where in it.
    """
    return {name: jsonable(value, f"{what} {name!r}") for name, value in values.items()}


def _is_plain(value: Any) -> bool:
    """Whether the value is as it will be read; this spares most values the round trip."""
    match value:
        case None | True | False:
            return True
        case int():
            return type(value) is int and value.bit_length() < 64
        case str():
            return type(value) is str and value.isascii()
        case _:
            return False


_UNWRITABLE = (PydanticSerializationError, ValueError, RecursionError)


def _serialized(value: Any, *, by_alias: bool = True, round_trip: bool = False) -> Any:
    """Write and read again: only so is it sure that the next worker can read it (no lone surrogates, not too deep)."""
    data = to_json(
        value,
        bytes_mode="base64",
        inf_nan_mode="strings",
        timedelta_mode="iso8601",
        by_alias=by_alias,
        round_trip=round_trip,
    )
    read = from_json(_AROUND + data + _CLOSED)
    for _ in _AROUND:
        read = read[0]
    return read


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    """The first part of the value, depth first, that fails on its own."""
    if depth > 20:
        return path, value
    keys = [(f"[{key!r}]", key) for key in value] if isinstance(value, Mapping) else []
    for step, part in [*keys, *parts_of(value)]:
        try:
            _serialized(part)
        except _UNWRITABLE:
            return _culprit(part, path + step, depth + 1)
    return path, value


def _what(culprit: Any) -> str:
    match culprit:
        case str():
            return "text with a lone surrogate"
        case int():
            return "a number with too many digits"
        case list() | tuple() | dict():
            return "nested too deeply, or contains itself"
        case _:
            return with_article(type(culprit).__qualname__.rpartition("<locals>.")[2])


def _hint(culprit: Any) -> str:
    hint = "pass JSON types, datetimes, UUIDs, Decimals, bytes, dataclasses or pydantic models"
    if isinstance(culprit, str | int | list | tuple | dict | BaseModel):
        return hint
    return f"{hint}; a client or a connection is made on the worker, by a provider: Depends(...)"


def with_article(noun: str) -> str:
    """The noun with "a" or "an" before it, by its first letter."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def printable(text: str) -> str:
    """Text that every log and database takes: lone surrogates and control characters as escapes, lines kept."""
    text = text.encode(errors="backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def on_one_line(text: str) -> str:
    """Text for a reason on one line: every character that is not printable as an escape."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def said(error: BaseException, longest: int = 1000) -> str:
    """What an exception says, at most so many characters of it; any exception, for its own ``__str__`` may fail."""
    try:
        return printable(str(error)[:longest])
    except BaseException:  # noqa: BLE001 - it is the developer's code
        return "(its message cannot be read)"


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """The parts of a container, a model or a dataclass, each with the step of the path that leads to it."""
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, BaseModel):
        return [(f".{name}", getattr(value, name)) for name in type(value).model_fields]
    if is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name)) for field in fields(value)]
    return []


# --- what JSON would lose --------------------------------------------------------------------------------------------

_DEEPEST = 50


def _is_same(serialized: Any, value: Any) -> bool:
    """Whether the value consisted of JSON types, so that nothing can have been lost."""
    try:
        return bool(serialized == value)
    except Exception:  # noqa: BLE001 - whatever a class makes of ==
        return False


def _refuse_losses(value: Any, path: str, depth: int) -> None:
    if isinstance(value, SecretStr | SecretBytes | Secret):
        raise NotSerializable(
            f"{path} is a secret, and everybody with access to the broker can read a message",
            hint="pass a reference to your secret store and read it in the step, or get it from Depends(...)",
        )
    if isinstance(value, BaseModel) and (name := _excluded(value)) is not None:
        raise NotSerializable(
            f"{path}.{name} is excluded from JSON, and the next step would see its default instead",
            hint="leave exclude=True out, or set the field in the step that needs it",
        )
    if depth < _DEEPEST:
        for step, part in parts_of(value):
            _refuse_losses(part, path + step, depth + 1)


def filled_on_reading(model: BaseModel) -> Collection[str]:
    """Fields that a class fills itself where it is read, as its ``filled_on_reading`` says: they are not carried."""
    names: Collection[str] = getattr(type(model), "filled_on_reading", ())
    return names


def _excluded(model: BaseModel) -> str | None:
    """A field that is never written and is not at its default."""
    filled = filled_on_reading(model)
    excluded = ((name, one) for name, one in type(model).model_fields.items() if one.exclude and name not in filled)
    for name, field in excluded:
        if getattr(model, name) != field.get_default(call_default_factory=True, validated_data={}):
            return name
    return None


OFF_THE_WIRE = {"off_the_wire": True}
"""The context in which pydantic validates what was read as JSON: its values are JSON types already."""


def _to_json_types(value: Any, info: ValidationInfo) -> Any:
    if info.mode == "json" or info.context is OFF_THE_WIRE:
        return value
    return jsonable(value, info.field_name or "value")


Json = Annotated[Any, BeforeValidator(_to_json_types)]
"""A field that holds JSON types only; whatever is put in is written down at once, so a round trip changes nothing."""

JsonObject = Annotated[dict[str, Any], BeforeValidator(_to_json_types)]
"""The same for a field that holds named values."""


@lru_cache(maxsize=2048)
def _hashable_adapter(annotation: Any) -> TypeAdapter[Any]:
    # By an alias, because pydantic takes no config beside a model or dataclass, and a dataclass needs it for its bytes.
    alias: Any = TypeAliasType("Value", annotation)
    return TypeAdapter(alias, config=_CONFIG)


def adapter(annotation: Any) -> TypeAdapter[Any]:
    """The pydantic adapter for an annotation, built once."""
    try:
        return _hashable_adapter(annotation)
    except TypeError:
        return _hashable_adapter.__wrapped__(annotation)


def says_any(annotation: Any) -> bool:
    """Whether the annotation leaves the type of some part open, be it a field of a field."""
    return annotation is Any or _has_any(adapter(listed(annotation)).core_schema)


def _has_any(schema: Any) -> bool:
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind == "any" or (kind in ("list", "set", "frozenset") and "items_schema" not in schema):
            return True
        if kind == "dict" and not {"keys_schema", "values_schema"} <= schema.keys():
            return True
        return any(_has_any(one) for name, one in schema.items() if name != "metadata")
    return isinstance(schema, list | tuple) and any(map(_has_any, schema))


def named_beside_any(annotation: Any) -> tuple[type, ...]:
    """The classes that a union of the annotation names beside a member that leaves the type open, such as ``dict``."""
    return () if annotation is Any else tuple(_named_beside_any(adapter(listed(annotation)).core_schema))


def _named_beside_any(schema: Any) -> Iterator[type]:
    if isinstance(schema, dict):
        choices = schema.get("choices", ()) if schema.get("type") == "union" else ()
        if any(map(_has_any, choices)):
            yield from filter(None, map(_class_of, choices))
        for name, one in schema.items():
            if name != "metadata":
                yield from _named_beside_any(one)
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from _named_beside_any(one)


def _class_of(choice: Any) -> type | None:
    """The class that a member of a union makes: a model, a dataclass, an enumeration or a named tuple."""
    schema = choice[0] if isinstance(choice, tuple) else choice
    while isinstance(schema, dict):
        made = schema.get("function") if schema.get("type") == "call" else schema.get("cls")
        if isinstance(made, type):
            return made
        schema = schema.get("schema")
    return None


def checker(annotation: Any) -> Callable[[Any], Any]:
    """What checks a Python value of an annotation, and returns it as pydantic makes it."""
    if annotation is Any:
        return lambda value: value
    return adapter(listed(annotation)).validate_python


def reviver(annotation: Any) -> Callable[[Any], Any]:
    """What reads JSON values of one annotation; the fast path skips pydantic for values already of that type.

    Fields of models are read by their aliases and by their names. Nothing of the value is handed out: it is copied.
    """
    if annotation is Any:
        return copied
    convert = adapter(listed(annotation))
    if annotation in _SCALARS:
        return lambda value: value if type(value) is annotation else convert.validate_python(value)
    return lambda value: convert.validate_json(to_json(value), by_alias=True, by_name=True)


def copied(value: Any) -> Any:
    """A JSON value that shares nothing which can be changed with this one."""
    if isinstance(value, dict):
        return {name: copied(one) for name, one in value.items()}
    if isinstance(value, list):
        return [copied(one) for one in value]
    return value


_LAZY = (collections.abc.Iterable, collections.abc.Iterator, collections.abc.Generator)


def listed(annotation: Any) -> Any:
    """A list for what pydantic would make an iterator of, which can be read only once."""
    if get_origin(annotation) in _LAZY:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    return list if annotation in _LAZY else annotation


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What is new or another value after, and the names of what is gone."""
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    return changed, [name for name in before if name not in after]
