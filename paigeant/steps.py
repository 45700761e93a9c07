"""Steps that every worker can run: waiting for time and for signals, as parts of an itinerary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from paigeant.activity import Activity
from paigeant.context import ActivityContext
from paigeant.errors import InvalidArguments
from paigeant.slip import ActivitySpec

CONTROL = "paigeant"
"""The part after the prefix of the name of the queue that every worker serves, and how names of such steps begin."""


def sleep(seconds: float | None = None, *, until: datetime | None = None) -> ActivitySpec:
    """A step that waits this long, or until this time, and hands on the output of the step before it.

    Nothing is held meanwhile: no process and no message on the broker. Needs a store.

    Raises:
        InvalidArguments: unless exactly one of the two is given, and ``until`` has a time zone.
    """
    if (seconds is None) == (until is None):
        raise InvalidArguments("sleep takes either seconds or until", hint="sleep(60), sleep(until=tomorrow)")
    if until is not None and until.tzinfo is None:
        raise InvalidArguments("sleep: until has no time zone", hint="datetime(…, tzinfo=UTC)")
    return _sleep.step(seconds=seconds, until=until.timestamp() if until else None)


def await_signal(name: str, *, timeout: float | None = None) -> ActivitySpec:
    """A step that waits for ``workflow.signal(name, value)`` and whose output is the value. Needs a store.

    A signal that came before is kept for it. After ``timeout`` seconds the step fails with ``SignalTimeout``.
    """
    return _await_signal.step(name=name, timeout=timeout)


def _built_in(name: str) -> Callable[[Callable[..., Any]], Activity[..., Any]]:
    return lambda function: Activity(function, name=f"{CONTROL}.{name}", queue=CONTROL)


@_built_in("sleep")
def _sleep(ctx: ActivityContext, seconds: float | None = None, until: float | None = None) -> Any:
    """Waits for a time."""
    ctx.sleep(seconds, until=until)
    return ctx.previous


@_built_in("await_signal")
def _await_signal(ctx: ActivityContext, name: str, timeout: float | None = None) -> Any:
    """Waits for a signal."""
    return ctx.await_signal(name, timeout=timeout)


BUILT_IN: Mapping[str, Activity[..., Any]] = {one.name: one for one in (_sleep, _await_signal)}
