"""Workflows under way when a release changes the code of an activity: the table in docs/how-to/deploy.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paigeant import App, Worker, Workflow
from paigeant.errors import WorkflowFailed
from paigeant.records.workflow import Status

pytestmark = pytest.mark.anyio

Release = Callable[[App], Any]


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., App]:
    """Makes the App of a release out of its functions; all releases share one file."""

    def made(*functions: Callable[..., Any], **options: Any) -> App:
        app = App("shop", broker=f"sqlite:///{tmp_path / 'shop.db'}")
        for function in functions:
            app.activity(name=function.__name__.removeprefix("new_"), **options)(function)
        return app

    return made


async def work(app: App, **options: Any) -> None:
    await Worker(app, burst=True, **options).run()
    await app.close()


async def price(item: str) -> int:
    return 100 * len(item)


async def offer(cents: int) -> str:
    return f"It costs {cents}"


async def dispatched(app: App) -> Workflow:
    """A workflow of the old release: nothing of it has run."""
    return await app.dispatch(app.activities["price"].step(item="kite"), "offer")


async def test_a_new_parameter_with_a_default_takes_it(release: Callable[..., App]) -> None:
    """The function may have another name as long as the activity keeps its own."""
    workflow = await dispatched(release(price, offer))

    async def new_price(item: str, discount: int = 50) -> int:
        return 100 * len(item) - discount

    await work(release(new_price, offer))
    assert await workflow.result(timeout=30) == "It costs 350"


async def test_a_new_parameter_without_a_default_fails_the_step(release: Callable[..., App]) -> None:
    """The body does not start, and a retry would not help."""
    workflow = await dispatched(release(price, offer))
    runs = []

    async def new_price(item: str, currency: str) -> int:
        runs.append(currency)
        return 0

    await work(release(new_price, offer))
    with pytest.raises(WorkflowFailed, match=r"InvalidInput.*currency"):
        await workflow.result(timeout=30)
    assert runs == []


async def test_completed_steps_are_compensated_when_the_next_one_does_not_fit(release: Callable[..., App]) -> None:
    """The output that the old code gave is no input for the new code."""
    undone = []

    async def refund(cents: int) -> None:
        undone.append(cents)

    async def new_offer(cents: list[str]) -> str:
        return ""

    old, new = release(price), release(price, new_offer)
    for app in (old, new):
        app.activities["price"].compensate(refund)
    workflow = await dispatched(old)
    await work(old)
    await work(new)
    with pytest.raises(WorkflowFailed, match="InvalidInput"):
        await workflow.result(timeout=30)
    assert undone == [400]


async def test_a_new_compensation_is_for_steps_that_complete_from_then_on(release: Callable[..., App]) -> None:
    """Whether a step can be taken back is written down when it completes."""
    undone = []

    async def refund(cents: int) -> None:
        undone.append(cents)

    async def new_offer(cents: int) -> str:
        raise ValueError("no paper")

    old, new = release(price), release(price, new_offer)
    new.activities["price"].compensate(refund)
    workflow = await dispatched(old)
    await work(old)
    await work(new)
    with pytest.raises(WorkflowFailed, match="no paper"):
        await workflow.result(timeout=30)
    assert undone == []


async def test_a_removed_activity_leaves_its_messages_where_they_are(release: Callable[..., App]) -> None:
    """A later release that has it again completes the workflow."""
    workflow = await dispatched(release(price, offer))
    await work(release(price))
    assert await workflow.status() is Status.RUNNING

    await work(release(price, offer))
    assert await workflow.result(timeout=30) == "It costs 400"


async def test_workflows_keep_the_queues_they_were_dispatched_with(release: Callable[..., App]) -> None:
    """A worker of the new release serves the old queue when it is told to, by the queue's full name."""
    workflow = await dispatched(release(price, offer, queue="old"))
    new = release(price, offer, queue="new")
    await work(new)
    assert await workflow.status() is Status.RUNNING

    await work(release(price, offer, queue="new"), queues=["shop.old"])
    assert await workflow.result(timeout=30) == "It costs 400"
