"""Whatever a step raises ends that attempt and nothing else: it counts, obeys the retry policy, and is recorded."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from paigeant import ActivityContext, App, Retry, RetryPolicy
from paigeant.decisions.interrupts import Terminate
from paigeant.errors import InvalidInput, Superseded, WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 20


class Unspeakable(Exception):
    """Nothing of it can be read, and it cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Odd(Exception):
    """Says something that is no text, or has notes that are none."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]

    @property
    def __notes__(self) -> list[str]:
        raise SystemExit


async def exits() -> None:
    sys.exit(2)


async def is_interrupted() -> None:
    raise KeyboardInterrupt


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def cancels_itself_last() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def exits_in_a_gather() -> None:
    await asyncio.gather(exits())


async def exits_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(exits())


async def interrupts_in_a_task_of_a_task() -> None:
    await asyncio.create_task(asyncio.wait_for(asyncio.create_task(is_interrupted()), 5))


async def exits_in_a_forgotten_task() -> None:
    task = asyncio.create_task(exits())
    await asyncio.sleep(0.01)
    with suppress(SystemExit):
        task.result()
    raise OSError("and then this")


async def exits_in_callbacks() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, told: None)
    loop.call_soon(sys.exit, 1)
    loop.call_later(0.001, sys.exit, 1)
    await asyncio.to_thread(loop.call_soon_threadsafe, sys.exit, 1)
    done = asyncio.ensure_future(asyncio.sleep(0))
    done.add_done_callback(lambda _: sys.exit(1))
    await asyncio.sleep(0.05)
    loop.set_exception_handler(None)
    raise OSError("and then this")


async def exits_when_a_socket_is_ready() -> None:
    class Exits(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            sys.exit(2)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, told: None)
    here, there, far, near = *socket.socketpair(), *socket.socketpair()
    with here, there, far:
        there.send(b"x")
        far.send(b"x")
        loop.add_reader(here, sys.exit, 1)
        loop.add_writer(there, sys.exit, 1)
        transport, _ = await loop.create_connection(Exits, sock=near)
        await asyncio.sleep(0.05)
        loop.remove_reader(here)
        loop.remove_writer(there)
        transport.abort()
        await asyncio.sleep(0)
    loop.set_exception_handler(None)
    raise OSError("and then this")


async def cancels_a_task_of_its_own() -> None:
    task = asyncio.create_task(asyncio.sleep(5))
    task.cancel()
    await task


async def exits_in_the_cleanup_of_a_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            sys.exit(3)

    async for _ in numbers():
        break
    await asyncio.sleep(0.01)
    raise OSError("and then this")


def raising(error: Callable[[], BaseException]) -> Callable[[], Awaitable[None]]:
    async def body() -> None:
        raise error()

    return body


def exits_in_a_thread() -> None:
    sys.exit(4)


def interrupts_a_thread() -> None:
    raise KeyboardInterrupt


def cancels_in_a_thread() -> None:
    raise asyncio.CancelledError


def stops_iteration() -> None:
    raise StopIteration(1)


def recurses() -> None:
    recurses()


BODIES: dict[str, Callable[[], Any]] = {
    "GeneratorExit": raising(GeneratorExit),
    "KeyboardInterrupt": raising(KeyboardInterrupt),
    "SystemExit": raising(lambda: SystemExit(2)),
    "CancelledError": raising(asyncio.CancelledError),
    "StopAsyncIteration": raising(StopAsyncIteration),
    "StopIteration": raising(StopIteration),
    "MemoryError": raising(MemoryError),
    "BaseException": raising(BaseException),
    "Superseded": raising(Superseded),
    "Unspeakable": raising(Unspeakable),
    "Odd": raising(Odd),
    "surrogates": raising(lambda: ValueError("\ud800 \x00")),
    "surrogates in the name": raising(lambda: type("\udcff", (Exception,), {})("x")),
    "group": raising(lambda: BaseExceptionGroup("\ud800", [GeneratorExit(), Unspeakable(), SystemExit(1)])),
    "deep group": raising(lambda: deep(2000)),
} | {
    body.__name__: body
    for body in (
        cancels_itself,
        cancels_itself_last,
        exits_in_a_gather,
        exits_in_a_group,
        interrupts_in_a_task_of_a_task,
        exits_in_a_forgotten_task,
        exits_when_a_socket_is_ready,
        exits_in_callbacks,
        cancels_a_task_of_its_own,
        exits_in_the_cleanup_of_a_generator,
        exits_in_a_thread,
        interrupts_a_thread,
        cancels_in_a_thread,
        stops_iteration,
        recurses,
    )
}


def deep(levels: int) -> BaseException:
    error: BaseException = OSError("at the bottom")
    for _ in range(levels):
        error = BaseExceptionGroup("level", [error])
    return error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("body", BODIES)
async def test_it_ends_the_attempt_counts_and_is_tried_again(app, running, body):
    """A step beside it does not notice, and the worker goes on."""
    starts, go_on = [], asyncio.Event()
    app.activity(BODIES[body], name="bad", retry=RetryPolicy(attempts=2, delay=0.01), timeout=5)
    app.before(lambda ctx: starts.append(ctx.attempt) if ctx.step.name == "bad" else None)

    @app.activity
    async def beside() -> str:
        await go_on.wait()
        return "undisturbed"

    async with running(app):
        neighbour = await app.dispatch(beside)
        workflow = await app.dispatch("bad")
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
        go_on.set()
        assert await neighbour.result(SOON) == "undisturbed"
        recorded = (await workflow.record()).steps
    assert starts == [1, 2]
    assert [(step.attempt, step.status) for step in recorded] == [(1, "retried"), (2, "failed")]


@pytest.mark.parametrize("place", ["before", "after", "on_failure", "retry_on", "generator", "dependency"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_it_may_be_raised_wherever_the_developer_writes_code(app, running, place, error):
    """Hooks, rules, and what cleans up, too."""

    def fails(*given: Any) -> None:
        raise error

    options = {"retry_on": fails} if place == "retry_on" else {}

    @app.activity(**options)
    async def step() -> None:
        if place in ("on_failure", "retry_on"):
            raise OSError("first")

    @app.activity
    async def shows():
        try:
            yield 1
        finally:
            fails()

    if place in ("before", "after", "on_failure"):
        getattr(step, place)(fails)
    async with running(app):
        workflow = await app.dispatch(shows if place in ("generator", "dependency") else step)
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)


# --- groups ----------------------------------------------------------------------------------------------------------


async def together(*errors: BaseException) -> None:
    """Raise them all, from tasks of one group."""

    async def one(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(one(error))


async def test_retry_means_the_same_in_a_group(app, running):
    """In a group of a group, too, and beside an error."""

    async def nested(error: BaseException) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(together(error, OSError("beside")))

    @app.activity
    async def asks(ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            await together(Retry("not yet", after=0.01))
        if ctx.attempt == 2:
            await nested(Retry("not yet", after=0.01, counted=False))
        return ctx.attempt

    async with running(app):
        assert await (await app.dispatch(asks)).result(SOON) == 3


async def test_a_pause_means_the_same_in_a_group(app, running):
    """The step is parked, and goes on from its beginning."""

    @app.activity
    async def sleeps(ctx: ActivityContext) -> str:
        async def nap() -> None:
            ctx.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            group.create_task(nap())
        return "slept"

    async with running(app):
        workflow = await app.dispatch(sleeps)
        assert await workflow.result(SOON) == "slept"
        assert [step.status for step in (await workflow.record()).steps] == ["parked", "completed"]


async def test_the_end_of_the_workflow_means_the_same_in_a_group(app, running):
    """Its hooks are told, and the steps ahead are not run."""
    told = []

    @app.activity
    async def ends() -> None:
        await together(Terminate("enough"))

    ends.after(lambda ctx, output: told.append(output))
    async with running(app):
        assert await (await app.dispatch(ends, "never")).result(SOON) == "enough"
    assert told == ["enough"]


@pytest.mark.parametrize(
    ("errors", "starts"),
    [
        ([OSError("x")], 2),
        ([OSError("x"), ConnectionError("y")], 2),
        ([KeyError("x")], 1),
        ([OSError("x"), KeyError("y")], 1),
        ([InvalidInput("x"), OSError("y")], 1),
        ([OSError("x"), Terminate("done")], 2),
    ],
    ids=repr,
)
async def test_rules_for_errors_mean_the_same_in_a_group(app, running, errors, starts):
    """A group is worth another attempt if each error in it is; no end of the workflow hides an error."""
    began = []

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.01), retry_on=OSError)
    async def step() -> None:
        began.append(1)
        await together(*errors)

    async with running(app):
        with pytest.raises(WorkflowFailed):
            await (await app.dispatch(step)).result(SOON)
    assert len(began) == starts


async def test_the_error_of_a_task_is_shown_without_its_group(app, running):
    """As if it had been raised outside of it."""

    @app.activity
    async def step() -> None:
        await together(OSError("the disk"))

    async with running(app):
        workflow = await app.dispatch(step)
        with pytest.raises(WorkflowFailed, match="OSError: the disk"):
            await workflow.result(SOON)


# --- the worker's stop -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["lets it pass", "raises another", "cancels itself"])
async def test_a_step_that_the_worker_interrupts_is_given_back_whatever_it_raises(
    make_app: Callable[..., App], tmp_path: Path, running: Any, answer: str
) -> None:
    """It did not fail: it comes again as if it had never been handed out."""
    seen, began, app = [], asyncio.Event(), make_app(f"sqlite:///{tmp_path / 'broker.db'}")

    @app.activity
    async def step(ctx: ActivityContext) -> str:
        seen.append(ctx.attempt)
        if len(seen) > 1:
            return "at last"
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if answer == "raises another":
                raise OSError("interrupted") from None
            if answer == "cancels itself":
                await cancels_itself()
            raise
        return "never"

    async with running(app, shutdown_timeout=0):
        workflow = await app.dispatch(step)
        await began.wait()
    async with running(app):
        assert await workflow.result(SOON) == "at last"
    assert seen == [1, 1]
