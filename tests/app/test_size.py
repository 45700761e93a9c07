"""Messages stay small: what steps gave long ago, and what is large, is left in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paigeant import ActivityContext, App, BranchResult, scatter
from paigeant.errors import WorkflowFailed
from paigeant.transport import Outgoing

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


@pytest.fixture
def sizes(app: App, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each message that is sent."""
    sent: list[int] = []
    settle = type(app.transport).settle

    async def watched(self, delivery, outgoing=(), record=()):
        sent.extend(len(one.body) for one in outgoing if isinstance(one, Outgoing))
        return await settle(self, delivery, outgoing, record)

    monkeypatch.setattr(type(app.transport), "settle", watched)
    return sent


async def test_a_long_slip_stays_small(app, running, sizes):
    """A hundred steps that give 800 bytes each: bytes moved grow with the steps, not with their square."""

    @app.activity
    def work(ctx: ActivityContext, given: str = "") -> str:
        return f"{ctx.step.id:>4}" * 200

    @app.activity
    def look(ctx: ActivityContext) -> list[str]:
        return [ctx.output(str(step))[:4].strip() for step in range(1, 101)]

    async with running(app):
        workflow = await app.dispatch(*[work] * 100, look)
        assert await workflow.result(60) == [str(step) for step in range(1, 101)]
    assert max(sizes) < 16_384
    half = sum(sizes[:50])
    assert sum(sizes) < 2.5 * half


async def test_a_large_output_reaches_the_next_step_and_branches(app, running, sizes):
    """Larger than a message may be; typed as ever, and only by reference on the broker."""

    @app.activity
    def large() -> list[int]:
        return list(range(400_000))

    @app.activity
    async def measure(ctx: ActivityContext, numbers: list[int]) -> int:
        assert ctx.previous == numbers
        return len(numbers)

    @app.activity
    async def again(ctx: ActivityContext, results: list[BranchResult[int]]) -> list[int | None]:
        return [len(ctx.output("large", list[int])), *(one.output for one in results)]

    async with running(app):
        workflow = await app.dispatch(large, scatter(measure, measure), again)
        assert await workflow.result(60) == [400_000] * 3
    assert max(sizes) < app.settings.message_limit


async def test_a_missing_output_fails_the_step_that_asks(app, running):
    """As does one that never was."""

    @app.activity
    def ask(ctx: ActivityContext) -> None:
        ctx.output("nobody")

    async with running(app):
        with pytest.raises(WorkflowFailed, match="no completed step 'nobody'"):
            await (await app.dispatch(ask)).result(20)
