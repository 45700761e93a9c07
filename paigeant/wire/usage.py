"""What agent steps use: requests, tool calls, tokens and money."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field

from paigeant.wire.model import WireModel

Count = Annotated[int, Field(ge=0)]


class Usage(WireModel):
    """What was used. ``cost`` is US dollars, without that of ``unpriced`` requests, whose price nobody knows.

    ``steps`` are those that completed.
    """

    requests: Count = 0
    tool_calls: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    unpriced: Count = 0
    steps: Count = 0

    @property
    def tokens(self) -> int:
        """Both ways."""
        return self.input_tokens + self.output_tokens

    def __bool__(self) -> bool:
        return any(self.__dict__.values())

    def plus(self, *others: Usage) -> Self:
        """The sum."""
        sums: dict[str, float] = {}
        for one in others:
            for name, value in one.__dict__.items():
                if value:  # most are nothing, as only agents use anything
                    sums[name] = sums.get(name, self.__dict__[name]) + value
        return self.model_copy(update=sums) if sums else self

    def minus(self, other: Usage) -> Self:
        """The difference."""
        parts = {name: getattr(self, name) - getattr(other, name) for name in type(self).model_fields}
        return self.model_copy(update=parts)


NOTHING = Usage()


def total(parts: Iterable[Usage]) -> Usage:
    """The sum of all."""
    return NOTHING.plus(*parts)
