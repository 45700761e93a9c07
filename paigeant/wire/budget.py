"""Budgets: what a whole workflow may use. Pure.

A budget and what was used travel in the slip. Where a slip is split over branches, what is left is split with it, and
what the branches used is added up where they come together.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from paigeant.errors import BudgetExceeded
from paigeant.wire.model import WireModel
from paigeant.wire.times import LONGEST
from paigeant.wire.usage import Count, Usage


class Budget(WireModel):
    """The most that a workflow may use, branches included; None: any amount.

    ``tokens`` are those of input and output, ``cost`` is US dollars, ``requests`` and ``tool_calls`` are those of
    agents, ``seconds`` begin with the dispatch. What would go beyond it is not started: a request may use more tokens
    than were left, and is then the last.
    """

    tokens: Count | None = None
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    requests: Count | None = None
    tool_calls: Count | None = None
    steps: Count | None = None
    seconds: Annotated[float, Field(gt=0, le=LONGEST)] | None = None

    def check(self, used: Usage, *, requests: int = 0, tool_calls: int = 0, steps: int = 0) -> None:
        """Whether so much more may be started.

        Raises:
            BudgetExceeded: naming what is used up.
        """
        self._check_count("step", used.steps, steps, self.steps)
        self._check_count("model request", used.requests, requests, self.requests)
        self._check_count("tool call", used.tool_calls, tool_calls, self.tool_calls)
        if requests and self.tokens is not None and used.tokens >= self.tokens:
            raise BudgetExceeded(f"the workflow may use {self.tokens} tokens, and has used {used.tokens}")
        if requests and self.cost is not None:
            self._check_cost(self.cost, used)

    def _check_count(self, what: str, used: int, more: int, limit: int | None) -> None:
        if more and limit is not None and used + more > limit:
            raise BudgetExceeded(f"the workflow may make {limit} {what}{'' if limit == 1 else 's'}, and no more")

    def _check_cost(self, cost: float, used: Usage) -> None:
        if used.unpriced:
            raise BudgetExceeded(
                f"the workflow may cost {cost:g} US dollars, and nobody knows the price of {used.unpriced} of its"
                " model requests",
                hint="limit tokens or requests, or use a model whose price genai-prices knows",
            )
        if used.cost >= cost:
            raise BudgetExceeded(f"the workflow may cost {cost:g} US dollars, and has cost {used.cost:g}")

    def shares(self, used: Usage, count: int) -> list[Budget]:
        """What is left, in so many equal parts; what cannot be split goes to the first ones."""
        left: dict[str, list[int] | list[None]] = {
            name: _parts(limit, spent, count)
            for name, limit, spent in (
                ("tokens", self.tokens, used.tokens),
                ("requests", self.requests, used.requests),
                ("tool_calls", self.tool_calls, used.tool_calls),
                ("steps", self.steps, used.steps),
            )
        }
        cost = None if self.cost is None else max(self.cost - used.cost, 0.0) / count
        return [Budget(cost=cost, **{name: parts[at] for name, parts in left.items()}) for at in range(count)]

    def granted(self, used: Usage, wanted: Budget | None) -> Budget:
        """What a workflow that this one dispatches may use: what it ``wanted``, else half of what is left.

        Raises:
            BudgetExceeded: it wanted more than is left.
        """
        _, half = self.shares(used, 2)
        if wanted is None:
            return half
        (left,) = self.shares(used, 1)
        for name in _LIMITS:
            limit, rest = getattr(wanted, name), getattr(left, name)
            if limit is not None and rest is not None and limit > rest:
                raise BudgetExceeded(
                    f"the workflow to dispatch may use {name}={limit:g}, and {rest:g} are left of the budget",
                    hint="give it a smaller budget, or this workflow a larger one",
                )
        chosen = {name: getattr(wanted, name) for name in _LIMITS if getattr(wanted, name) is not None}
        return half.model_copy(update=chosen)

    def as_usage(self) -> Usage:
        """The budget as if all of it were used: what is set apart for a workflow that is dispatched."""
        return Usage(
            input_tokens=self.tokens or 0,
            requests=self.requests or 0,
            tool_calls=self.tool_calls or 0,
            steps=self.steps or 0,
            cost=self.cost or 0.0,
        )


_LIMITS = ("tokens", "cost", "requests", "tool_calls", "steps")


def _parts(limit: int | None, used: int, count: int) -> list[int] | list[None]:
    if limit is None:
        return [None] * count
    each, over = divmod(max(limit - used, 0), count)
    return [each + (at < over) for at in range(count)]
