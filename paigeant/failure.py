"""What follows an exception of an activity. Pure: an error in, an outcome out."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from typing import Any

from paigeant.errors import ConfigurationError, MessageError
from paigeant.events import ErrorInfo
from paigeant.interrupts import Park, Retry
from paigeant.message import PaigeantMessage
from paigeant.outcome import Execution, Exhausted, Faulted, Outcome, Parked, Retrying
from paigeant.retry import ANY_ERROR, RetryPolicy, RetryRules, retry_after
from paigeant.values import printable

_LONGEST_TEXT = 16_384


class Verdict(Enum):
    """What an activity knows about its errors that a retry policy cannot know."""

    LATER = "later"
    """It works again by itself: another attempt follows, and this one does not count."""
    PARK = "park"
    """It works again when somebody has done something: the step waits for an operator."""
    NEVER = "never"
    """It would fail again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that ended with an error, and what its step and activity say about errors.

    ``children`` and ``progress`` are what the attempt had dispatched and reported. With ``excused`` the activity is
    known to fail: the attempt does not count, and the next one follows after so many seconds. ``verdict`` is what the
    activity says about this error.
    """

    error: BaseException
    message: PaigeantMessage
    execution: Execution
    policy: RetryPolicy
    rules: RetryRules = ANY_ERROR
    children: tuple[PaigeantMessage, ...] = ()
    progress: Any = None
    excused: float | None = None
    verdict: Verdict | None = None

    @property
    def is_curable(self) -> bool:
        """Whether another attempt may help: never with input or configuration that cannot get better."""
        if isinstance(self.error, Retry):
            return True
        if self.verdict is Verdict.NEVER or isinstance(self.error, MessageError | ConfigurationError):
            return False
        return self.rules.allow(self.error)


def after(failure: Failure) -> Outcome:
    """What becomes of the step."""
    if isinstance(failure.error, Park):
        return _parked(failure, failure.error)
    info = error_info(failure.error)
    if not failure.is_curable:
        return Faulted(failure.execution, info)
    if failure.verdict is Verdict.PARK:
        return Exhausted(failure.execution, info, failure.progress)
    again = _again(failure, info)
    if again is not None and _comes_too_late(failure.message, again):
        return Faulted(failure.execution, info)
    return again or _exhausted(failure, info)


def _comes_too_late(message: PaigeantMessage, again: Retrying) -> bool:
    """Whether the workflow's time would be up before the next attempt."""
    return message.ends_at is not None and again.execution.finished_at + again.delay >= message.ends_at


def _parked(failure: Failure, park: Park) -> Parked:
    ran = failure.execution
    due_at = None if park.seconds is None else ran.finished_at + park.seconds
    return Parked(ran, park.key, due_at, park.detail, failure.children, failure.progress, park.join)


def _again(failure: Failure, info: ErrorInfo) -> Retrying | None:
    """Another attempt, if one is left or this one does not count."""
    error, policy, tries = failure.error, failure.policy, failure.message.tries
    asked, counted, in_place = None, True, False
    if isinstance(error, Retry):
        asked, counted = error.after, error.counted
    elif failure.excused is not None:
        asked, counted = failure.excused, False
    elif failure.verdict is Verdict.LATER:
        said = retry_after(error, failure.execution.finished_at)
        asked, counted = policy.wait(failure.message.attempt) if said is None else said, False
    elif policy.retries and (said := retry_after(error, failure.execution.finished_at)) is not None:
        asked, counted = said, False
    if counted and not policy.allows(tries):
        return None
    if asked is None:
        asked, in_place = policy.wait(tries), counted and policy.is_quick(tries)
    return Retrying(failure.execution, info, asked, counted, in_place, failure.progress)


def _exhausted(failure: Failure, info: ErrorInfo) -> Outcome:
    if failure.policy.exhausted == "park":
        return Exhausted(failure.execution, info, failure.progress)
    return Faulted(failure.execution, info)


# --- errors as data --------------------------------------------------------------------------------------------------


def error_info(error: BaseException) -> ErrorInfo:
    """An exception as data; without a traceback where it is no error in the activity's code."""
    if isinstance(error, MessageError | ConfigurationError):
        return ErrorInfo(type=type(error).__name__, message=printable(str(error)))
    text = printable("".join(traceback.format_exception(error)))[-_LONGEST_TEXT:]
    return ErrorInfo(type=type(error).__qualname__, message=_said(error), traceback=text)


def _said(error: BaseException) -> str:
    try:
        text = printable(str(error))[:_LONGEST_TEXT]
    except Exception:  # noqa: BLE001 - its own __str__ may fail
        return "(its message cannot be read)"
    return text or ("the step took longer than its timeout" if isinstance(error, TimeoutError) else "")


def poison(limit: int) -> ErrorInfo:
    """Why a delivery is set aside that was handed out this often."""
    return ErrorInfo(
        type="Poisoned",
        message=f"delivered {limit} times without an end: it seems to kill its worker; set aside",
    )
