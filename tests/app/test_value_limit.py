"""Values that are larger than ``value_limit``: refused wherever they would be recorded, by their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, ActivitySpec, App, Terminate, await_approval, await_signal
from paigeant.errors import MessageTooLarge, WorkflowError, WorkflowFailed

pytestmark = pytest.mark.anyio

LIMIT = 20_000
LARGE = "x" * LIMIT
SOON = 20


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    made = make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)
    made.settings = made.settings.model_copy(update={"value_limit": LIMIT})
    made.activity(lambda: None, name="unused")  # a worker needs one
    return made


def output() -> str:
    return LARGE


def stream() -> Iterator[str]:
    yield LARGE


def many_values() -> Iterator[str]:
    yield from ["x" * 2000] * 10


def last_output() -> None:
    raise Terminate(LARGE)


def variable(ctx: ActivityContext) -> None:
    ctx.variables["text"] = LARGE


def variable_in_place(ctx: ActivityContext) -> None:
    ctx.variables["list"].append(LARGE)


async def progress(ctx: ActivityContext) -> None:
    await ctx.heartbeat(LARGE)


def details(ctx: ActivityContext) -> None:
    ctx.await_approval("This?", details=LARGE)


def details_of_a_signal(ctx: ActivityContext) -> None:
    ctx.await_signal("word", details=LARGE)


STEPS: dict[Callable[..., Any], str] = {
    output: "the output of 'output' is 20,002 bytes",
    stream: "yielded value 0 is 20,002 bytes",
    many_values: "the output of 'many_values' is 20,031 bytes",
    last_output: "the output of 'last_output' is 20,002 bytes",
    variable: r"variables\['text'\] is 20,002 bytes",
    variable_in_place: r"variables\['list'\] is 20,004 bytes",
    progress: "the progress reported is 20,002 bytes",
    details: "the details of what the step waits for is 20,002 bytes",
    details_of_a_signal: "the details of what the step waits for is 20,002 bytes",
}


@pytest.mark.parametrize(("step", "said"), STEPS.items(), ids=lambda one: getattr(one, "__name__", ""))
async def test_the_step_fails_with_the_size(app, running, step, said):
    """After one attempt, and with nothing of the value in the history."""
    app.activity(step)
    async with running(app):
        workflow = await app.dispatch(step.__name__, variables={"list": []})
        with pytest.raises(WorkflowFailed, match=f"MessageTooLarge: {said}, the limit for a value 20,000"):
            await workflow.result(SOON)
    [one] = (await workflow.record()).steps
    assert (one.attempt, one.status) == (1, "failed")
    assert all(len(str(event.data)) < LIMIT for event in await app.store.events(workflow.correlation_id, 0))


async def test_a_failed_step_is_compensated_as_ever(app, running):
    """What was done before is undone."""
    undone = []

    @app.activity
    def reserve() -> int:
        return 7

    @reserve.compensate
    def release(number: int) -> None:
        undone.append(number)

    app.activity(output)
    async with running(app):
        with pytest.raises(WorkflowFailed, match="20,002 bytes"):
            await (await app.dispatch(reserve, "output")).result(SOON)
    assert undone == [7]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda app: app.dispatch("unused", variables={"text": LARGE}), r"variables\['text'\] is 20,002 bytes"),
        (lambda app: app.dispatch(ActivitySpec(name="other", prompt=LARGE)), r"other\.prompt is 20,002 bytes"),
        (
            lambda app: app.dispatch("unused", "unused", variables={"a": "x" * 70_000}),
            r"variables\['a'\] is 70,002 bytes",
        ),
    ],
    ids=["variable", "prompt", "does not travel"],
)
async def test_a_dispatch_is_refused(app, given, said):
    """Whether or not the value is small enough to travel in the message."""
    with pytest.raises(MessageTooLarge, match=said):
        await given(app)
    assert not await app.store.workflows()


async def test_a_signal_is_refused_where_it_is_sent(app, running):
    """The step waits on, for one that is smaller."""
    async with running(app):
        workflow = await app.dispatch(await_signal("word"))
        with pytest.raises(MessageTooLarge, match="the value for 'signal:word' is 20,002 bytes"):
            await workflow.signal("word", LARGE)
        await workflow.signal("word", "small")
        assert await workflow.result(SOON) == "small"


async def test_an_answer_is_refused_where_it_is_given(app, running):
    """The question stays open."""
    async with running(app):
        workflow = await app.dispatch(await_approval("This?"))
        await until_async(lambda: app.store.held(key="approval:"))
        with pytest.raises(MessageTooLarge, match=r"is 20,0\d\d bytes"):
            await workflow.decide(True, reason=LARGE)
        await workflow.decide(True, by="ada")
        await workflow.result(SOON)
        with pytest.raises(WorkflowError):
            await workflow.decide(True)


async def test_a_value_of_an_earlier_setting_goes_on(app, running):
    """A step that does not change a variable does not fail because of it."""

    @app.activity
    def other(ctx: ActivityContext) -> None:
        ctx.variables["other"] = 1

    generous = app.settings.model_copy(update={"value_limit": 10 * LIMIT})
    strict, app.settings = app.settings, generous
    workflow = await app.dispatch(other, variables={"large": "y" * (LIMIT + 1)})
    await app.close()
    app.settings = strict
    async with running(app):
        await workflow.result(SOON)
