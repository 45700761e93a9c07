from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.builders import policies

from paigeant.wire.retry import RetryPolicy

attempts = st.integers(1, 10**9)


@given(policies, attempts)
def test_no_wait_is_longer_than_the_ceiling_and_no_ceiling_longer_than_max_delay(policy, attempt):
    """However often a step has failed, and however steep the policy."""
    assert 0 <= policy.wait(attempt) <= policy.ceiling(attempt) <= policy.max_delay


@given(policies, attempts, st.floats(0, 1))
def test_jitter_spreads_the_wait_over_the_whole_ceiling(policy, attempt, chance):
    """Full jitter: any wait between none and the ceiling; without jitter always the ceiling."""
    share = chance if policy.jitter else 1
    assert policy.wait(attempt, chance) == policy.ceiling(attempt) * share


@given(policies, attempts)
def test_ceilings_never_fall(policy, attempt):
    """A later attempt does not wait less."""
    assert policy.ceiling(attempt) <= policy.ceiling(attempt + 1)


def test_the_ceiling_doubles_from_the_first_delay():
    """The default factor."""
    policy = RetryPolicy(delay=1, max_delay=10)
    assert [policy.ceiling(attempt) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_no_delay_stays_none_however_often_it_is_multiplied():
    """A factor beyond all floats must not turn 0 into max_delay."""
    assert RetryPolicy(delay=0, factor=1e300).ceiling(1000) == 0


def test_attempts_count_the_first_start():
    """attempts=3 is one run and two retries."""
    policy = RetryPolicy(attempts=3)
    assert [policy.allows(attempt) for attempt in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.parametrize(
    "field",
    [
        {"attempts": 0},
        {"delay": -1},
        {"delay": float("inf")},
        {"delay": float("nan")},
        {"factor": 0.5},
        {"max_delay": float("inf")},
        {"retries": 3},
        {"quick": 1},
        {"attempts": 3, "quick": 3},
        {"attempts": 100, "quick": 11},
        {"exhausted": "ignore"},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(field):
    """At once, where it is written; infinities cannot be written as JSON."""
    with pytest.raises(ValidationError):
        RetryPolicy(**field)


def test_quick_tries_come_first_and_the_delays_begin_after_them():
    """However long the first delay is."""
    policy = RetryPolicy(attempts=6, quick=2, delay=1)
    assert [policy.is_quick(attempt) for attempt in range(1, 6)] == [True, True, False, False, False]
    assert [policy.ceiling(attempt) for attempt in range(1, 6)] == [0.1, 0.1, 1, 2, 4]
