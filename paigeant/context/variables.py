"""A workflow's variables, as a step sees and sets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from paigeant.values import jsonable, revive


class Variables(MutableMapping[str, Any]):
    """The workflow's variables as this step sees them; what it sets is carried to the steps after it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._changed: dict[str, Any] | None = None

    @property
    def changed(self) -> dict[str, Any] | None:
        """All variables, when one was set or deleted; else None."""
        return self._changed

    def differences(self) -> tuple[dict[str, Any], list[str]]:
        """What was set, and the names of what was deleted."""
        before, after = self._values, self._now()
        changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
        return changed, [name for name in before if name not in after]

    def _now(self) -> Mapping[str, Any]:
        return self._values if self._changed is None else self._changed

    def _writable(self) -> dict[str, Any]:
        if self._changed is None:
            self._changed = dict(self._values)
        return self._changed

    def __getitem__(self, name: str) -> Any:
        return self._now()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._writable()[name] = jsonable(value, f"variables[{name!r}]")

    def __delitem__(self, name: str) -> None:
        del self._writable()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def typed(self, name: str, type: Any) -> Any:  # noqa: A002 - reads as variables.typed("due", type=datetime)
        """A variable as the given type again."""
        return revive(self[name], type)
