"""What pydantic-ai's errors say about another attempt."""

from __future__ import annotations

import pytest
from pydantic_ai import exceptions
from pydantic_ai.exceptions import (
    ContentFilterError,
    FallbackExceptionGroup,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)

from paigeant.agents.verdicts import verdict
from paigeant.decisions.failure import Verdict
from paigeant.errors import JournalMismatch


def made(name: str) -> BaseException:
    if not hasattr(exceptions, name):
        pytest.skip("this release of pydantic-ai tells by the HTTP status only")
    return getattr(exceptions, name)("some-model", "says the provider")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ModelRateLimitError", Verdict.LATER),
        ("ModelOverloadedError", Verdict.LATER),
        ("ModelUnavailableError", Verdict.LATER),
        ("ModelAuthenticationError", Verdict.PARK),
        ("ModelQuotaExceededError", Verdict.PARK),
        ("ModelRequestRejectedError", Verdict.NEVER),
        ("ModelContextWindowExceededError", Verdict.NEVER),
        ("ModelNotFoundError", Verdict.NEVER),
        ("ModelServerError", Verdict.LATER),
        ("ModelConnectionError", Verdict.LATER),
    ],
)
def test_by_class(name, expected):
    """The nearest class that says something: an authentication error is a rejected request as well."""
    assert verdict(made(name)) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, Verdict.LATER),
        (529, Verdict.LATER),
        (503, Verdict.LATER),
        (401, Verdict.PARK),
        (402, Verdict.PARK),
        (403, Verdict.PARK),
        (400, Verdict.NEVER),
        (404, Verdict.NEVER),
        (422, Verdict.NEVER),
        (408, Verdict.LATER),
        (500, Verdict.LATER),
        (502, Verdict.LATER),
        (409, None),
    ],
)
def test_by_status(status, expected):
    """Where no class says it."""
    assert verdict(ModelHTTPError(status, "some-model")) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UsageLimitExceeded("too much"), Verdict.NEVER),
        (ContentFilterError("no"), Verdict.NEVER),
        (UserError("Unknown model: x"), Verdict.NEVER),
        (UserError("Set the `ANTHROPIC_API_KEY` environment variable"), Verdict.PARK),
        (UnexpectedModelBehavior("hm"), None),
        (RuntimeError("API_KEY"), None),
        (JournalMismatch("other code"), Verdict.PARK),
        (TimeoutError("of the step's own"), None),
    ],
)
def test_other_errors(error, expected):
    """A key that is missing can be given; other wrong use stays wrong."""
    assert verdict(error) is expected


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((400, 429), Verdict.LATER), ((401, 400), Verdict.PARK), ((500, 400), Verdict.LATER), ((400, 404), Verdict.NEVER)],
)
def test_of_several_models_the_mildest_counts(statuses, expected):
    """One that works again is enough."""
    assert verdict(FallbackExceptionGroup("all failed", [ModelHTTPError(one, "m") for one in statuses])) is expected
