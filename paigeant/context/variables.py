"""The variables of a workflow, as a step reads and sets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from paigeant.wire.typed_values import revive
from paigeant.wire.values import copied, differences, jsonable


class Variables(MutableMapping[str, Any]):
    """The variables of the workflow. The steps after this one read the changes that this step makes.

    Reading a list or an object returns a copy that belongs to this attempt. When the step changes the copy in place,
    the variable counts as set.
    """

    def __init__(self, values: Mapping[str, Any], write: Callable[[str, Any], Any] | None = None) -> None:
        self._values = values
        self._write = write or _jsonable
        self._set: dict[str, Any] | None = None
        self._copies: dict[str, Any] = {}

    @property
    def changed(self) -> dict[str, Any] | None:
        """All variables if one was set, deleted or changed in place; None otherwise.

        Raises:
            NotSerializable: a variable was changed in place into a value that JSON cannot represent.
        """
        for name, copy in self._copies.items():
            serialized = self._write(name, copy)
            if serialized != self._current()[name]:
                self._writable()[name] = serialized
        return None if self._set is None else dict(self._set)

    def now(self) -> dict[str, Any]:
        """All variables with the changes so far, as JSON types. Do not change the values.

        Raises:
            NotSerializable: as :attr:`changed`.
        """
        changed = self.changed
        return dict(self._values) if changed is None else changed

    def apart(self) -> Variables:
        """The same variables for a tool call, whose changes count when they are merged."""
        return Variables(self.now(), self._write)

    def differences(self) -> tuple[dict[str, Any], list[str]]:
        """The variables that the step has set, and the names of the deleted ones."""
        return differences(self._values, self.now())

    def _current(self) -> Mapping[str, Any]:
        return self._values if self._set is None else self._set

    def _writable(self) -> dict[str, Any]:
        if self._set is None:
            self._set = dict(self._values)
        return self._set

    def __getitem__(self, name: str) -> Any:
        value = self._current()[name]
        if not isinstance(value, dict | list):
            return value
        return self._copies.setdefault(name, copied(value))

    def __setitem__(self, name: str, value: Any) -> None:
        self._writable()[name] = self._write(name, value)
        self._copies.pop(name, None)

    def __delitem__(self, name: str) -> None:
        del self._writable()[name]
        self._copies.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def typed(self, name: str, type: Any) -> Any:  # noqa: A002 - reads as variables.typed("due", type=datetime)
        """A variable as this type."""
        return revive(self[name], type)


def _jsonable(name: str, value: Any) -> Any:
    return jsonable(value, f"variables[{name!r}]")
