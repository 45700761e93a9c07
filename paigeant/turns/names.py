"""The registry of tools and hooks by name, so that ``from_dict`` can restore references to them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from paigeant.errors import ConfigurationError
from paigeant.runtime.nearest import did_you_mean

T = TypeVar("T")


class Names(Generic[T]):
    """The tools or the hooks of this process, by name."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Register a thing. It replaces an earlier one from the same function, for example after a module reload.

        Raises:
            ConfigurationError: a different thing has this name.
        """
        known = self._known.get(name)
        if known is not None and _origin(known) != _origin(thing):
            raise ConfigurationError(f"there is already a {self._kind} {name!r} in {_origin(known)[0]}")
        self._known[name] = thing

    def get(self, name: str) -> T:
        """Return the thing with this name.

        Raises:
            ConfigurationError: no thing has this name.
        """
        if name in self._known:
            return self._known[name]
        hint = did_you_mean(name, self._known, f"is the module imported that defines the {self._kind}?")
        raise ConfigurationError(f"there is no {self._kind} {name!r}", hint=hint)


def _origin(thing: Any) -> tuple[str, str]:
    return thing.function.__module__, thing.function.__qualname__
