"""Values on the wire: anything pydantic can write as JSON, refused by path when it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationInfo
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypeAliasType

from paigeant.errors import NotSerializable

_SCALARS = (str, int, float, bool, type(None))
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")

# Readers refuse JSON nested deeper than 200; the message around a value takes its share of that.
_AROUND, _CLOSED = b"[" * 16, b"]" * 16


def jsonable(value: Any, path: str = "value") -> Any:
    """The value as plain JSON types: datetimes, UUIDs, Decimals, bytes (base64), models and dataclasses included.

    Raises:
        NotSerializable: naming the path of the part that cannot be written.
    """
    if _is_plain(value):
        return value
    try:
        return _written(value)
    except _UNWRITABLE as error:
        where, culprit = _culprit(value, path, depth=0)
        raise NotSerializable(
            f"{where} cannot be written as JSON: it is {_what(culprit)}",
            hint="pass JSON types, datetimes, UUIDs, Decimals, bytes, dataclasses or pydantic models",
        ) from error


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


def _written(value: Any) -> Any:
    """Write and read again: only so is it sure that the next worker can read it (no lone surrogates, not too deep)."""
    data = to_json(value, bytes_mode="base64", inf_nan_mode="strings", timedelta_mode="iso8601")
    read = from_json(_AROUND + data + _CLOSED)
    for _ in _AROUND:
        read = read[0]
    return read


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    """The first part of the value, depth first, that fails on its own."""
    if depth > 20:
        return path, value
    for step, part in _parts(value):
        try:
            _written(part)
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
            return f"a {type(culprit).__qualname__}"


def printable(text: str) -> str:
    """Text that every log and database takes: lone surrogates and control characters as escapes, lines kept."""
    text = text.encode(errors="backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, BaseModel):
        return [(f".{name}", getattr(value, name)) for name in type(value).model_fields]
    if is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name)) for field in fields(value)]
    return []


def _to_json_types(value: Any, info: ValidationInfo) -> Any:
    if info.mode == "json":
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


def revive(value: Any, annotation: Any) -> Any:
    """A JSON value as the annotated type again (bytes from base64, datetimes from ISO 8601, models from objects)."""
    return reviver(annotation)(value)


def reviver(annotation: Any) -> Callable[[Any], Any]:
    """What :func:`revive` does for one annotation; the fast path skips pydantic for values already of that type."""
    if annotation is Any:
        return lambda value: value
    convert = adapter(annotation)
    if annotation in _SCALARS:
        return lambda value: value if type(value) is annotation else convert.validate_python(value)
    return lambda value: convert.validate_json(to_json(value))
