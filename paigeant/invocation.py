"""Calling an activity: its arguments bound, within its limits of time, its output as JSON types."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import Any

from paigeant.activity import Activity, Kind
from paigeant.context import ActivityContext, _current
from paigeant.progress import Progress
from paigeant.values import jsonable


async def invoke(activity: Activity[..., Any], context: ActivityContext, progress: Progress, threads: Executor) -> Any:
    """Bind and call; whatever the activity raises is raised here."""
    run = progress.run
    step = run.message.step
    token = _current.set(context)
    try:
        left = None if run.message.ends_at is None else run.message.ends_at - run.clock.now()
        async with progress.pulse.limited(step.timeout or activity.timeout, left):
            arguments = activity.bind(step, run.message.routing_slip, context)
            if activity.providers is None:
                result = await _call(activity, arguments, progress, threads)
            else:
                async with AsyncExitStack() as stack:
                    arguments |= await activity.providers.solve(context, stack)
                    result = await _call(activity, arguments, progress, threads)
    finally:
        _current.reset(token)
    return jsonable(result, f"the output of {activity.name!r}")


async def _call(activity: Activity[..., Any], arguments: dict[str, Any], progress: Progress, threads: Executor) -> Any:
    match activity.kind:
        case Kind.ASYNC:
            return await activity.function(**arguments)
        case Kind.STREAM:
            return [await progress.yielded(value) async for value in activity.function(**arguments)]
        case Kind.SYNC:
            call = partial(_plainly, activity.function, arguments)
        case Kind.GENERATOR:
            call = partial(_drained, activity.function, arguments, progress)
    in_context = partial(contextvars.copy_context().run, call)
    return await asyncio.get_running_loop().run_in_executor(threads, in_context)


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


def _plainly(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
        raise RuntimeError("the activity raised StopIteration") from error
