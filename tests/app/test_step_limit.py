"""Workflows with more steps than ``step_limit``: refused where they are planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paigeant import ActivityContext, App, Grant, scatter, scatter_map
from paigeant.errors import MessageTooLarge, WorkflowFailed
from paigeant.transport import Outgoing
from paigeant.wire.slip import RoutingSlip

pytestmark = pytest.mark.anyio

MOST = 20
SOON = 20


@pytest.fixture
def app(make_app: Callable[..., App], tmp_path: Path) -> App:
    made = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")
    made.settings = made.settings.model_copy(update={"step_limit": MOST})
    made.activity(lambda: None, name="work")
    return made


@pytest.mark.parametrize(
    "steps",
    [
        lambda: ["work"] * (MOST + 1),
        lambda: [scatter(*["work"] * MOST)],
        lambda: [RoutingSlip(itinerary=tuple(scatter(*["work"] * 5) for _ in range(4)))],
    ],
    ids=["steps", "branches", "a slip"],
)
async def test_a_dispatch_with_too_many_steps_is_refused(app, steps):
    """Nothing is sent; the error names number and setting."""
    with pytest.raises(MessageTooLarge, match=r"the message has 2\d steps, the limit is 20") as refused:
        await app.dispatch(*steps())
    assert "PAIGEANT_STEP_LIMIT" in refused.value.hint
    assert not await app.store.workflows(limit=10)


async def test_a_dispatch_at_the_limit_runs(app, running):
    """The last step, too."""
    async with running(app):
        workflow = await app.dispatch(["work"] * MOST)
        await workflow.result(SOON)
    assert len((await workflow.record()).steps) == MOST


async def test_a_step_that_inserts_too_many_fails(app, running):
    """And what it inserted does not run."""

    @app.activity
    def plan(ctx: ActivityContext) -> None:
        ctx.insert(*["work"] * (MOST + 1))

    async with running(app):
        workflow = await app.dispatch(plan, grant=Grant(steps=1000))
        with pytest.raises(WorkflowFailed, match="MessageTooLarge: the message has 21 steps, the limit is 20"):
            await workflow.result(SOON)
    assert [one.activity for one in (await workflow.record()).steps] == ["plan"]


async def test_a_step_that_begins_too_many_branches_fails(app, running):
    """A list of unexpected length is refused before any branch begins."""
    app.activity(lambda: [1] * (MOST + 1), name="items")
    async with running(app):
        workflow = await app.dispatch("items", scatter_map("work"))
        with pytest.raises(WorkflowFailed, match="MessageTooLarge: the step begins 21 workflows at once"):
            await workflow.result(SOON)
    assert len(await app.store.workflows(limit=100)) == 1


async def test_a_message_with_too_many_steps_becomes_a_dead_letter(app, running, prefix):
    """From whoever it comes; the next message runs."""
    step = b'{"name":"work","id":"%d"}'
    steps = b",".join(step % number for number in range(MOST + 1))
    body = b'{"spec_version":"1.4","correlation_id":"c","routing_slip":{"itinerary":[' + steps + b"]}}"
    queue = f"{prefix}.work"
    await app.transport.declare(queue)
    await app.transport.send([Outgoing(queue=queue, body=body)])
    async with running(app):
        await (await app.dispatch("work")).result(SOON)
    [letter] = await app.dead_letters.list()
    assert letter.reason.startswith("MessageTooLarge: the message has 21 steps, the limit is 20")
