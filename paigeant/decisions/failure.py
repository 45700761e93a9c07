"""Decides what follows an exception of an activity. Pure: takes an error, returns an outcome."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from typing import Any

from paigeant.decisions.interrupts import Park, Retry, Terminate
from paigeant.decisions.outcome import Execution, Exhausted, Faulted, Outcome, Parked, Retrying
from paigeant.errors import ConfigurationError, MessageError
from paigeant.events import ErrorInfo
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.retry import ANY_ERROR, RetryPolicy, RetryRules, parts, retry_after
from paigeant.wire.values import printable, said

MOST_UNCOUNTED = 100
"""The maximum number of uncounted attempts of one step; with their pauses they take hours."""

_LONGEST_TEXT = 16_384


class Verdict(Enum):
    """The judgement of an activity about its own errors, which a retry policy cannot know."""

    LATER = "later"
    """It works again by itself: another attempt follows, and this one does not count."""
    PARK = "park"
    """It works again when somebody has done something: the step waits for an operator."""
    NEVER = "never"
    """It would fail again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that ended with an error, with the policies of its step and activity.

    The attempt had dispatched ``children`` and reported ``progress``. With ``excused`` the activity is known to fail:
    the attempt does not count, and the next one follows after that number of seconds. ``verdict`` is the judgement of
    the activity about this error.
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
        hopeless = any(isinstance(one, MessageError | ConfigurationError) for one in parts(self.error))
        return not hopeless and self.verdict is not Verdict.NEVER and self.rules.allow(self.error)


def deciding(error: BaseException) -> BaseException:
    """Return the exception that a step raised, without its group: a :class:`asyncio.TaskGroup` always raises a group.

    Of several, ``Retry`` counts first, the one with the longest pause; then the errors, which no ``Park`` and no
    ``Terminate`` may hide; then ``Park``; then ``Terminate``. Several errors stay a group, and so does a group of a
    type of its own.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(parts(error))
    if retries := [one for one in found if isinstance(one, Retry)]:
        return max(retries, key=lambda one: one.after or 0.0)
    if errors := [one for one in found if not isinstance(one, Park | Terminate)]:
        is_plain = type(error) in (ExceptionGroup, BaseExceptionGroup)
        return errors[0] if len(errors) == 1 and (is_plain or len(found) > 1) else error
    return next((one for one in found if isinstance(one, Park)), found[0])


def after(failure: Failure) -> Outcome:
    """Decide the outcome of the step."""
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
    counted = counted or failure.message.uncounted >= MOST_UNCOUNTED
    if counted and not policy.allows(tries, asked=isinstance(error, Retry)):
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
        return ErrorInfo(type=type(error).__name__, message=said(error))
    text = said(error, _LONGEST_TEXT)
    return ErrorInfo(type=printable(type(error).__qualname__), message=text, traceback=_traceback(error))


def _traceback(error: BaseException) -> str:
    try:
        return printable("".join(traceback.format_exception(error)))[-_LONGEST_TEXT:]
    except BaseException:  # noqa: BLE001 - an exception may be anything, its notes too
        return "(its traceback cannot be read)"


def poison(trials: int, deliveries: int) -> ErrorInfo:
    """Why a step is set aside that ran alone this often, each time to the death of its process."""
    return ErrorInfo(
        type="Poisoned",
        message=f"delivered {deliveries} times without an end; it ran alone in its process {trials} times, and the "
        "process died each time: set aside",
    )


def adrift(times: int, deliveries: int) -> ErrorInfo:
    """Why a step is set aside that the broker took away again and again while its process lived."""
    return ErrorInfo(
        type="LeaseLost",
        message=f"delivered {deliveries} times without an end; the broker took it back {times} times while it ran "
        "alone in a process that lived: does it run for longer than the broker allows?",
    )
