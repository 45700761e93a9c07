"""``OPEN``: marks an argument of a step that the worker fills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final


@final
class _Open:
    """The type of :data:`OPEN`, which is its only value."""

    def __repr__(self) -> str:
        return "OPEN"


OPEN: Any = _Open()
"""Leaves a parameter of a step open: ``charge.step(amount=5, customer=OPEN)``.

At run time this is the same as leaving the argument out. It tells a type checker that the worker fills the parameter:
with a variable, the previous step's output, the context or a dependency.
"""


@final
class NamedOnly:
    """A type without values. No positional argument matches it, because steps take their arguments by name."""

    def __new__(cls) -> NamedOnly:
        raise TypeError("steps take their arguments by name")


def closed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments except ``OPEN`` ones."""
    return {name: value for name, value in arguments.items() if value is not OPEN}
