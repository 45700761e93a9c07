"""Hooks around the runs of activities, and observers of what was recorded."""

from __future__ import annotations

import asyncio
import threading

import pytest

from paigeant import ActivityContext, Depends, RetryPolicy, Terminate, sleep
from paigeant.errors import ConfigurationError, WorkflowFailed
from paigeant.events import StepEnded, WorkflowCompleted, WorkflowEnded
from paigeant.testing import run

pytestmark = pytest.mark.anyio

SOON = 60


def listen(place, told, name):
    """Three hooks that note that they were called."""

    @place.before
    async def before(ctx: ActivityContext) -> None:
        told.append((name, "before", ctx.step.name, ctx.attempt))

    @place.after
    def after(ctx: ActivityContext, output: object) -> None:
        told.append((name, "after", ctx.step.name, output))

    @place.on_failure
    def on_failure(ctx: ActivityContext, error: Exception) -> None:
        told.append((name, "failed", ctx.step.name, str(error)))


async def test_hooks_are_around_every_run(app, running):
    """The App's outside, those of the activity inside, around each attempt; steps of paigeant's own have none."""
    told = []
    listen(app, told, "app")

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.01))
    async def work(ctx: ActivityContext) -> int:
        told.append("work")
        if ctx.attempt == 1:
            raise OSError("not yet")
        return 5

    @app.activity
    def plain(n: int) -> int:
        return n

    listen(work, told, "work")
    async with running(app):
        assert await (await app.dispatch(work, sleep(0.01), plain)).result(SOON) == 5
    assert told == [
        *[("app", "before", "work", 1), ("work", "before", "work", 1), "work"],
        *[("work", "failed", "work", "not yet"), ("app", "failed", "work", "not yet")],
        *[("app", "before", "work", 2), ("work", "before", "work", 2), "work"],
        *[("work", "after", "work", 5), ("app", "after", "work", 5)],
        *[("app", "before", "plain", 1), ("app", "after", "plain", 5)],
    ]


async def test_hooks_on_other_brokers(elsewhere, running):
    """It is the worker that calls them: a plain one in a thread, an async one in the event loop, both in the step."""
    app, threads = elsewhere, []

    @app.before
    def before(ctx: ActivityContext) -> None:
        threads.append(threading.get_ident())
        assert ActivityContext.current() is ctx
        ctx.variables["seen"] = True

    @app.after
    async def after(ctx: ActivityContext, output: int) -> None:
        threads.append(threading.get_ident())

    @app.activity
    def work() -> int:
        return 5

    async with running(app):
        workflow = await app.dispatch(work)
        assert await workflow.result(SOON) == 5
    assert threads[0] != threads[1] == threading.get_ident()
    assert (await workflow.record()).variables == {"seen": True}


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_hook_that_raises_fails_the_attempt(app, kind):
    """As if the activity had raised it: it is tried again, and the failure is told."""
    told, tries = [], []

    @app.activity(retry=RetryPolicy(attempts=3, delay=0.01))
    def work() -> int:
        tries.append("work")
        return 5

    def hook(ctx: ActivityContext, output: int = 0) -> None:
        tries.append(kind)
        if ctx.attempt < 3:
            raise OSError("no")

    getattr(work, kind)(hook)
    work.on_failure(lambda ctx, error: told.append(str(error)))
    assert run(app, work).result() == 5
    assert tries.count(kind) == 3
    assert tries.count("work") == (1 if kind == "before" else 3)
    assert told == ["no", "no"]


def test_a_hook_that_raises_for_good_fails_the_step(app):
    """Before anything the activity depends on is opened."""
    opened = []

    def connection():
        opened.append("connection")
        yield 1

    @app.activity
    def work(connection: int = Depends(connection)) -> None: ...

    @work.before
    def refuse(ctx: ActivityContext) -> None:
        raise PermissionError("not today")

    ran = run(app, work)
    assert "PermissionError: not today" in str(ran.failure)
    assert opened == []


def test_signals_are_no_failures(app):
    """A step that waits is run again from its beginning; one that ends the workflow has its output."""
    told = []
    listen(app, told, "app")

    @app.activity
    def work(ctx: ActivityContext) -> int:
        ctx.sleep(5)
        raise Terminate(7)

    assert run(app, work).result() == 7
    assert told == [("app", "before", "work", 1), ("app", "before", "work", 1), ("app", "after", "work", 7)]


def test_a_hook_may_end_the_workflow(app):
    """What it raises is raised by the activity."""

    @app.activity
    def work() -> str:
        raise AssertionError

    @work.before
    def enough(ctx: ActivityContext) -> None:
        raise Terminate("enough")

    assert run(app, work, work).result() == "enough"


def test_a_timeout_is_told(app):
    """And an argument that is missing, and an output that is no JSON."""
    told = []

    @app.activity(timeout=1)
    async def slow() -> None:
        await asyncio.sleep(60)

    @app.activity
    def needy(n: int) -> None: ...

    @app.activity
    def odd() -> object:
        return object()

    @app.on_failure
    def failed(ctx: ActivityContext, error: Exception) -> None:
        told.append((ctx.step.name, type(error).__name__))

    @app.activity
    def nothing() -> None: ...

    for steps in ([slow], [odd], [nothing, needy.step()]):
        assert run(app, *steps).failure is not None
    assert told == [("slow", "TimeoutError"), ("odd", "NotSerializable"), ("needy", "InvalidInput")]


def test_a_hook_that_hangs_on_a_failure_is_left(app):
    """It has ten seconds; the step fails as it would have."""

    @app.activity
    def work() -> None:
        raise ValueError("no")

    @work.on_failure
    async def hang(ctx: ActivityContext, error: Exception) -> None:
        await asyncio.sleep(3600)

    ran = run(app, work)
    assert "ValueError: no" in str(ran.failure)
    assert ran.seconds < 60


def test_a_compensation_has_the_hooks_of_its_app(app):
    """Not those of the activity that it takes back."""
    told = []

    @app.activity
    def book() -> None: ...

    @book.compensate
    def cancel() -> None: ...

    @app.activity
    def fail() -> None:
        raise ValueError("no")

    listen(book, told, "book")
    app.before(lambda ctx: told.append((ctx.step.name, ctx.is_compensating)))
    assert run(app, book, fail).status == "compensated"
    assert told == [
        *[("book", False), ("book", "before", "book", 1), ("book", "after", "book", None)],
        *[("fail", False), ("book", True)],
    ]


# --- observers --------------------------------------------------------------------------------------------------------


async def test_observers_are_told_what_was_recorded(app, running):
    """All, or events of the types they want; of steps and of workflows."""
    every, ends, wholes = [], [], []

    @app.observe
    def all_of_it(event) -> None:
        every.append(event.type)

    @app.observe(StepEnded, WorkflowEnded)
    def ended(event) -> None:
        ends.append(event.type)

    @app.observe(WorkflowCompleted)
    def completed(event: WorkflowCompleted) -> None:
        wholes.append((event.correlation_id, event.output))

    @app.activity
    def work() -> int:
        return 5

    async with running(app):
        workflow = await app.dispatch(work)
        await workflow.result(SOON)
    assert every == ["workflow_dispatched", "step_completed", "workflow_completed"]
    assert ends == ["step_completed", "workflow_completed"]
    assert wholes == [(workflow.correlation_id, 5)]


async def test_an_observer_that_raises_does_no_harm(app, running):
    """The others are told, the step and its worker go on."""
    told = []

    @app.observe
    def broken(event) -> None:
        raise RuntimeError("broken")

    @app.observe
    def whole(event) -> None:
        told.append(event.type)

    @app.activity
    def work(fails: bool) -> None:
        if fails:
            raise ValueError("no")

    async with running(app):
        with pytest.raises(WorkflowFailed):
            await (await app.dispatch(work.step(fails=True))).result(SOON)
        await (await app.dispatch(work.step(fails=False))).result(SOON)
    assert told.count("workflow_dispatched") == 2
    assert told[-1] == "workflow_completed"


@pytest.mark.parametrize("wrong", [("no type",), (int,), (WorkflowEnded, 5)])
def test_only_events_are_observed(app, wrong):
    """And nothing async, whose result nobody would await."""
    with pytest.raises(ConfigurationError):
        app.observe(*wrong)

    async def later(event) -> None: ...

    with pytest.raises(ConfigurationError, match="cannot be an observer"):
        app.observe(later)
    with pytest.raises(ConfigurationError, match="cannot be an observer"):
        app.observe(WorkflowEnded)(later)
