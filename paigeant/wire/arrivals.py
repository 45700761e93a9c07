"""What a step has received: the shape of each entry, checked when a message is read.

An entry stays as it was written, so that fields of a newer minor version travel on. What the engine itself reads of
an entry depends on what the step waited for, and the key says that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from typing_extensions import TypedDict

from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.approval import Approval
from paigeant.wire.claim_check import Kept
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.log import LogEntry
from paigeant.wire.usage import Usage
from paigeant.wire.values import OFF_THE_WIRE, jsonable

CHILD = "child:"
"""How the keys begin of what a step waits for that waits for a workflow which it dispatched."""

_TOLERANT = ConfigDict(extra="allow")

_A_KEPT = Annotated[
    dict[str, Any],
    AfterValidator(lambda data: Kept.from_dict(data) and data),
    WithJsonSchema(Kept.model_json_schema()),
]


class Arrival(TypedDict, total=False):
    """One thing that came: a value, where a large one is kept, that none came in time, or why it cannot be given."""

    __pydantic_config__ = _TOLERANT  # type: ignore[misc]

    value: Any
    kept: _A_KEPT
    timeout: bool
    error: str


class _Why(TypedDict, total=False):
    __pydantic_config__ = _TOLERANT  # type: ignore[misc]

    type: str
    message: str


class _End(TypedDict, total=False):
    """How a branch of a scatter ended, or a workflow that the step dispatched."""

    __pydantic_config__ = _TOLERANT  # type: ignore[misc]

    status: str
    workflow: str | None
    error: _Why | None
    standing: list[Annotated[dict[str, Any], AfterValidator(lambda data: LogEntry.from_dict(data) and data)]]
    used: Annotated[dict[str, Any], AfterValidator(lambda data: Usage.from_dict(data) is not None and data)]


_ENTRY = TypeAdapter(Arrival)
_BRANCHES = TypeAdapter(list[_End])
_CHILD = TypeAdapter(_End)


def check(key: str, arrival: Mapping[str, Any]) -> None:
    """Refuse a value that is not what the engine reads of an entry with such a key.

    Raises:
        ValueError: it says what is wrong.
    """
    if "value" not in arrival:
        return
    value = arrival["value"]
    if key.startswith(APPROVAL):
        Approval.model_validate(value)
    elif key.startswith(JOIN) and value is not None:
        _BRANCHES.validate_python(value)
    elif key.startswith(CHILD) and "status" not in _CHILD.validate_python(value):
        raise ValueError("status: Field required")


def _checked(key: str, arrival: Arrival) -> None:
    if arrival.keys().isdisjoint(Arrival.__annotations__):
        raise ValueError(f"{key!r}: an entry has one of: {', '.join(sorted(Arrival.__annotations__))}")
    try:
        check(key, arrival)
    except ValidationError as error:  # without the value, which is not for a log
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, ("value", *problem["loc"])))
        raise ValueError(f"{key!r}: {where}: {problem['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{key!r}: value: {error}") from error


def checked(key: str, given: Any) -> Any:
    """What came for a key, as an entry of what a step has received.

    Raises:
        ValueError: it is none; the text says why, without the value.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{key!r}: an entry is an object")
    entry: Arrival = _ENTRY.validate_python(given)
    _checked(key, entry)
    return entry


def _all_checked(received: dict[str, list[Arrival]]) -> dict[str, list[Arrival]]:
    for key, arrivals in received.items():
        if key.startswith(JOIN) and not arrivals:
            raise ValueError(f"{key!r}: what a join came to is missing")
        for arrival in arrivals:
            _checked(key, arrival)
    return received


def _as_json(value: Any, info: ValidationInfo) -> Any:
    if info.mode == "json" or info.context is OFF_THE_WIRE:
        return value
    return jsonable(value, "received")


Received = Annotated[dict[str, list[Arrival]], BeforeValidator(_as_json), AfterValidator(_all_checked)]
"""What a step has received, by what it waited for, in the order in which it came."""
