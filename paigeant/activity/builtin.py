"""Built-in steps that every worker can run, for example waiting for a time or a signal."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from paigeant.activity import Activity, problem
from paigeant.context import ActivityContext
from paigeant.errors import ApprovalDenied, InvalidArguments
from paigeant.runtime.clock import SystemClock
from paigeant.wire.json_schema import described
from paigeant.wire.names import check_name
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.times import bounded

CONTROL = "paigeant"
"""The queue that every worker serves has this name after the prefix; names of built-in steps start with it."""


def sleep(seconds: float | None = None, *, until: datetime | None = None) -> ActivitySpec:
    """Plan a step that waits for ``seconds`` or until a time, and returns the output of the step before it.

    The wait occupies no process and no message on the broker. Needs a store.

    Raises:
        InvalidArguments: you passed both arguments or none, ``until`` has no time zone, or the time is more than a
            hundred years away.
    """
    if (seconds is None) == (until is None):
        raise InvalidArguments("sleep takes either seconds or until", hint="sleep(60), sleep(until=tomorrow)")
    if until is not None and until.tzinfo is None:
        raise InvalidArguments("sleep: until has no time zone", hint="datetime(…, tzinfo=UTC)")
    if seconds is not None:
        bounded("seconds", seconds)
    if until is not None:
        bounded("until", until.timestamp() - SystemClock().now())
    return sleep_step.step(seconds=seconds, until=until.timestamp() if until else None)


def await_signal(name: str, *, timeout: float | None = None, schema: Any = None) -> ActivitySpec:
    """Plan a step that waits for ``workflow.signal(name, value)`` and returns the value. Needs a store.

    The step also receives a signal that was sent earlier. After ``timeout`` seconds it fails with ``SignalTimeout``.
    ``schema`` is the type or the JSON Schema of the value. While the step waits, ``signal()`` raises an error for a
    value that does not match. An earlier signal that does not match fails the step with ``InvalidInput``.

    Raises:
        InvalidArguments: ``schema`` is a dict but no JSON Schema, ``timeout`` is more than a hundred years, or the name
            contains a character that nobody sees.
    """
    check_name("the name of a signal", name)
    if timeout is not None:
        bounded("timeout", timeout)
    wanted = {} if (expected := described(schema)) is None else {"schema": expected}
    return signal_step.step(name=name, timeout=timeout, **wanted)


def await_approval(asks: str, *, timeout: float | None = None) -> ActivitySpec:
    """Plan a step that waits for an approval and returns the output of the step before it. Needs a store.

    ``paigeant approvals`` shows the question. The step fails with ``ApprovalDenied`` if somebody denies it, and with
    ``SignalTimeout`` after ``timeout`` seconds.

    Raises:
        InvalidArguments: ``timeout`` is more than a hundred years.
    """
    if timeout is not None:
        bounded("timeout", timeout)
    return approval_step.step(asks=asks, timeout=timeout)


def built_in(name: str) -> Callable[[Callable[..., Any]], Activity[..., Any]]:
    """Decorate the function of an activity that every worker runs."""
    return lambda function: Activity(function, name=f"{CONTROL}.{name}", queue=CONTROL)


@built_in("sleep")
def sleep_step(ctx: ActivityContext, seconds: float | None = None, until: float | None = None) -> Any:
    """Wait for a time and return the output of the previous step."""
    ctx.sleep(seconds, until=until)
    return ctx.previous


@built_in("await_signal")
def signal_step(ctx: ActivityContext, name: str, timeout: float | None = None, **more: Any) -> Any:
    """Wait for a signal. A ``schema`` comes only from the step's arguments, never from a variable or an output."""
    return ctx.await_signal(name, timeout=timeout, schema=more.get("schema", Any))


@built_in("await_approval")
def approval_step(ctx: ActivityContext, asks: str, timeout: float | None = None) -> Any:
    """Wait for an approval and return the output of the previous step."""
    said = ctx.await_approval(asks, details=ctx.previous, timeout=timeout)
    if not said.approved:
        raise ApprovalDenied(f"denied by {said.by or 'somebody'}" + (f": {said.reason}" if said.reason else ""))
    return ctx.previous


@built_in("end")
def end_step(ctx: ActivityContext) -> Any:
    """End the workflow with the output of the previous step, which a program without paigeant ran."""
    return ctx.previous


def named_step(name: str) -> ActivitySpec:
    """Plan a step of the activity with this name.

    Raises:
        InvalidArguments: the name is not valid for an activity.
    """
    try:
        return ActivitySpec(name=name)
    except ValidationError as error:
        text = f"{reprlib.repr(name)} cannot be the name of an activity: {problem(error)}"
        raise InvalidArguments(text, hint="to plan a step write activity.step(...)") from error


def flat(steps: Iterable[Any], named: Callable[[str], ActivitySpec] = named_step) -> Iterator[ActivitySpec]:
    """Yield one step for each activity, step or name in these arguments; lists are flattened.

    ``named`` plans the step for a name.

    Raises:
        InvalidArguments: an argument is not a step.
    """
    for step in steps:
        match step:
            case ActivitySpec():
                yield step
            case Activity():
                yield step.step()
            case str():
                yield named(step)
            case RoutingSlip():
                raise InvalidArguments("a routing slip is dispatched alone, not among steps")
            case list() | tuple():
                yield from flat(step, named)
            case _:
                raise _no_step(step)


def _no_step(thing: Any) -> InvalidArguments:
    """Return the error for a value that is not a step. Its usual cause: a caller calls an activity to plan a step."""
    if inspect.iscoroutine(thing) or inspect.isgenerator(thing) or inspect.isasyncgen(thing):
        called, kind = thing.__name__, type(thing).__name__.replace("_", " ")
        if inspect.iscoroutine(thing):
            thing.close()  # otherwise Python warns that it was never awaited
        if called == "<genexpr>":
            return InvalidArguments("a generator expression is not a step", hint="pass a list: [... for ...]")
        return InvalidArguments(
            f"{called}(...) is a call, and the {kind} that it returned is not a step",
            hint=f"write {called}.step(...) with the same arguments, by name",
        )
    if inspect.isroutine(thing) and (name := getattr(thing, "__name__", "")):
        return InvalidArguments(
            f"the function {name} is not a step, as it is no activity", hint="decorate it with @app.activity"
        )
    return InvalidArguments(
        f"{reprlib.repr(thing)} is not a step",
        hint="pass an activity, activity.step(...), or an activity's name; activity(...) runs it here and now",
    )
