"""Runs developers' code in tasks of its own, so that no exception or cancellation of it reaches a task of the worker.

asyncio raises a SystemExit or KeyboardInterrupt of any task or callback in the caller that runs the event loop. That
would end the worker. :func:`shelter` therefore wraps everything that the loop calls for a step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from paigeant.decisions.interrupts import Interrupt
from paigeant.runner.forked import OneProcess

T = TypeVar("T")

_is_of_a_step: ContextVar[bool] = ContextVar("paigeant_is_of_a_step", default=False)


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """The result of a body: a value or an error."""

    value: T | None = None
    error: BaseException | None = None


async def apart(body: Coroutine[Any, Any, T]) -> Ended[T]:
    """Run the body in a task of its own until it ends, and return its value or its error.

    A cancellation of the calling task interrupts the body. Only the worker cancels that task: a body has no access to
    the task that waits for it.

    Raises:
        CancelledError: the calling task was cancelled, and the body did not complete.
    """
    shelter(asyncio.get_running_loop())
    task, is_interrupted = asyncio.create_task(_caught(body)), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_interrupted = True
            task.cancel()
    if task.cancelled():  # the body was cancelled before its first line or after its last
        body.close()
        ended: Ended[T] = Ended(error=asyncio.CancelledError("the step cancelled its own task"))
    else:
        ended = task.result()
    if is_interrupted and ended.error is not None and not isinstance(ended.error, Interrupt):
        raise asyncio.CancelledError
    return ended


async def _caught(body: Coroutine[Any, Any, T]) -> Ended[T]:
    """Return an error instead of raising it: the traceback of a raised error would refer to its task."""
    _is_of_a_step.set(True)
    try:
        with OneProcess():
            return Ended(value=await body)
    except BaseException as error:  # noqa: BLE001 - the error ends only this attempt
        return Ended(error=error)


# --- callbacks of the event loop for a step--------------------------------------------------------------------------


def shelter(loop: asyncio.AbstractEventLoop) -> None:
    """Prevent tasks and callbacks of steps from ending the event loop. A second call does nothing.

    This covers the tasks of steps and the tasks they create, their callbacks and timers, and their handlers for sockets
    and signals. All of them run in the context of the step.
    """
    if loop in _sheltered:
        return
    _sheltered.add(loop)
    patched: Any = loop
    patched.call_soon = _from(loop.call_soon)
    patched.call_soon_threadsafe = _from(loop.call_soon_threadsafe)
    patched.call_at = _from_second(loop.call_at)
    for watches in _WATCHES:
        if hasattr(loop, watches):
            setattr(patched, watches, _from_second(getattr(loop, watches)))


_sheltered: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

_WATCHES = ("add_reader", "add_writer", "add_signal_handler", "_add_reader", "_add_writer")
"""Loop methods that take a file descriptor or a signal, and their replacements. asyncio's sockets use the last two."""


def _from(schedule: Callable[..., T]) -> Callable[..., T]:
    def scheduled(callback: Callable[..., object], *args: Any, context: Context | None = None) -> T:
        return schedule(_contained_if_of_a_step(callback, context), *args, context=context)

    return scheduled


def _from_second(schedule: Callable[..., T]) -> Callable[..., T]:
    def scheduled(first: Any, callback: Callable[..., object], *args: Any, context: Context | None = None) -> T:
        inherited = {} if context is None else {"context": context}
        return schedule(first, _contained_if_of_a_step(callback, context), *args, **inherited)

    return scheduled


def _contained_if_of_a_step(callback: Callable[..., object], context: Context | None) -> Callable[..., object]:
    is_of_a_step = _is_of_a_step.get() if context is None else context.get(_is_of_a_step, False)
    return partial(_contained, callback) if is_of_a_step else callback


def _contained(callback: Callable[..., object], *args: Any) -> None:
    """Call it. An error that would end the loop becomes the result of its task; the error of a callback is logged."""
    try:
        callback(*args)
    except (SystemExit, KeyboardInterrupt) as error:
        if not isinstance(getattr(callback, "__self__", None), asyncio.Future):
            told = {"message": "a callback of a step would have ended the worker", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
