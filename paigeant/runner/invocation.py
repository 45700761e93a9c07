"""Calling an activity and its hooks: arguments bound, within its limits of time, its output as JSON types."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import Any

import structlog

from paigeant.activity import Activity, Kind, kind_of
from paigeant.context.activity_context import ActivityContext, _current
from paigeant.interrupts import Terminate
from paigeant.runner.progress import Progress
from paigeant.values import jsonable

log = structlog.stdlib.get_logger("paigeant.hooks")

HOOK_PATIENCE = 10.0
"""Seconds for which hooks may look at a failure; the step waits for them."""


async def invoke(activity: Activity[..., Any], context: ActivityContext, progress: Progress, threads: Executor) -> Any:
    """Bind and call; whatever the activity raises is raised here."""
    run = progress.run
    step = run.message.step
    call = partial(_called, threads)
    token = _current.set(context)
    try:
        left = None if run.message.ends_at is None else run.message.ends_at - run.clock.now()
        async with progress.pulse.limited(step.timeout or activity.timeout, left):
            await activity.hooks.begin(context, call)
            try:
                result = await _with_arguments(activity, context, progress, threads)
            except Terminate as end:
                await activity.hooks.end(context, end.output, call)
                raise
            output = jsonable(result, f"the output of {activity.name!r}")
            await activity.hooks.end(context, result, call)
            return output
    finally:
        _current.reset(token)


async def tell_of_failure(
    activity: Activity[..., Any], context: ActivityContext, error: BaseException, threads: Executor
) -> None:
    """Call the hooks for an attempt that failed; they have a moment."""
    token = _current.set(context)
    try:
        async with asyncio.timeout(HOOK_PATIENCE):
            await activity.hooks.fail(context, error, partial(_called, threads))
    except TimeoutError:
        log.warning("the hooks for a failure took too long", activity=activity.name, seconds=HOOK_PATIENCE)
    finally:
        _current.reset(token)


async def _with_arguments(
    activity: Activity[..., Any], context: ActivityContext, progress: Progress, threads: Executor
) -> Any:
    message = progress.run.message
    arguments = activity.bind(message.step, message.routing_slip, context)
    if activity.providers is None:
        return await _call(activity, arguments, progress, threads)
    async with AsyncExitStack() as stack:
        arguments |= await activity.providers.solve(context, stack)
        return await _call(activity, arguments, progress, threads)


async def _call(activity: Activity[..., Any], arguments: dict[str, Any], progress: Progress, threads: Executor) -> Any:
    match activity.kind:
        case Kind.ASYNC:
            return await activity.function(**arguments)
        case Kind.STREAM:
            return [await progress.yielded(value) async for value in activity.function(**arguments)]
        case Kind.SYNC:
            return await _in_thread(threads, partial(activity.function, **arguments))
        case Kind.GENERATOR:
            return await _in_thread(threads, partial(_drained, activity.function, arguments, progress))


def _drained(function: Callable[..., Generator[Any, None, Any]], arguments: dict[str, Any], progress: Progress) -> Any:
    """What a plain generator returns or, if that is nothing, all that it yields; each is shown at once."""
    values: list[Any] = []

    async def take(value: Any) -> None:
        values.append(await progress.yielded(value))

    with closing(function(**arguments)) as generator:
        while True:
            try:
                value = next(generator)
            except StopIteration as end:
                return values if end.value is None else end.value
            progress.pulse.from_thread(partial(take, value))


async def _called(threads: Executor, hook: Callable[..., Any], *given: Any) -> None:
    """A hook: in the event loop if it is async, else in a thread."""
    if kind_of(hook) is Kind.ASYNC:
        await hook(*given)
    else:
        await _in_thread(threads, partial(hook, *given))


async def _in_thread(threads: Executor, call: Callable[[], Any]) -> Any:
    in_context = partial(contextvars.copy_context().run, _plainly, call)
    return await asyncio.get_running_loop().run_in_executor(threads, in_context)


def _plainly(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
        raise RuntimeError("the activity raised StopIteration") from error
