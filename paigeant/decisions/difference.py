"""Says how two values of JSON types differ, for example two messages of one workflow. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where two values differ. ``before`` or ``after`` is None if nothing is there."""

    path: str
    before: Any
    after: Any


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Yield the smallest parts that differ. The members of a list with ids are compared by their ids."""
    one, other = _members(before), _members(after)
    if one is None or other is None:
        if before != after or type(before) is not type(after):
            yield Difference(path, before, after)
        return
    for name in [*one, *(name for name in other if name not in one)]:
        yield from differences(one.get(name), other.get(name), f"{path}.{name}" if path else str(name))


def _members(value: Any) -> Mapping[str, Any] | None:
    """Return the members of an object or a list by their names; None for a value that has none."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list):
        return None
    ids = [one["id"] for one in value if isinstance(one, Mapping) and isinstance(one.get("id"), str)]
    names = ids if len(set(ids)) == len(value) else map(str, range(len(value)))
    return {f"[{name}]": one for name, one in zip(names, value, strict=True)}
