"""What follows an exception, as tables of (error, policy, rules) and outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import EXECUTION, message, policies

from paigeant.decisions.failure import Failure, after, error_info
from paigeant.decisions.interrupts import Park, Retry
from paigeant.decisions.outcome import Exhausted, Faulted, Parked, Retrying
from paigeant.errors import InvalidArguments, InvalidInput
from paigeant.wire.retry import RetryPolicy, RetryRules, retry_after

NOW = EXECUTION.finished_at
STEADY = RetryPolicy(attempts=3, delay=4, jitter=False)
QUICK = RetryPolicy(attempts=4, delay=4, jitter=False, quick=2)


class ServerError(Exception):
    """As HTTP clients raise it."""

    def __init__(self, headers: Any = None, **attributes: Any) -> None:
        super().__init__("503")
        self.headers = headers
        self.__dict__ |= attributes


def failed(error: BaseException, policy: RetryPolicy = STEADY, *, attempt: int = 1, **rest: Any) -> Any:
    rules = rest.pop("rules", RetryRules())
    one = message("a", attempt=attempt, uncounted=rest.pop("uncounted", 0))
    return after(Failure(error=error, message=one, execution=EXECUTION, policy=policy, rules=rules, **rest))


# (error, policy, attempt) -> (delay, counted, in place), or the outcome that is no retry
TABLE = [
    (ValueError(), STEADY, 1, (4, True, False)),
    (ValueError(), STEADY, 2, (8, True, False)),
    (ValueError(), STEADY, 3, Faulted),
    (ValueError(), RetryPolicy(), 1, Faulted),
    (ValueError(), QUICK, 1, (0.1, True, True)),
    (ValueError(), QUICK, 2, (0.1, True, True)),
    (ValueError(), QUICK, 3, (4, True, False)),
    (ValueError(), QUICK, 4, Faulted),
    (ValueError(), RetryPolicy(attempts=2, exhausted="park"), 2, Exhausted),
    (Retry(), STEADY, 1, (4, True, False)),
    (Retry(after=0), STEADY, 1, (0, True, False)),
    (Retry(after=7), QUICK, 1, (7, True, False)),
    (Retry(after=7), STEADY, 3, Faulted),
    (Retry(after=7, counted=False), STEADY, 3, (7, False, False)),
    (Retry(counted=False), QUICK, 1, (0.1, False, False)),
    (ServerError(retry_after=9), STEADY, 1, (9, False, False)),
    (ServerError(retry_after=9), STEADY, 3, (9, False, False)),
    (ServerError(retry_after=9), RetryPolicy(), 1, Faulted),
    (InvalidInput("no"), STEADY, 1, Faulted),
    (InvalidInput("no"), RetryPolicy(attempts=2, exhausted="park"), 1, Faulted),
    (InvalidArguments("no"), STEADY, 1, Faulted),
    (SystemExit(), STEADY, 1, (4, True, False)),
]


@pytest.mark.parametrize(("error", "policy", "attempt", "expected"), TABLE)
def test_what_follows_an_error(error, policy, attempt, expected):
    """The whole decision as a table."""
    outcome = failed(error, policy, attempt=attempt)
    if isinstance(expected, tuple):
        assert isinstance(outcome, Retrying)
        assert (outcome.delay, outcome.counted, outcome.in_place) == expected
    else:
        assert isinstance(outcome, expected)


def test_a_policy_counts_only_what_counts():
    """Attempt 7 of which 5 do not count is the second try."""
    assert isinstance(failed(ValueError(), attempt=7, uncounted=5), Retrying)
    assert isinstance(failed(ValueError(), attempt=7, uncounted=4), Faulted)


@given(policies, st.integers(1, 100))
def test_a_step_is_started_as_often_as_its_policy_says(policy, failures):
    """However it fails, and whatever the policy says about when."""
    one, starts = message("a"), 1
    while starts < failures and isinstance(
        outcome := after(Failure(error=ValueError(), message=one, execution=EXECUTION, policy=policy)), Retrying
    ):
        one, starts = one.again(counted=outcome.counted), starts + 1
    assert starts == min(failures, policy.attempts)


# (rules, error) -> whether another attempt follows
RULES = [
    (RetryRules(), KeyError(), True),
    (RetryRules(retry_on=OSError), ConnectionError(), True),
    (RetryRules(retry_on=OSError), KeyError(), False),
    (RetryRules(retry_on=(OSError, KeyError)), KeyError(), True),
    (RetryRules(give_up_on=LookupError), KeyError(), False),
    (RetryRules(give_up_on=LookupError), OSError(), True),
    (RetryRules(retry_on=Exception, give_up_on=(KeyError, OSError)), OSError(), False),
    (RetryRules(retry_on=lambda error: error.args == (503,)), ValueError(503), True),
    (RetryRules(retry_on=lambda error: error.args == (503,)), ValueError(404), False),
    (RetryRules(give_up_on=lambda error: error.args == (404,)), ValueError(404), False),
]


@pytest.mark.parametrize(("rules", "error", "again"), RULES)
def test_rules_say_for_which_errors_to_try_again(rules, error, again):
    """By type, types or a function of the error."""
    assert isinstance(failed(error, rules=rules), Retrying) is again


@pytest.mark.parametrize("error", [Retry(), Retry(after=3)])
def test_what_the_activity_asks_for_is_not_judged_by_rules(error):
    """``raise Retry`` is an explicit wish."""
    assert isinstance(failed(error, rules=RetryRules(retry_on=OSError)), Retrying)


def test_a_step_that_waits_keeps_what_it_has_dispatched_and_reported():
    """Parking is no failure."""
    child = message("b", correlation_id="child")
    outcome = failed(Park("key", 10.0, "why"), children=(child,), progress=5)
    assert outcome == Parked(EXECUTION, "key", NOW + 10, "why", (child,), 5)


def test_what_an_attempt_reported_is_kept_for_the_next():
    """Whether that comes by itself or from an operator."""
    assert failed(ValueError(), progress=5).progress == 5
    assert failed(ValueError(), RetryPolicy(exhausted="park"), progress=5).progress == 5


# --- Retry-After -----------------------------------------------------------------------------------------------------

AT = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, as RFC 9110 has it."""


def mail_headers(value: str) -> Message:
    """As urllib has them."""
    headers = Message()
    headers["retry-after"] = value
    return headers


class Response:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


class Unreadable(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("the request was never made")


ASKED = [
    (ServerError(retry_after=30), 30),
    (ServerError(retry_after=1.5), 1.5),
    (ServerError(retry_after="30"), 30),
    (ServerError(retry_after=timedelta(minutes=2)), 120),
    (ServerError(retry_after=datetime.fromtimestamp(AT + 5, UTC)), 5),
    (ServerError({"Retry-After": "120"}), 120),
    (ServerError({"retry-after": " 120 "}), 120),
    (ServerError(mail_headers("120")), 120),
    (ServerError(response=Response({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"})), 60),
    (ServerError({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}), None),
    (ServerError({"Retry-After": "0"}), None),
    (ServerError({"Retry-After": "-5"}), None),
    (ServerError({"Retry-After": "soon"}), None),
    (ServerError({"Retry-After": "1000000000"}), None),
    (ServerError({"Retry-After": "9" * 5000}), None),
    (ServerError({}), None),
    (ServerError(["Retry-After"]), None),
    (ServerError(retry_after=True), None),
    (ServerError(retry_after=float("nan")), None),
    (ServerError(retry_after=print), None),
    (Unreadable(), None),
    (ValueError("x"), None),
]


@pytest.mark.parametrize(("error", "seconds"), ASKED)
def test_when_a_server_wants_to_be_asked_again(error, seconds):
    """In seconds or as a date; what makes no sense is not said."""
    assert retry_after(error, AT) == seconds


def test_an_error_may_be_raised_from_the_one_that_says_it():
    """As pydantic-ai wraps the errors of a provider."""
    wrapped = ValueError("model failed")
    wrapped.__cause__ = ServerError({"Retry-After": "7"})
    assert retry_after(wrapped, AT) == 7


def test_a_chain_of_errors_may_have_no_end():
    """An error that causes itself is looked through once in a while, not for ever."""
    error = ValueError()
    error.__cause__ = error
    assert retry_after(error, AT) is None


def test_a_timeout_inside_a_step_is_not_taken_for_that_of_the_step():
    """asyncio's says nothing of itself."""
    assert error_info(TimeoutError()).message == ""
