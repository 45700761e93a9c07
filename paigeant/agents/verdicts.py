"""What pydantic-ai's errors say about another attempt."""

from __future__ import annotations

from typing import Any

from paigeant.failure import Verdict

_BY_STATUS = {
    **dict.fromkeys((429, 503, 529), Verdict.LATER),
    **dict.fromkeys((401, 402, 403), Verdict.PARK),
    **dict.fromkeys((400, 404, 405, 413, 415, 422), Verdict.NEVER),
}
"""For providers, and releases of pydantic-ai, that say it by the HTTP status only."""

_BY_NAME = {
    "ModelRateLimitError": Verdict.LATER,
    "ModelUnavailableError": Verdict.LATER,
    "ModelAuthenticationError": Verdict.PARK,
    "ModelQuotaExceededError": Verdict.PARK,
    "ModelRequestRejectedError": Verdict.NEVER,
    "UsageLimitExceeded": Verdict.NEVER,
    "ContentFilterError": Verdict.NEVER,
    "UserError": Verdict.NEVER,
}
"""Classes of ``pydantic_ai.exceptions``, those below them included; not every release has each."""

_MILDEST_FIRST = (Verdict.LATER, Verdict.PARK, None, Verdict.NEVER)


def verdict(error: BaseException) -> Verdict | None:
    """Whether another attempt may help, and when; None: as the retry policy of the step says."""
    if isinstance(error, BaseExceptionGroup):  # of several models: the one that may work again counts
        return min((verdict(one) for one in error.exceptions), key=_MILDEST_FIRST.index)
    if _lacks_a_key(error):
        return Verdict.PARK
    for kind in type(error).__mro__:
        if kind.__module__ == "pydantic_ai.exceptions" and kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    return _BY_STATUS.get(_status(error)) if _is(error, "ModelHTTPError") else None


def _is(error: BaseException, name: str) -> bool:
    return any(kind.__module__ == "pydantic_ai.exceptions" and kind.__name__ == name for kind in type(error).__mro__)


def _status(error: Any) -> int:
    status: int = error.status_code
    return status


def _lacks_a_key(error: BaseException) -> bool:
    """The same class says so that says everything else about wrong use, but somebody can give the worker a key."""
    return _is(error, "UserError") and "API_KEY" in str(error)
