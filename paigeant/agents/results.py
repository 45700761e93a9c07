"""Converts results of tools to JSON and back. Only values that were file objects become file objects again.

The JSON comes with a list of places: the positions of values that JSON has no type for, such as pydantic-ai's files,
bytes and numbers that are not finite. paigeant alone writes the list, so no key in the data can name a type.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai import messages
from pydantic_ai.messages import ToolReturn
from pydantic_core import to_json

from paigeant.errors import NotSerializable
from paigeant.wire.values import adapter

Places = dict[tuple[str | int, ...], str]
"""The type at each position of a result: the name of a class of pydantic-ai, ``bytes`` or ``float``."""

_PARTS: dict[str, Any] = {
    name: getattr(messages, name)
    for name in (
        "ImageUrl",
        "AudioUrl",
        "DocumentUrl",
        "VideoUrl",
        "BinaryContent",
        "BinaryImage",
        "UploadedFile",
        "TextContent",
        "StructuredContent",
        "CachePoint",
    )
    if hasattr(messages, name)
}
"""Classes that pydantic-ai treats as more than data when a tool returns them. Some releases lack some of them."""

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_bytes="base64", ser_json_inf_nan="constants"))

HINT = 'return what pydantic can write, or app.activity(agent, durable="model")'

_FIELDS = ("return_value", "content", "metadata", "tools")
"""Fields of a ``ToolReturn``. Some releases lack some of them."""


def serialized(name: str, result: Any) -> dict[str, Any]:
    """The result of the tool with this name as JSON types.

    Raises:
        NotSerializable: JSON cannot represent it, or it cannot be restored.
    """
    places: Places = {}
    try:
        data = _serialized(_fields(result) if isinstance(result, ToolReturn) else result, (), places)
        to_json(data)
        found: dict[str, Any] = {"data": data}
        if places:
            found["places"] = [[list(path), kind] for path, kind in places.items()]
        if isinstance(result, ToolReturn):
            found["is_tool_return"] = True
        read(found)
    except Exception as error:  # a class may raise anything here, and the tool has finished
        raise NotSerializable(
            f"the result of tool {name!r} cannot be written as JSON: {error}",
            hint=HINT,
        ) from error
    return found


def read(found: Mapping[str, Any]) -> Any:
    """Restore the result of the tool."""
    places = {tuple(path): kind for path, kind in found.get("places", ())}
    value = _read(found["data"], (), places) if places else found["data"]
    return ToolReturn(**value) if found.get("is_tool_return") else value


def has_files(value: Any) -> bool:
    """Whether the value contains file objects of pydantic-ai."""
    match value:
        case ToolReturn():
            return has_files(_fields(value))
        case Mapping():
            return any(map(has_files, value.values()))
        case list() | tuple():
            return any(map(has_files, value))
    return isinstance(value, tuple(_PARTS.values()))


def _fields(result: ToolReturn[Any]) -> dict[str, Any]:
    given = {name: getattr(result, name, None) for name in _FIELDS}
    return {name: value for name, value in given.items() if value is not None or name == "return_value"}


def _serialized(value: Any, path: tuple[str | int, ...], places: Places) -> Any:
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case str():
            value.encode()  # half of a pair of surrogates is no text
            return str.__str__(value)
        case float():
            return value if isfinite(value) else _placed("float", str(value), path, places)
        case bytes() | bytearray():
            return _placed("bytes", b64encode(value).decode(), path, places)
        case Mapping() if all(isinstance(key, str) for key in value):
            return {key: _serialized(one, (*path, key), places) for key, one in value.items()}
        case list() | tuple():
            return [_serialized(one, (*path, at), places) for at, one in enumerate(value)]
        case _ if _PARTS.get(kind := type(value).__name__) is type(value):
            return _placed(kind, adapter(type(value)).dump_python(value, mode="json"), path, places)
        case _:
            return _serialized(_ANYTHING.dump_python(value, mode="json"), path, places)


def _placed(kind: str, data: Any, path: tuple[str | int, ...], places: Places) -> Any:
    places[path] = kind
    return data


def _read(value: Any, path: tuple[str | int, ...], places: Mapping[tuple[str | int, ...], str]) -> Any:
    match places.get(path):
        case "float":
            return float(value)
        case "bytes":
            return b64decode(value)
        case str(kind):
            return adapter(_PARTS[kind]).validate_python(value)
    if isinstance(value, Mapping):
        return {key: _read(one, (*path, key), places) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_read(one, (*path, at), places) for at, one in enumerate(value)]
    return value
