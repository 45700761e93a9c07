"""Values made for a step by providers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from paigeant import ActivityContext, Depends
from paigeant.errors import WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture
def app(make_app):
    """One kind of broker is enough: providers know none."""
    return make_app("memory://")


@pytest.fixture
def result_of(app, running):
    """Runs one step of an activity and gives its output."""

    async def run(activity, **arguments):
        async with running(app):
            workflow = await app.dispatch(activity.step(**arguments))
            return await workflow.result(SOON)

    return run


def plain() -> str:
    return "plain"


async def asynchronous() -> str:
    await asyncio.sleep(0)
    return "async"


def generator() -> Iterator[str]:
    yield "generator"


async def async_generator() -> AsyncIterator[str]:
    yield "async generator"


def nested(inner: str = Depends(asynchronous), other: str = Depends(generator)) -> str:
    return f"{inner} in {other}"


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (plain, "plain"),
        (asynchronous, "async"),
        (generator, "generator"),
        (async_generator, "async generator"),
        (nested, "async in generator"),
        (lambda: "lambda", "lambda"),
    ],
    ids=["sync", "async", "generator", "async generator", "nested", "lambda"],
)
@pytest.mark.parametrize("kind", ["async", "sync", "stream"])
async def test_a_provider_of_any_kind_serves_an_activity_of_any_kind(app, result_of, provider, expected, kind):
    """Called once for the step."""

    async def for_async(value: str = Depends(provider)) -> str:
        return value

    def for_sync(value: str = Depends(provider)) -> str:
        return value

    async def for_stream(value: str = Depends(provider)) -> AsyncIterator[str]:
        yield value

    function = {"async": for_async, "sync": for_sync, "stream": for_stream}[kind]
    output = await result_of(app.activity(function))
    assert output == ([expected] if kind == "stream" else expected)


async def test_provided_values_need_not_be_json(app, result_of):
    """They never travel."""
    lock = asyncio.Lock()

    @app.activity
    async def work(value: object = Depends(lambda: lock)) -> bool:
        return value is lock

    assert await result_of(work) is True


async def test_clean_up_runs_in_reverse_order_after_the_step(app, result_of):
    """What was opened last is closed first, and the step is over by then."""
    log = []

    def outer():
        log.append("open outer")
        yield "outer"
        log.append("close outer")

    async def inner(outer: str = Depends(outer)):
        log.append(f"open inner with {outer}")
        yield "inner"
        log.append("close inner")

    @app.activity
    async def work(a: str = Depends(outer), b: str = Depends(inner)) -> None:
        log.append(f"work with {a} and {b}")

    await result_of(work)
    assert log == [
        "open outer",
        "open inner with outer",
        "work with outer and inner",
        "close inner",
        "close outer",
    ]


async def test_clean_up_runs_when_the_step_fails(app, result_of):
    """So that nothing stays open."""
    log = []

    async def resource():
        try:
            yield 1
        finally:
            log.append("closed")

    @app.activity
    async def fails(r: int = Depends(resource)) -> None:
        raise ValueError("no")

    with pytest.raises(WorkflowFailed, match="ValueError: no"):
        await result_of(fails)
    assert log == ["closed"]


async def test_clean_up_runs_when_the_step_takes_too_long(app, result_of):
    """A cancelled step closes what it opened."""
    log = []

    async def resource():
        try:
            yield 1
        finally:
            log.append("closed")

    @app.activity(timeout=0.05)
    async def slow(r: int = Depends(resource)) -> None:
        await asyncio.Event().wait()

    with pytest.raises(WorkflowFailed, match="TimeoutError"):
        await result_of(slow)
    assert log == ["closed"]


async def test_a_provider_that_fails_is_the_steps_failure(app, result_of):
    """With the provider's error."""

    def broken():
        raise ValueError("no database")

    @app.activity
    async def work(value: int = Depends(broken)) -> None: ...

    with pytest.raises(WorkflowFailed, match="ValueError: no database"):
        await result_of(work)


async def test_a_provider_is_called_once_for_a_step_and_again_for_the_next(app, running):
    """However many parameters and providers ask for it."""
    calls = []

    def connection():
        calls.append(1)
        return len(calls)

    def left(c: int = Depends(connection)):
        return c

    def right(c: int = Depends(connection)):
        return c

    @app.activity
    async def work(a: int = Depends(left), b: int = Depends(right), c: int = Depends(connection)) -> list[int]:
        return [a, b, c]

    async with running(app):
        workflow = await app.dispatch(work, work)
        assert await workflow.result(SOON) == [2, 2, 2]
    assert len(calls) == 2


async def test_a_provider_without_cache_is_called_each_time(app, result_of):
    """For values that must not be shared."""
    calls = []

    @app.activity
    async def work(
        a: int = Depends(lambda: calls.append(1) or len(calls), use_cache=False),
        b: int = Depends(lambda: calls.append(1) or len(calls), use_cache=False),
    ) -> list[int]:
        return [a, b]

    assert await result_of(work) == [1, 2]


async def test_a_provider_gets_the_context_by_annotation(app, result_of):
    """Under any name, and nested providers too."""

    def tenant(context: ActivityContext) -> str:
        return context.step.name

    async def nested_tenant(ctx: ActivityContext, outer: str = Depends(tenant)) -> str:
        return f"{outer} in {ctx.correlation_id}"

    @app.activity
    async def check(c: ActivityContext, where: str = Depends(nested_tenant)) -> bool:
        return where == f"check in {c.correlation_id}"

    assert await result_of(check) is True


async def test_a_provider_is_overridden_in_tests_and_only_there(app, running):
    """Without touching the activity."""

    @app.activity
    async def work(value: str = Depends(plain)) -> str:
        return value

    async with running(app):
        with app.override(plain, lambda: "replaced"):
            assert await (await app.dispatch(work)).result(SOON) == "replaced"
        assert await (await app.dispatch(work)).result(SOON) == "plain"


async def test_a_provider_inside_a_provider_is_overridden_too(app, running):
    """It is the provider that is replaced, wherever it is used."""

    def outer(inner: str = Depends(plain)) -> str:
        return f"outer of {inner}"

    @app.activity
    async def work(value: str = Depends(outer)) -> str:
        return value

    async with running(app):
        with app.override(plain, asynchronous):
            assert await (await app.dispatch(work)).result(SOON) == "outer of async"


async def test_a_replacement_may_be_of_another_kind_and_take_the_context(app, running):
    """A generator for a function, for example, with its clean-up."""
    log = []

    async def replacement(ctx: ActivityContext):
        yield f"for {ctx.step.name}"
        log.append("closed")

    @app.activity
    async def work(value: str = Depends(plain)) -> str:
        return value

    async with running(app):
        with app.override(plain, replacement):
            assert await (await app.dispatch(work)).result(SOON) == "for work"
    assert log == ["closed"]


async def test_an_override_of_one_app_does_not_reach_another(make_app, app, running):
    """Each has its own."""
    other = make_app("memory://", queue_prefix=f"{app.prefix}-other")

    async def work(value: str = Depends(plain)) -> str:
        return value

    app.activity(work)
    other.activity(work)
    async with running(other):
        with app.override(plain, lambda: "replaced"):
            assert await (await other.dispatch("work")).result(SOON) == "plain"


async def test_an_override_ends_with_its_context_however_that_ends(app, running):
    """A failing test leaves nothing behind for the next; within another override that one is back."""

    @app.activity
    async def work(value: str = Depends(plain)) -> str:
        return value

    async with running(app):
        with app.override(plain, lambda: "outer"):
            with pytest.raises(KeyError), app.override(plain, lambda: "inner"):
                raise KeyError
            assert await (await app.dispatch(work)).result(SOON) == "outer"
        assert await (await app.dispatch(work)).result(SOON) == "plain"
