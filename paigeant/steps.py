"""Steps that every worker can run: waiting for time and for signals, as parts of an itinerary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from paigeant.activity import Activity
from paigeant.context import ActivityContext
from paigeant.errors import ApprovalDenied, InvalidArguments
from paigeant.json_schema import described
from paigeant.slip import ActivitySpec, RoutingSlip

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
    return sleep_step.step(seconds=seconds, until=until.timestamp() if until else None)


def await_signal(name: str, *, timeout: float | None = None, schema: Any = None) -> ActivitySpec:
    """A step that waits for ``workflow.signal(name, value)`` and whose output is the value. Needs a store.

    A signal that came before is kept for it. After ``timeout`` seconds the step fails with ``SignalTimeout``.
    ``schema`` says what the value must be: a type, or a JSON Schema. While the step waits, another value is refused
    where it is sent; one that came before fails the step with ``InvalidInput``.

    Raises:
        InvalidArguments: a dict that is no JSON Schema.
    """
    wanted = {} if (expected := described(schema)) is None else {"schema": expected}
    return signal_step.step(name=name, timeout=timeout, **wanted)


def await_approval(asks: str, *, timeout: float | None = None) -> ActivitySpec:
    """A step that waits until somebody approves, and hands on the output of the step before it. Needs a store.

    The question is shown by ``paigeant approvals``. Denied, the step fails with ``ApprovalDenied``; after ``timeout``
    seconds with ``SignalTimeout``.
    """
    return approval_step.step(asks=asks, timeout=timeout)


def built_in(name: str) -> Callable[[Callable[..., Any]], Activity[..., Any]]:
    """Makes an activity that every worker runs."""
    return lambda function: Activity(function, name=f"{CONTROL}.{name}", queue=CONTROL)


@built_in("sleep")
def sleep_step(ctx: ActivityContext, seconds: float | None = None, until: float | None = None) -> Any:
    """Waits for a time."""
    ctx.sleep(seconds, until=until)
    return ctx.previous


@built_in("await_signal")
def signal_step(ctx: ActivityContext, name: str, timeout: float | None = None, **more: Any) -> Any:
    """Waits for a signal; with a ``schema`` if the step has one, which no variable and no output is taken for."""
    return ctx.await_signal(name, timeout=timeout, schema=more.get("schema", Any))


@built_in("await_approval")
def approval_step(ctx: ActivityContext, asks: str, timeout: float | None = None) -> Any:
    """Waits for an approval."""
    said = ctx.await_approval(asks, details=ctx.previous, timeout=timeout)
    if not said.approved:
        raise ApprovalDenied(f"denied by {said.by or 'somebody'}" + (f": {said.reason}" if said.reason else ""))
    return ctx.previous


def flat(steps: Iterable[Any]) -> Iterator[ActivitySpec]:
    """What developers write, a step each: activities, steps, names, and lists of these.

    Raises:
        InvalidArguments: something that is no step.
    """
    for step in steps:
        match step:
            case ActivitySpec():
                yield step
            case Activity():
                yield step.step()
            case str():
                yield ActivitySpec(name=step)
            case RoutingSlip():
                raise InvalidArguments("a routing slip is dispatched alone, not among steps")
            case list() | tuple():
                yield from flat(step)
            case _:
                hint = "pass an activity, activity.step(...), or the name of an activity"
                raise InvalidArguments(f"{step!r} is not a step", hint=hint)
