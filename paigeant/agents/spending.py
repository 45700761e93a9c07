"""Converts the usage that pydantic-ai reports into paigeant's."""

from __future__ import annotations

from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RunUsage

from paigeant.wire.usage import Usage


def used_by(response: ModelResponse, *, is_poll: bool) -> Usage:
    """The usage of one model response. A poll of a request that was made before is no request of its own."""
    usage = response.usage
    try:
        cost, unpriced = float(response.cost().total_price), 0
    except (LookupError, ValueError, AssertionError):
        cost, unpriced = 0.0, 1
    requests = 0 if is_poll else 1
    return Usage(
        requests=requests,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost=cost,
        unpriced=min(unpriced, requests),
    )


def usage_of(spent: RunUsage) -> Usage:
    """The usage of a run. pydantic-ai reports no cost for it, so its requests count as unpriced."""
    return Usage(
        requests=spent.requests,
        tool_calls=spent.tool_calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        unpriced=spent.requests,
    )


def without(spent: Usage, recorded: Usage) -> Usage:
    """The usage without the part that is recorded separately."""
    parts = ("requests", "tool_calls", "input_tokens", "output_tokens")
    rest = {name: max(0, getattr(spent, name) - getattr(recorded, name)) for name in parts}
    return Usage(**rest, unpriced=rest["requests"])
