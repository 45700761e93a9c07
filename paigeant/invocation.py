"""Calling an activity: its arguments bound, within its limits of time, its output as JSON types."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack
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
            call = partial(contextvars.copy_context().run, _plainly, activity.function, arguments)
            return await asyncio.get_running_loop().run_in_executor(threads, call)


def _plainly(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
        raise RuntimeError("the activity raised StopIteration") from error
