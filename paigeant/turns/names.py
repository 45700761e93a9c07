"""What tools and hooks are called: things that were written down are found again by their names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from paigeant.errors import ConfigurationError

T = TypeVar("T")


class Names(Generic[T]):
    """Things of one kind by name, for this process."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Note a thing, in the place of one that was defined where it is now.

        Raises:
            ConfigurationError: another has this name.
        """
        known = self._known.get(name)
        if known is not None and _origin(known) != _origin(thing):
            raise ConfigurationError(f"there is a {self._kind} {name!r} already, in {_origin(known)[0]}")
        self._known[name] = thing

    def get(self, name: str) -> T:
        """The thing of this name.

        Raises:
            ConfigurationError: there is none.
        """
        if name in self._known:
            return self._known[name]
        near = get_close_matches(name, self._known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"is the module imported that defines the {self._kind}?"
        raise ConfigurationError(f"there is no {self._kind} {name!r}", hint=hint)


def _origin(thing: Any) -> tuple[str, str]:
    return thing.function.__module__, thing.function.__qualname__
