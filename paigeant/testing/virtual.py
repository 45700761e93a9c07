"""Virtual time: an event loop on which waiting takes no time, and groups of tasks that end as ``kill -9`` ends them.

When nothing can run, the loop's time goes to its next timer. What would run in a thread runs in the loop, so that what
happens depends on nothing but the program. Real input and output has no place here: it is overtaken by every timeout.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from unittest.mock import patch

import anyio.to_thread

from paigeant.clock import Clock
from paigeant.pulse import Pulse

T = TypeVar("T")

START = 1_767_225_600.0
"""What the clock says at the beginning, in epoch seconds: 1 January 2026, UTC."""

_group: ContextVar[object] = ContextVar("paigeant_group", default=None)
"""The group of tasks in which this code runs; tasks and callbacks inherit it."""

_PARTING = 60.0


class _Overtaking(selectors.SelectSelector):
    """Waits for nothing: it passes the time that it was to wait to the loop."""

    def __init__(self, overtake: Callable[[float], None]) -> None:
        super().__init__()
        self._overtake = overtake

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout != 0:
            if timeout is None:
                raise RuntimeError("everything waits, and no timer is set: nothing can happen any more")
            self._overtake(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, in seconds from 0."""

    def __init__(self) -> None:
        self._now = 0.0
        self._dead: set[object] = set()
        self._frozen: list[asyncio.Handle] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        super().__init__(_Overtaking(self._overtake))

    def _overtake(self, seconds: float) -> None:
        self._now += seconds

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call it in the loop, at its next turn."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(self._answer, future, func, args)
        return future

    def _answer(self, future: asyncio.Future[T], call: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        try:
            value = self.call_aside(call, *arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(value)

    def call_aside(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a plain function that believes itself in a thread: to it, no loop is running."""
        asyncio._set_running_loop(None)
        try:
            return call(*arguments)
        finally:
            asyncio._set_running_loop(self)

    def run_from_aside(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What such a function has the loop do and waits for: the loop goes on inside of it until that is done."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(coroutine)
            while not task.done() and _group.get() not in self._dead:
                getattr(self, "_run_once")()  # noqa: B009
        finally:
            asyncio._set_running_loop(None)
        result: T = task.result()
        return result

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Kept until it is done: nobody else holds a task that died while it waited."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- groups that die --------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override] # typeshed checks callback and args against each other
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        if not self._dead or context.get(_group) not in self._dead:
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._frozen.append(handle)
        return handle

    def kill(self, group: object) -> None:
        """From now on no code of the group runs, not even what cleans up."""
        self._dead.add(group)
        ready: Any = getattr(self, "_ready")  # noqa: B009 - asyncio's own, which typeshed does not know
        for handle in [one for one in ready if one._context.get(_group) is group]:
            ready.remove(handle)
            self._frozen.append(handle)
        for timer in getattr(self, "_scheduled"):  # noqa: B009
            if timer._context.get(_group) is group:
                timer.cancel()

    def revive(self) -> None:
        """Let the dead run again, so that they can be cancelled in good order."""
        self._dead.clear()
        getattr(self, "_ready").extend(self._frozen)  # noqa: B009
        self._frozen.clear()


class VirtualClock(Clock):
    """The loop's time as epoch seconds. ``skip`` puts it forward without a timer of the loop noticing."""

    def __init__(self, loop: VirtualLoop, start: float = START) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> float:
        return self._start + self._loop.time()

    def skip(self, seconds: float) -> None:
        self._start += seconds


def grouped(group: object, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task of this group."""
    context = contextvars.copy_context()
    context.run(_group.set, group)
    return asyncio.get_running_loop().create_task(coroutine, context=context)


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run it to its end on a loop of its own; then end, by cancelling it, what it has left running."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner, _threads_in_loop():
        try:
            return runner.run(main(loop))
        finally:
            loop.revive()
            loop.set_exception_handler(lambda _loop, _context: None)  # nobody is left to be told
            runner.run(_end_all())


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_PARTING)


@contextmanager
def _threads_in_loop() -> Iterator[None]:
    """So do AnyIO's threads, in which FastDepends and pydantic-ai call plain functions, and calls out of threads."""
    backend_of: Any = anyio.to_thread.get_async_backend  # type: ignore[attr-defined]

    def chosen() -> Any:
        return _InLoop if isinstance(asyncio.get_running_loop(), VirtualLoop) else backend_of()

    def from_thread(pulse: Pulse, report: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = pulse.loop
        if isinstance(loop, VirtualLoop) and asyncio._get_running_loop() is None:
            loop.run_from_aside(report())
        else:
            called_back(pulse, report)

    called_back = Pulse.from_thread
    with patch.object(anyio.to_thread, "get_async_backend", chosen), patch.object(Pulse, "from_thread", from_thread):
        yield


class _InLoop:
    @staticmethod
    async def run_sync_in_worker_thread(func: Callable[..., T], args: tuple[Any, ...], **_options: Any) -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop.call_aside(func, *args)
