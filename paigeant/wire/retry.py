"""When a failed step is tried again: the policy as data, and what a developer or a server says about an error."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from paigeant.wire.model import WireModel
from paigeant.wire.times import LONGEST

QUICK_PAUSE = 0.1
"""Seconds between two tries in place, at most: the message is held meanwhile, and so is a place in the worker."""

ASKED_ATTEMPTS = 10
"""Starts of a step whose activity raises ``Retry`` and has no retry policy."""

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds. A server that says to come back later than this is not believed."""

_LONGEST_CHAIN = 10
"""How many errors are looked through that were raised one from the other."""


class RetryPolicy(WireModel):
    """Exponential back-off with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    All times are seconds. ``attempts`` counts every start of the step, the first included, so ``attempts=1``
    never retries. The first ``quick`` retries follow in place, after a moment; the others go over the queue, after
    ``delay``, then ``factor`` times as long each time, up to ``max_delay``.

    When no attempt is left the step fails, or with ``exhausted="park"`` it waits for an operator, who can have it tried
    again; that needs a store.
    """

    attempts: Annotated[int, Field(ge=1)] = 1
    delay: Annotated[float, Field(ge=0, le=LONGEST)] = 1.0
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    max_delay: Annotated[float, Field(ge=0, le=LONGEST)] = 300.0
    jitter: bool = True
    quick: Annotated[int, Field(ge=0, le=10)] = 0
    exhausted: Literal["fail", "park"] = "fail"

    @model_validator(mode="after")
    def _quick_ones_are_attempts(self) -> Self:
        if self.quick >= self.attempts:
            raise ValueError(f"quick={self.quick} needs attempts={self.quick + 1} or more: attempts counts every start")
        return self

    @property
    def retries(self) -> bool:
        """Whether it allows any retry."""
        return self.attempts > 1

    def allows(self, attempt: int, *, asked: bool = False) -> bool:
        """Whether another attempt may follow this one. ``asked``: the activity itself asked for it, with ``Retry``.

        A policy that does not say how many attempts there are then allows ``ASKED_ATTEMPTS``.
        """
        says_nothing = asked and "attempts" not in self.model_fields_set
        return attempt < (ASKED_ATTEMPTS if says_nothing else self.attempts)

    def is_quick(self, attempt: int) -> bool:
        """Whether the attempt after this one follows in place."""
        return attempt <= self.quick

    def ceiling(self, attempt: int) -> float:
        """The longest wait after this attempt."""
        if self.is_quick(attempt):
            return min(QUICK_PAUSE, self.delay, self.max_delay)
        try:
            return min(self.max_delay, self.delay * self.factor ** (attempt - self.quick - 1))
        except OverflowError:
            return self.max_delay if self.delay else 0.0

    def wait(self, attempt: int, chance: float | None = None) -> float:
        """The wait after this attempt; ``chance`` in [0, 1] replaces the dice in tests."""
        if not self.jitter:
            return self.ceiling(attempt)
        return self.ceiling(attempt) * (random.random() if chance is None else chance)


ErrorMatch = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool]
"""Which errors are meant: a type, some types, or a function that is given the error."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Which errors of an activity are worth another attempt: those of ``retry_on``, except those of ``give_up_on``."""

    retry_on: ErrorMatch = BaseException
    give_up_on: ErrorMatch = ()

    def allow(self, error: BaseException) -> bool:
        """Whether another attempt may help. Of a group: whether it may help against each error in it."""
        return _all_match(error, self.retry_on) and not _any_matches(error, self.give_up_on)


ANY_ERROR = RetryRules()
"""The rules of an activity that has none of its own."""


def parts(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; of an error that is no group, itself."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    waiting: list[BaseException] = [error]
    while waiting:  # groups may be nested deeper than Python calls
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(reversed(one.exceptions))
        else:
            yield one


def _all_match(error: BaseException, match: ErrorMatch) -> bool:
    return _names_group(error, match) or all(_matches(one, match) for one in parts(error))


def _any_matches(error: BaseException, match: ErrorMatch) -> bool:
    return _names_group(error, match) or any(_matches(one, match) for one in parts(error))


def _names_group(error: BaseException, match: ErrorMatch) -> bool:
    """Whether a group as such is meant; a developer's function is asked about the errors in it."""
    return isinstance(error, BaseExceptionGroup) and isinstance(match, type | tuple) and _matches(error, match)


def _matches(error: BaseException, match: ErrorMatch) -> bool:
    if isinstance(match, type | tuple):
        return isinstance(error, match)
    return bool(match(error))


# --- what a server says ----------------------------------------------------------------------------------------------


def retry_after(error: BaseException, now: float) -> float | None:
    """Seconds after which the server behind this error wants to be asked again; None if it does not say.

    It says so in an attribute ``retry_after`` (seconds, a timedelta or a datetime) or in the header Retry-After of the
    response (RFC 9110, section 10.2.3: seconds or an HTTP date) that the exceptions of httpx, requests, aiohttp and
    urllib carry, here or on the error that this one was raised from.
    """
    found = [seconds for one in parts(error) if (seconds := _asked_for(one, now)) is not None]
    return max(found, default=None)


def _asked_for(error: BaseException, now: float) -> float | None:
    for one in _chain(error):
        for said in _said(one):
            seconds = _seconds(said, now)
            if seconds is not None and 0 < seconds <= LONGEST_RETRY_AFTER:
                return seconds
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if one is None:
            return
        yield one
        one = one.__cause__


def _said(error: BaseException) -> tuple[Any, ...]:
    try:
        return tuple(_attributes(error))
    except Exception:  # noqa: BLE001 - somebody's property: what it cannot say is not said
        return ()


def _attributes(error: Any) -> Iterator[Any]:
    yield getattr(error, "retry_after", None)
    for holder in (getattr(error, "response", None), error):
        get = getattr(getattr(holder, "headers", None), "get", None)
        if callable(get):
            yield get("Retry-After") or get("retry-after")


def _seconds(said: Any, now: float) -> float | None:
    match said:
        case bool() | None:
            return None
        case int() | float():
            return float(said)
        case timedelta():
            return said.total_seconds()
        case datetime():
            return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp() - now
        case str() if said.strip().isascii() and said.strip().isdigit():
            return float(said)
        case str():
            return _until_date(said, now)
        case _:
            return None


def _until_date(said: str, now: float) -> float | None:
    try:
        return _seconds(parsedate_to_datetime(said), now)
    except ValueError:
        return None
