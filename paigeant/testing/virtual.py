"""Virtual time: an event loop on which waits take no time, and groups of tasks that can be killed as by ``kill -9``.

When no task can run, the loop's clock jumps to its next timer. Code for threads runs in the loop, so that a run depends
only on the program. Do not use real input and output here: every timeout expires before it finishes.
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

from paigeant.context.pulse import Pulse
from paigeant.runtime import clock
from paigeant.runtime.clock import Clock

T = TypeVar("T")

START = 1_767_225_600.0
"""The clock's initial time in epoch seconds: 1 January 2026, UTC."""

_group: ContextVar[object] = ContextVar("paigeant_group", default=None)
"""The group of tasks in which this code runs; tasks and callbacks inherit it."""

_PARTING = 60.0


class _Overtaking(selectors.SelectSelector):
    """A selector that never waits: it adds the time that it should wait to the loop's clock."""

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
    """An event loop with its own clock, in seconds from 0."""

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
        """Call the function in the loop, in its next iteration."""
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
        """Call a plain function as if in a thread: it sees no running loop."""
        asyncio._set_running_loop(None)
        try:
            return call(*arguments)
        finally:
            asyncio._set_running_loop(self)

    def run_from_aside(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine for a function that :meth:`call_aside` called; the loop runs nested until it is done."""
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
        """Create a task and keep a reference until it is done: nothing else references a task that died waiting."""
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
        """Stop all code of the group for good, including its clean-up."""
        self._dead.add(group)
        ready: Any = getattr(self, "_ready")  # noqa: B009 - asyncio's own, which typeshed does not know
        for handle in [one for one in ready if one._context.get(_group) is group]:
            ready.remove(handle)
            self._frozen.append(handle)
        for timer in getattr(self, "_scheduled"):  # noqa: B009
            if timer._context.get(_group) is group:
                timer.cancel()

    def revive(self) -> None:
        """Let killed tasks run again, so that they can be cancelled properly."""
        self._dead.clear()
        getattr(self, "_ready").extend(self._frozen)  # noqa: B009
        self._frozen.clear()


class VirtualClock(Clock):
    """The loop's time as epoch seconds. ``skip`` advances it without firing timers of the loop."""

    def __init__(self, loop: VirtualLoop, start: float = START) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> float:
        return self._start + self._loop.time()

    def skip(self, seconds: float) -> None:
        self._start += seconds


def grouped(group: object, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Create a task in this group."""
    context = contextvars.copy_context()
    context.run(_group.set, group)
    return asyncio.get_running_loop().create_task(coroutine, context=context)


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on its own virtual loop; then cancel the tasks that it left running."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner, _threads_in_loop(), _durations_of_loop():
        try:
            return runner.run(main(loop))
        finally:
            loop.revive()
            loop.set_exception_handler(lambda _loop, _context: None)  # errors of cancelled tasks are irrelevant
            runner.run(_end_all())


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_PARTING)


@contextmanager
def _threads_in_loop() -> Iterator[None]:
    """Run AnyIO's threads in the loop, too: FastDepends and pydantic-ai call plain functions in them."""
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


@contextmanager
def _durations_of_loop() -> Iterator[None]:
    """Measure durations with the virtual loop's clock, so that the machine's speed changes no result."""
    since_boot = clock._since_boot

    def chosen() -> float:
        loop = asyncio._get_running_loop()
        return loop.time() if isinstance(loop, VirtualLoop) else since_boot()

    with patch.object(clock, "_since_boot", chosen):
        yield


class _InLoop:
    @staticmethod
    async def run_sync_in_worker_thread(func: Callable[..., T], args: tuple[Any, ...], **_options: Any) -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop.call_aside(func, *args)
