"""Judges by an error of pydantic-ai whether another attempt may help."""

from __future__ import annotations

from typing import Any

from paigeant.decisions.failure import Verdict
from paigeant.errors import JournalMismatch, NotSerializable

_BY_STATUS = {
    **dict.fromkeys((408, 425, 429), Verdict.LATER),
    **dict.fromkeys((401, 402, 403), Verdict.PARK),
    **dict.fromkeys((400, 404, 405, 413, 415, 422), Verdict.NEVER),
}
"""Verdicts for providers, and releases of pydantic-ai, that report an HTTP status only. Every 5xx is temporary."""

_BY_NAME = {
    "ModelRateLimitError": Verdict.LATER,
    "ModelUnavailableError": Verdict.LATER,
    "ModelServerError": Verdict.LATER,
    "ModelConnectionError": Verdict.LATER,
    "ModelTimeoutError": Verdict.LATER,
    "ModelAuthenticationError": Verdict.PARK,
    "ModelQuotaExceededError": Verdict.PARK,
    "ModelRequestRejectedError": Verdict.NEVER,
    "UsageLimitExceeded": Verdict.NEVER,
    "ContentFilterError": Verdict.NEVER,
    "UserError": Verdict.NEVER,
}
"""Classes of ``pydantic_ai.exceptions``, subclasses included. Some releases lack some of them."""

_MILDEST_FIRST = (Verdict.LATER, Verdict.PARK, None, Verdict.NEVER)


def verdict(error: BaseException) -> Verdict | None:
    """Whether and when another attempt may help; None leaves it to the retry policy of the step."""
    if isinstance(error, BaseExceptionGroup):  # of several models: the mildest error counts
        return min((verdict(one) for one in error.exceptions), key=_MILDEST_FIRST.index)
    if isinstance(error, JournalMismatch) or _lacks_a_key(error):
        return Verdict.PARK
    if isinstance(error, NotSerializable):
        return Verdict.NEVER
    for kind in type(error).__mro__:
        if kind.__module__ == "pydantic_ai.exceptions" and kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    if _is(error, "ModelHTTPError"):
        status = _status(error)
        return Verdict.LATER if status >= 500 else _BY_STATUS.get(status)
    return Verdict.LATER if _is(error, "ModelAPIError") or _is_connection_trouble(error) else None


def _is(error: BaseException, name: str) -> bool:
    return any(kind.__module__ == "pydantic_ai.exceptions" and kind.__name__ == name for kind in type(error).__mro__)


def _is_connection_trouble(error: BaseException) -> bool:
    """Whether an HTTP client could not connect to the provider, or lost the connection."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(kinds & _CONNECTION_TROUBLE)


_CONNECTION_TROUBLE = {
    (module, name) for module in ("httpx", "httpx2") for name in ("TransportError", "TimeoutException", "NetworkError")
}


def _status(error: Any) -> int:
    status: int = error.status_code
    return status


def _lacks_a_key(error: BaseException) -> bool:
    """Whether the API key is missing. pydantic-ai uses its class for wrong use here, but an operator can fix this."""
    return _is(error, "UserError") and "API_KEY" in str(error)
