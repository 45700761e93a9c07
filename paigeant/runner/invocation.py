"""Calls an activity and its hooks: binds arguments, enforces time limits, converts the output to JSON types."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, aclosing, closing
from functools import partial
from typing import Any

import structlog

from paigeant.activity import Activity, Kind, kind_of
from paigeant.context.activity_context import ActivityContext, made_current
from paigeant.decisions.failure import deciding
from paigeant.decisions.interrupts import Terminate
from paigeant.runner.forked import OneProcess
from paigeant.runner.progress import Progress
from paigeant.wire.typed_values import Form

log = structlog.stdlib.get_logger("paigeant.hooks")

HOOK_PATIENCE = 10.0
"""Seconds for which hooks may handle a failure; the step waits for them."""


async def invoke(activity: Activity[..., Any], context: ActivityContext, progress: Progress, threads: Executor) -> Any:
    """Bind the arguments and call the activity. Every error of the activity reaches the caller."""
    run = progress.run
    step = run.message.step
    call = partial(_called, threads)
    left = None if run.message.ends_at is None else run.message.ends_at - run.clock.now()
    with made_current(context):
        async with progress.pulse.limited(step.timeout or activity.timeout, left):
            await activity.hooks.begin(context, call)
            try:
                result, output = await _with_arguments(activity, context, progress, threads)
            except (Terminate, BaseExceptionGroup) as raised:
                if isinstance(end := deciding(raised), Terminate):
                    await activity.hooks.end(context, end.output, call)
                raise end  # noqa: B904 - the activity raised it, alone or in a group
            await activity.hooks.end(context, result, call)
            return output


async def tell_of_failure(
    activity: Activity[..., Any], context: ActivityContext, error: BaseException, threads: Executor
) -> None:
    """Call the hooks for a failed attempt, and wait :data:`HOOK_PATIENCE` seconds at most."""
    try:
        with made_current(context):
            async with asyncio.timeout(HOOK_PATIENCE):
                await activity.hooks.fail(context, error, partial(_called, threads))
    except TimeoutError:
        log.warning("the failure hooks took too long", activity=activity.name, seconds=HOOK_PATIENCE)


async def _with_arguments(
    activity: Activity[..., Any], context: ActivityContext, progress: Progress, threads: Executor
) -> tuple[Any, Any]:
    """Call the activity. Return its result, and the same result as JSON types."""
    message = progress.run.message
    arguments = activity.bind(message.step, message.routing_slip, context)
    if activity.providers is None:
        return await _call(activity, arguments, progress, threads)
    async with AsyncExitStack() as stack:
        arguments |= await activity.providers.solve(context, stack)
        return await _call(activity, arguments, progress, threads)


async def _call(
    activity: Activity[..., Any], arguments: dict[str, Any], progress: Progress, threads: Executor
) -> tuple[Any, Any]:
    call = partial(activity.function, **arguments)
    result = await _in_thread(threads, call) if activity.kind is Kind.SYNC else call()
    # A decorator may hide the kind of a function, so look at the value that it returns.
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        async with aclosing(result) as values:
            shown = [await progress.yielded(value, activity.item_form) async for value in values]
        return shown, shown
    if isinstance(result, Generator):
        shown, result = await _in_thread(threads, partial(_drained, result, activity.item_form, progress))
        if result is None:
            return shown, shown
    return result, activity.output_form.write(result, f"the output of {activity.name!r}")


def _drained(generator: Generator[Any, None, Any], form: Form, progress: Progress) -> tuple[list[Any], Any]:
    """Run a plain generator to its end, and show each yielded value at once. Return the values and the return value."""
    values: list[Any] = []

    async def take(value: Any) -> None:
        values.append(await progress.yielded(value, form))

    with closing(generator):
        while True:
            try:
                value = next(generator)
            except StopIteration as end:
                return values, end.value
            progress.pulse.from_thread(partial(take, value))


async def _called(threads: Executor, hook: Callable[..., Any], *given: Any) -> None:
    """Call a hook: in the event loop if it is async, else in a thread."""
    if kind_of(hook) is Kind.ASYNC:
        await hook(*given)
    else:
        await _in_thread(threads, partial(hook, *given))


async def _in_thread(threads: Executor, call: Callable[[], Any]) -> Any:
    in_context = partial(contextvars.copy_context().run, _plainly, call)
    return await asyncio.get_running_loop().run_in_executor(threads, in_context)


def _plainly(call: Callable[[], Any]) -> Any:
    try:
        with OneProcess():
            return call()
    except StopIteration as error:  # a future cannot raise it: the caller would wait for ever
        raise RuntimeError("the activity raised StopIteration") from error
