"""Whether a step is run at all, as data that travels with it: decided by whoever completes the step before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from paigeant.wire.model import Label, WireModel
from paigeant.wire.values import Json


class Condition(WireModel):
    """A step is run if the value of a ``variable``, or of the ``output`` of an earlier step by name or id, is true.

    ``field`` is a part of the value: ``"risk.level"``. With ``among`` the value must be one of these; without, it must
    not be null, false, 0 or empty. What is not there is null. ``negated``: the step is run if it is not so.
    """

    variable: Label | None = None
    output: Label | None = None
    field: Label | None = None
    among: tuple[Json, ...] = ()
    negated: bool = False

    @model_validator(mode="before")
    @classmethod
    def _of_a_variable(cls, data: Any) -> Any:
        """A text is the name of a variable."""
        return {"variable": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _of_one_value(self) -> Self:
        if (self.variable is None) == (self.output is None):
            raise ValueError("a condition is on a variable or on an output, and on one of them")
        return self

    def holds(self, value: Any) -> bool:
        """Whether a step with this condition is run, given the value of the variable or output."""
        for name in self.field.split(".") if self.field else ():
            value = value.get(name) if isinstance(value, Mapping) else None
        is_so = any(_is_same(value, one) for one in self.among) if self.among else bool(value)
        return is_so != self.negated


def _is_same(value: Any, other: Any) -> bool:
    """As JSON has it: true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
