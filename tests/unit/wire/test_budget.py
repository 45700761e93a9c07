"""Budgets: what may be started, and how they are split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.errors import BudgetExceeded
from paigeant.wire.budget import Budget
from paigeant.wire.usage import NOTHING, Usage, total

FEW = st.integers(0, 1000)
USED = st.builds(Usage, input_tokens=FEW, output_tokens=FEW, requests=FEW, tool_calls=FEW, steps=FEW)
BUDGETS = st.builds(
    Budget,
    **dict.fromkeys(("tokens", "requests", "tool_calls", "steps"), st.none() | FEW),
    cost=st.none() | st.floats(0, 9),
)


@pytest.mark.parametrize(
    ("budget", "used", "starting", "refused"),
    [
        (Budget(), Usage(requests=9, input_tokens=9**9, cost=99), {"requests": 1}, None),
        (Budget(requests=2), Usage(requests=1), {"requests": 1}, None),
        (Budget(requests=2), Usage(requests=2), {"requests": 1}, "may make 2 model requests"),
        (Budget(requests=2), Usage(requests=2), {"tool_calls": 1}, None),
        (Budget(tool_calls=1), Usage(tool_calls=1), {"tool_calls": 1}, "may make 1 tool call, and no more"),
        (Budget(steps=1), Usage(steps=1), {"steps": 1}, "may make 1 step, and no more"),
        (Budget(steps=0), Usage(), {"steps": 1}, "may make 0 steps"),
        (Budget(tokens=10), Usage(input_tokens=9), {"requests": 1}, None),
        (Budget(tokens=10), Usage(input_tokens=9, output_tokens=1), {"requests": 1}, "10 tokens, and has used 10"),
        (Budget(tokens=10), Usage(input_tokens=99), {"steps": 1}, None),
        (Budget(tokens=10), Usage(input_tokens=99), {"tool_calls": 1}, None),
        (Budget(cost=1), Usage(cost=0.99, requests=3), {"requests": 1}, None),
        (Budget(cost=1), Usage(cost=1.5, requests=3), {"requests": 1}, "may cost 1 US dollars, and has cost 1.5"),
        (Budget(cost=1), Usage(unpriced=2, requests=3), {"requests": 1}, "nobody knows the price of 2 of its"),
    ],
)
def test_what_may_be_started(budget, used, starting, refused):
    """Counts before they are exceeded; tokens and money when they are used up."""
    if refused is None:
        budget.check(used, **starting)
        return
    with pytest.raises(BudgetExceeded, match=refused):
        budget.check(used, **starting)


@given(BUDGETS, USED, st.integers(1, 20))
def test_shares_add_up_to_what_is_left(budget, used, count):
    """No less, no more, and as equal as can be."""
    shares = budget.shares(used, count)
    assert len(shares) == count
    for name, spent in (("tokens", used.tokens), ("requests", used.requests), ("steps", used.steps)):
        limit, parts = getattr(budget, name), [getattr(share, name) for share in shares]
        if limit is None:
            assert set(parts) == {None}
        else:
            assert sum(parts) == max(limit - spent, 0)
            assert max(parts) - min(parts) <= 1
    if budget.cost is not None:
        assert sum(share.cost for share in shares) == pytest.approx(max(budget.cost - used.cost, 0))


@given(USED, USED)
def test_usage_adds_up(one, other):
    """And back again; what is zero is not written."""
    assert one.plus(other).minus(other) == one
    assert total([one, other]).tokens == one.tokens + other.tokens
    assert Usage.from_dict(one.to_dict()) == one
    assert NOTHING.to_dict() == {}
    assert not NOTHING


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, Budget(tokens=45, steps=1)),
        (Budget(tokens=80), Budget(tokens=80, steps=1)),
        (Budget(requests=5), Budget(tokens=45, steps=1, requests=5)),
    ],
)
def test_a_dispatched_workflow_is_given_a_part_of_what_is_left(wanted, expected):
    """What it wants, else half."""
    assert Budget(tokens=100, steps=4).granted(Usage(input_tokens=10, steps=1), wanted) == expected


def test_a_dispatched_workflow_is_not_given_more_than_is_left():
    """The error names what is too much."""
    with pytest.raises(BudgetExceeded, match="tokens=91, and 90 are left"):
        Budget(tokens=100).granted(Usage(output_tokens=10), Budget(tokens=91))
